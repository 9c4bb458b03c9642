import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import T5, RecurrentTranslator, TranslationTransformer
from research.sequence.attention_maps import attention_maps, draw_attention
from tests.random_variables import random_variables

SOURCE = jnp.asarray([[3, 4, 5, 0], [6, 7, 0, 0]])
TARGET = jnp.asarray([[1, 8, 9], [1, 8, 0]])
GIVEN = (SOURCE, TARGET, SOURCE > 0, TARGET > 0)
SMALL = {"num_layers": 2, "num_heads": 2, "embed_dim": 16, "mlp_dim": 16}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (TranslationTransformer(11, **SMALL), (2, 2, 2, 3, 4)),
        (T5(11, **SMALL), (2, 2, 2, 3, 4)),
        (RecurrentTranslator(11, 8), (1, 2, 1, 3, 4)),
        (RecurrentTranslator(11, 8, attention="general"), (1, 2, 1, 3, 4)),
    ],
)
def test_maps_are_shares_of_what_is_no_padding(model, shape):
    variables = random_variables(model.init, SOURCE, TARGET)
    maps = attention_maps(model, variables, *GIVEN)
    assert maps.shape == shape, "layers, batch, heads, target, source"
    np.testing.assert_allclose(maps.sum(-1), 1.0, rtol=1e-5)
    assert not maps[:, 0, ..., 3].any() and not maps[:, 1, ..., 2:].any()
    assert (maps[:, :, ..., :2] > 0).all()


def test_scanned_layers_keep_their_order():
    model = TranslationTransformer(11, **SMALL)
    variables = random_variables(model.init, SOURCE, TARGET)
    layers = dict(variables["params"]["layers"])
    for side in ("encoder", "decoder"):
        blocks = [layers[side][f"block_{layer}"] for layer in range(2)]
        layers[side] = {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks)}
    scanned = {"params": {**variables["params"], "layers": layers}}
    expected = attention_maps(model, variables, *GIVEN)
    found = attention_maps(model.clone(scan_layers=True), scanned, *GIVEN)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3, "the layers look at the same"


def test_pictures_leave_padding_out():
    maps = np.arange(24.0).reshape(2, 3, 4)
    drawn = draw_attention(maps, ["a", "b"], [["x", "y"], ["z"]], [["X"], ["Y", "Z"]])
    first, second = drawn.maps
    np.testing.assert_array_equal(first.values, [[0, 1]])
    np.testing.assert_array_equal(second.values, [[12], [16]])
    assert (list(second.row_names), list(second.column_names)) == (["Y", "Z"], ["z"])
