"""The CPU formulations of convolutions are Flax's layers: parameters, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.convolution import Conv, ConvTranspose

CONV = {
    "plain": {"features": 6, "kernel_size": (3, 3)},
    "one axis, dilated": {"features": 6, "kernel_size": (3,), "kernel_dilation": 2, "padding": 2},
    "depthwise": {"features": 4, "kernel_size": (3, 3), "feature_group_count": 4},
    "depthwise 5x5, stride 2, torch padding": {
        "features": 4,
        "kernel_size": (5, 5),
        "feature_group_count": 4,
        "strides": 2,
        "padding": 2,
    },
    "depthwise, dilated, two a channel": {
        "features": 8,
        "kernel_size": (3, 2),
        "feature_group_count": 4,
        "kernel_dilation": (2, 1),
    },
    "depthwise, uneven pads, no bias": {
        "features": 4,
        "kernel_size": (3, 3),
        "feature_group_count": 4,
        "strides": (2, 1),
        "padding": ((0, 1), (2, 0)),
        "use_bias": False,
    },
    "groups": {
        "features": 6,
        "kernel_size": (3, 3),
        "feature_group_count": 2,
        "strides": 2,
        "padding": 1,
    },
    "larger than the maps": {"features": 5, "kernel_size": (9, 3), "strides": (2, 1)},
    "groups, 1x1": {"features": 2, "kernel_size": (1, 1), "feature_group_count": 2},
    "1x1": {"features": 5, "kernel_size": (1, 1)},
    "1x1, strided, padded": {
        "features": 3,
        "kernel_size": (1, 1),
        "strides": (2, 3),
        "padding": ((0, 1), (2, 0)),
        "use_bias": False,
    },
}

TRANSPOSE = {
    "4x4 stride 2": {"kernel_size": (4, 4), "strides": (2, 2)},
    "4x4 stride 2, VALID": {"kernel_size": (4, 4), "strides": (2, 2), "padding": "VALID"},
    "2x2 stride 2": {"kernel_size": (2, 2), "strides": (2, 2)},
    "3x3 stride 2": {"kernel_size": (3, 3), "strides": (2, 2)},
    "kernel smaller than stride": {"kernel_size": (2, 1), "strides": (3, 2), "padding": "VALID"},
    "5x4 stride 3x2, uneven pads": {
        "kernel_size": (5, 4),
        "strides": (3, 2),
        "padding": ((1, 3), (0, 2)),
        "use_bias": False,
    },
    "transposed kernel": {"kernel_size": (4, 3), "strides": (2, 2), "transpose_kernel": True},
    "stride 1": {"kernel_size": (4, 4), "strides": (1, 1), "padding": "VALID"},
    "one axis": {"kernel_size": (4,), "strides": (2,)},
}


def assert_equals_flax(ours, flax_layer, space, dtype, rtol, atol):
    """Same parameters; same value, input gradient and parameter gradients."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *space, 4)), dtype)
    shapes = jax.eval_shape(flax_layer.init, jax.random.key(0), x)
    assert jax.eval_shape(ours.init, jax.random.key(0), x) == shapes
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), shapes)

    def value_and_gradients(layer):
        shape = jax.eval_shape(layer.apply, variables, x).shape
        cotangent = jnp.asarray(np.random.default_rng(1).normal(size=shape), dtype)

        @jax.jit
        def both(variables, x):
            y, vjp = jax.vjp(layer.apply, variables, x)
            return y, vjp(cotangent)

        return both(variables, x)

    expected, got = value_and_gradients(flax_layer), value_and_gradients(ours)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), got, expected)


def space_of(arguments):
    return (7, 6)[: len(arguments["kernel_size"])]


def test_initialisation_is_flax():
    x, key = jnp.ones((1, 4, 4, 4)), jax.random.key(0)
    for ours, flax_layer in (
        (Conv(4, (3, 3)), nn.Conv(4, (3, 3))),
        (ConvTranspose(4, (3, 3), strides=2), nn.ConvTranspose(4, (3, 3), strides=(2, 2))),
    ):
        got, expected = jax.jit(ours.init)(key, x), jax.jit(flax_layer.init)(key, x)
        jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("case", CONV)
