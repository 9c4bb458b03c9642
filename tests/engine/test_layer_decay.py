"""Learning rates by layer."""

import numpy as np
import pytest

from research.engine.layer_decay import layer_multipliers
from research.errors import UserError

PARAMS = {
    "embed": {"kernel": 0},
    "transformer": {
        "block_0": {"up": {"kernel": 0, "bias": 0}},
        "block_2": {"up": {"kernel": 0}},
        "block_10": {"up": {"kernel": 0}},
    },
    "head": {"kernel": 0},
}
LAYERS = ("embed/.*", r"transformer/block_(\d+)/.*", "head/.*")


def test_every_layer_below_is_decayed_once_more():
    found = layer_multipliers(0.5, LAYERS, PARAMS, "optimizer.layers")
    assert found["head"]["kernel"] == 1
    assert found["transformer"]["block_10"]["up"]["kernel"] == 0.5
    assert found["transformer"]["block_2"]["up"]["kernel"] == 0.25
    assert found["transformer"]["block_0"]["up"] == {"kernel": 0.125, "bias": 0.125}
    assert found["embed"]["kernel"] == 0.0625
    np.testing.assert_allclose(
        layer_multipliers(np.float32(0.5), LAYERS, PARAMS, "")["embed"]["kernel"], 0.0625
    )


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (LAYERS[:2], "optimizer.layers: no pattern matches 'head/kernel'"),
        ((*LAYERS, "tail/.*"), "optimizer.layers: 'tail/.*' matches no parameter"),
        (("(",), "optimizer.layers: '\\(' is no regular expression"),
    ],
)
def test_layers_must_be_all_and_no_others(layers, told):
    with pytest.raises(UserError, match=told):
        layer_multipliers(0.5, layers, PARAMS, "optimizer.layers")
