"""Learning rates by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine.duration import Steps
from research.engine.experiment import Optimizer
from research.engine.layer_decay import layer_multipliers
from research.engine.optimizer import make_optimizer
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


BLOCKS = ("block_0", "block_2", "block_10")


def stack(tree):
    """The parameters with those of the blocks stacked."""
    blocks = [tree["transformer"][name] for name in BLOCKS]
    blocks = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
    return {**tree, "transformer": {"blocks": blocks}}


@pytest.mark.parametrize("traced", [False, True])
def test_scanned_layers_learn_as_those_side_by_side(traced):
    shapes = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    params = {"embed": shapes, "transformer": {name: {"up": shapes} for name in BLOCKS}}
    params["head"] = shapes

    def updates(params, decay):
        settings = Optimizer(
            learning_rate=1.0, name="sgd", layer_decay=decay, layers=LAYERS, freeze=("embed/bias",)
        )
        optimizer = make_optimizer(settings, params, Steps(1, 1, 1))
        return optimizer.update(params, optimizer.init(params), params)[0]

    decay = jnp.float32(0.5) if traced else 0.5
    expected, found = stack(updates(params, decay)), updates(stack(params), decay)
    kernels = np.asarray(found["transformer"]["blocks"]["up"]["kernel"])
    np.testing.assert_array_equal(kernels[:, 0, 0], [-0.125, -0.25, -0.5])
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_stack_goes_by_the_names_of_its_layers():
    params = {"transformer": {"blocks": {"up": {"kernel": np.ones((2, 3, 3))}}}}
    with pytest.raises(UserError, match="no pattern matches 'transformer/block_0/up/kernel'"):
        layer_multipliers(0.5, ("transformer/blocks/.*",), params, "optimizer.layers")


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
