"""The temporal convolutional network."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from research.sequence.tcn import TCN, CausalConv
from tests.random_variables import random_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 20, 3)), jnp.float32)


def test_a_causal_convolution_is_xlas_with_its_kernel_normalised():
    layer = CausalConv(4, 3, dilation=2)
    variables = random_variables(layer.init, X)
    params = variables["params"]
    norms = np.sqrt((params["direction"] ** 2).sum((0, 1)))
    expected = lax.conv_general_dilated(
        X,
        params["direction"] * (params["scale"] / norms),
        (1,),
        [(4, 0)],
        rhs_dilation=(2,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    np.testing.assert_allclose(layer.apply(variables, X), expected + params["bias"], atol=1e-5)
    start = layer.init(jax.random.key(0), X)["params"]
    np.testing.assert_allclose(
        start["scale"], np.sqrt((start["direction"] ** 2).sum((0, 1))), rtol=1e-6
    )


def test_each_position_sees_itself_and_as_many_before_it_as_dilation_reaches():
    model = TCN((32, 32), 3, out_features=2)
    variables = random_variables(model.init, X)
    jacobian = jax.jacobian(lambda x: model.apply(variables, x[None])[0].sum(-1))(X[0])
    seen = np.abs(jacobian).sum(-1) > 0
    # Twice two places in the first block, twice four in the second.
    distance = np.subtract.outer(np.arange(20), np.arange(20))
    np.testing.assert_array_equal(seen, (distance >= 0) & (distance <= 12))


def test_dropout_is_of_whole_features():
    model = TCN((64,), 2, dropout_rate=0.5)
    variables = random_variables(model.init, jnp.ones((1, 9, 3)))
    variables["params"]["block_0_shortcut"] = jax.tree.map(
        jnp.zeros_like, variables["params"]["block_0_shortcut"]
    )
    rngs = {"dropout": jax.random.key(0)}
    dropped = model.apply(variables, jnp.ones((1, 9, 3)), train=True, rngs=rngs)[0]
    alive = model.apply(variables, jnp.ones((1, 9, 3)))[0] > 0
    gone = (dropped == 0).all(0) & alive.any(0)
    assert 0.2 < gone.mean() / alive.any(0).mean() < 0.8


def test_input_dropout_is_of_single_inputs():
    model = TCN((), 2, input_dropout_rate=0.5, dropout_rate=0.0)
    ones = jnp.ones((4, 50, 8))
    dropped = model.apply({}, ones, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0, 2}
    assert 0.4 < (dropped == 0).mean() < 0.6
    assert (dropped != dropped[:, :1]).any(), "not of whole features"
    np.testing.assert_array_equal(model.apply({}, ones), ones)
