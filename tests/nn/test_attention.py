"""Attention: PyTorch's numbers, its masks, its implementations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.attention import MultiHeadAttention, dot_product_attention
from tests.parity import Fixture
from tests.random_variables import random_variables

BATCH, LENGTH, HEADS, HEAD_DIM = 2, 6, 2, 4


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def heads_of(seed, length=LENGTH):
    return normal(seed, BATCH, length, HEADS, HEAD_DIM)


def numpy_attention(query, key, value, visible):
    """The definition, one query at a time, over the keys that `visible` (queries, keys) allows."""
    out = np.zeros(query.shape)
    for b, i, h in np.ndindex(*query.shape[:3]):
        seen = np.flatnonzero(visible[b, i])
        scores = np.asarray(key)[b, seen, h] @ np.asarray(query)[b, i, h] / np.sqrt(HEAD_DIM)
        weights = np.exp(scores) / np.exp(scores).sum()
        out[b, i, h] = weights @ np.asarray(value)[b, seen, h]
    return out


def test_equals_pytorch():
    """torch.nn.MultiheadAttention with its own query, key and value, some keys padded."""
    fixture = Fixture("fixtures/multihead_attention")
    with jax.enable_x64(True):
        layer = MultiHeadAttention(num_heads=4, param_dtype=jnp.float64)
        params = {
            "qkv": {
                "kernel": fixture.param("in_proj_weight").T.reshape(32, 3, 4, 8),
                "bias": fixture.param("in_proj_bias").reshape(3, 4, 8),
            },
            "out": {
                "kernel": fixture.param("out_proj.weight").T.reshape(4, 8, 32),
                "bias": fixture.param("out_proj.bias"),
            },
        }
        output = jax.jit(layer.apply)(
            {"params": params},
            *(jnp.asarray(fixture.input(name)) for name in ("query", "key", "value")),
            key_mask=jnp.asarray(~fixture.input("key_padding_mask")),
        )
        assert output.dtype == jnp.float64
        fixture.assert_equal(output, "output")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_masks(causal, masked):
    query, key, value = heads_of(0), heads_of(1), heads_of(2)
    key_mask = jnp.arange(LENGTH) < jnp.asarray([[LENGTH], [3]]) if masked else None
    visible = np.ones((BATCH, LENGTH, LENGTH), bool)
    if causal:
        visible &= np.tri(LENGTH, dtype=bool)
    if masked:
        visible &= np.asarray(key_mask)[:, None, :]
    attend = jax.jit(functools.partial(dot_product_attention, causal=causal))
    output = attend(query, key, value, key_mask=key_mask)
    expected = numpy_attention(query, key, value, visible)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_self_attention_is_attention_to_itself():
    """The packed product and the three separate ones are the same function."""
    x = normal(0, 2, 5, 8)
    layer = MultiHeadAttention(2, bias_init=nn.initializers.normal(1.0))
    variables = random_variables(layer.init, x)
    # With the keys given it takes the other path, though they are the same.
    packed, separate = jax.jit(layer.apply)(variables, x), jax.jit(layer.apply)(variables, x, x, x)
    np.testing.assert_allclose(packed, separate, rtol=1e-5, atol=1e-5)


def test_a_row_without_keys_is_finite_and_has_finite_gradients():
    def total(query):
        key_mask = jnp.zeros((BATCH, LENGTH), bool)
        return dot_product_attention(query, heads_of(1), heads_of(2), key_mask=key_mask).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(heads_of(0))
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


def test_the_softmax_is_float32_in_bfloat16():
    """Summing 4096 equal weights in bfloat16 would be off by far more than rounding."""
    ones = jnp.ones((1, 4096, 1, 8), jnp.bfloat16)
    output = jax.jit(dot_product_attention)(ones[:, :1], ones, ones)
    assert output.dtype == jnp.bfloat16
    np.testing.assert_allclose(output.astype(jnp.float32), 1.0, rtol=2**-8)

    query, key, value = heads_of(0), heads_of(1), heads_of(2)
    attend = jax.jit(dot_product_attention)
    low = attend(*(x.astype(jnp.bfloat16) for x in (query, key, value)))
    high = attend(query, key, value)
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.03)


def test_dropout():
    x = normal(0, 2, 5, 8)
    layer = MultiHeadAttention(2, dropout_rate=0.5)
    variables = random_variables(layer.init, x)
    without = jax.jit(layer.apply)(variables, x)

    @jax.jit
    def dropped(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return layer.apply(variables, x, deterministic=False, rngs=rngs)

    np.testing.assert_array_equal(dropped(1), dropped(1))
    assert not np.allclose(dropped(1), dropped(2))
    mean = jax.jit(jax.vmap(dropped))(jnp.arange(4000)).mean(0)
    np.testing.assert_allclose(mean, without, atol=0.1)
    never = jax.jit(layer.clone(dropout_rate=0.0).apply)
    np.testing.assert_array_equal(never(variables, x), without)


def test_parameters_and_their_options():
    x = jnp.ones((1, 3, 8))
    layer = MultiHeadAttention(
        num_heads=2,
        head_dim=3,
        use_bias=False,
        kernel_init=nn.initializers.normal(0.02),
        out_kernel_init=nn.initializers.zeros,
    )
    params = jax.jit(layer.init)(jax.random.key(0), x)["params"]
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {"qkv": {"kernel": (8, 3, 2, 3)}, "out": {"kernel": (2, 3, 8)}}
    assert not params["out"]["kernel"].any()
    # Fan-in is of the features, not of the packed shape.
    wide = jax.jit(MultiHeadAttention(num_heads=4).init)(jax.random.key(0), jnp.ones((1, 1, 256)))
    np.testing.assert_allclose(wide["params"]["qkv"]["kernel"].std(), 1 / 16, rtol=0.05)


def test_mistakes_are_named():
    x = jnp.ones((1, 3, 8))
    with pytest.raises(ValueError, match="num_heads=3 must divide the 8 features"):
        MultiHeadAttention(num_heads=3).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="implementation must be"):
        MultiHeadAttention(num_heads=2, implementation="flash").init(jax.random.key(0), x)