def test_convolution_equals_flax(case):
    arguments = CONV[case]
    ours = Conv(**arguments, implementation="fast")
    assert_equals_flax(ours, nn.Conv(**arguments), space_of(arguments), jnp.float32, 1e-5, 1e-5)


@pytest.mark.parametrize("case", TRANSPOSE)
def test_transposed_convolution_equals_flax(case):
    arguments = {"features": 3, **TRANSPOSE[case]}
    ours = ConvTranspose(**arguments, implementation="fast")
    flax_layer = nn.ConvTranspose(**arguments)
    assert_equals_flax(ours, flax_layer, space_of(arguments), jnp.float32, 1e-5, 1e-5)


def test_float64():
    with jax.enable_x64(True):
        for name in ("depthwise 5x5, stride 2, torch padding", "groups"):
            arguments = {**CONV[name], "param_dtype": jnp.float64}
            ours, flax_layer = Conv(**arguments, implementation="fast"), nn.Conv(**arguments)
            assert_equals_flax(ours, flax_layer, (7, 6), jnp.float64, 1e-12, 1e-13)
        arguments = {"features": 3, **TRANSPOSE["4x4 stride 2"], "param_dtype": jnp.float64}
        ours = ConvTranspose(**arguments, implementation="fast")
        flax_layer = nn.ConvTranspose(**arguments)
        assert_equals_flax(ours, flax_layer, (7, 6), jnp.float64, 1e-12, 1e-13)


@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_plain_is_flax(layer):
    arguments = {
        "features": 4,
        "kernel_size": (4, 4),
        "strides": (2, 2),
        "padding": ((1, 2), (2, 2)),
    }
    flax_layer = {Conv: nn.Conv, ConvTranspose: nn.ConvTranspose}[layer](**arguments)
    ours = layer(**arguments, implementation="plain")
    assert_equals_flax(ours, flax_layer, (7, 6), jnp.float32, 0, 0)


@pytest.mark.parametrize("implementation", ["fast", "plain"])
@pytest.mark.parametrize("torch_padding", [0, 1, 2])
def test_padding_of_pytorch(implementation, torch_padding):
    """PyTorch's definition: every input adds its kernel to the output, which is then cropped."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 3, 2)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, 2, 3)).astype(np.float32)
    expected = np.zeros((1, 8, 8, 3), np.float32)
    for i in range(3):
        for j in range(3):
            added = np.einsum("nc,hwco->nhwo", x[:, i, j], kernel)
            expected[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += added
    end = 8 - torch_padding
    expected = expected[:, torch_padding:end, torch_padding:end]
    layer = ConvTranspose(
        features=3,
        kernel_size=(4, 4),
        strides=2,
        padding=4 - 1 - torch_padding,
        use_bias=False,
        implementation=implementation,
    )
    y = jax.jit(layer.apply)({"params": {"kernel": kernel[::-1, ::-1]}}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_any_number_of_batch_axes():
    layer = Conv(4, (3, 3), feature_group_count=4, implementation="fast")
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 5, 4))
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    one = jax.jit(layer.apply)(variables, x[1, 2])
    np.testing.assert_allclose(y[1, 2], one, rtol=1e-5, atol=1e-6)


def test_bfloat16_computes_in_bfloat16():
    x = jnp.ones((1, 4, 4, 2))
    for layer in (Conv(2, (3, 3), feature_group_count=2), ConvTranspose(2, (4, 4), strides=2)):
        init = jax.jit(layer.clone(dtype=jnp.bfloat16).init_with_output)
        y, variables = init(jax.random.key(0), x)
        assert y.dtype == jnp.bfloat16
        assert variables["params"]["kernel"].dtype == jnp.float32


def test_mistakes_are_named():
    x, key = jnp.ones((1, 4, 4, 3)), jax.random.key(0)
    with pytest.raises(ValueError, match="feature_group_count=2 must divide both the 3 channels"):
        Conv(4, (3, 3), feature_group_count=2).init(key, x)
    with pytest.raises(ValueError, match="one entry for each of 2 axes"):
        Conv(4, (3, 3), padding=(1, 1, 1)).init(key, x)
    with pytest.raises(ValueError, match="padding must be"):
        ConvTranspose(4, (3, 3), padding="CIRCULAR").init(key, x)
