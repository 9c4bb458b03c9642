"""Attention: PyTorch's numbers, its masks, its implementations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.attention import MultiHeadAttention, dot_product_attention
from research.nn.relative_position import relative_position_buckets
from research.nn.rotary import rotate
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


def test_grouped_queries_share_keys_and_values():
    """As if each head of keys and values were there once for each query head of its group."""
    query, key, value = normal(0, 2, 6, 4, 8), normal(1, 2, 6, 2, 8), normal(2, 2, 6, 2, 8)
    repeated = (jnp.repeat(x, 2, axis=2) for x in (key, value))
    np.testing.assert_allclose(
        dot_product_attention(query, key, value, causal=True),
        dot_product_attention(query, *repeated, causal=True),
        atol=1e-6,
    )
    layer = MultiHeadAttention(4, num_kv_heads=2, head_dim=3)
    shapes = jax.tree.map(jnp.shape, random_variables(layer.init, normal(0, 1, 5, 8))["params"])
    assert shapes["query"] == {"kernel": (8, 4, 3), "bias": (4, 3)}
    assert shapes["key_value"] == {"kernel": (8, 2, 2, 3), "bias": (2, 2, 3)}
    with pytest.raises(ValueError, match="num_kv_heads=3 must divide num_heads=4"):
        MultiHeadAttention(4, num_kv_heads=3).init(jax.random.key(0), normal(0, 1, 5, 8))


@pytest.mark.parametrize("causal", [False, True])
def test_window_bias_scale_and_groups_are_those_of_jax(causal):
    """What runs on a GPU, on the same arguments; there by "cudnn"."""
    query, key, value = normal(0, 2, 6, 4, 8), normal(1, 2, 6, 2, 8), normal(2, 2, 6, 2, 8)
    bias = normal(3, 1, 4, 6, 6)
    ours = dot_product_attention(query, key, value, causal=causal, window=3, bias=bias, scale=0.5)
    theirs = jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias=bias,
        scale=0.5,
        is_causal=causal,
        local_window_size=(2, 0 if causal else 2),
        implementation="xla",
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_packed_documents_do_not_see_each_other():
    layer = MultiHeadAttention(2, causal=True, rotary_base=100.0)
    x = normal(0, 1, 7, 8)
    variables = random_variables(layer.init, x)
    segments = jnp.asarray([[0, 0, 0, 1, 1, 1, 1]])
    positions = jnp.asarray([[0, 1, 2, 0, 1, 2, 3]])
    packed = layer.apply(variables, x, segments=segments, positions=positions)
    apart = [layer.apply(variables, part) for part in (x[:, :3], x[:, 3:])]
    np.testing.assert_allclose(packed, jnp.concatenate(apart, 1), atol=1e-5)


def test_rotary_scores_depend_on_distances_only():
    query, key = normal(0, 1, 1, 2, 8), normal(1, 1, 1, 2, 8)

    def scores(query_position, key_position):
        turned = rotate(query, jnp.asarray([[query_position]]))
        return (turned * rotate(key, jnp.asarray([[key_position]]))).sum(-1)

    np.testing.assert_allclose(scores(7, 3), scores(104, 100), atol=1e-4)
    assert not np.allclose(scores(7, 3), scores(7, 4), atol=1e-2)
    np.testing.assert_array_equal(rotate(query, jnp.zeros((1, 1), int)), query)
    with pytest.raises(ValueError, match="even head_dim, got 3"):
        rotate(normal(0, 1, 1, 2, 3), jnp.zeros((1, 1), int))


@pytest.mark.parametrize(
    "settings", [{}, {"num_kv_heads": 1, "rotary_base": 100.0, "window": 3}], ids=["plain", "all"]
)
def test_a_cache_gives_what_the_whole_sequence_does(settings):
    """A prompt that is padded on the left for one of two, then one position after the other."""
    layer = MultiHeadAttention(2, causal=True, **settings)
    x, key_mask = normal(0, 2, 7, 8), jnp.arange(7) >= jnp.asarray([[0], [2]])
    variables = random_variables(layer.init, x)
    positions = jnp.maximum(jnp.cumsum(key_mask, 1) - 1, 0)
    whole = layer.apply(variables, x, key_mask=key_mask, positions=positions)
    _, cache = layer.apply(variables, x, use_cache=True, mutable="cache")
    assert not any(leaf.any() for leaf in jax.tree.leaves(cache))
    for start, end in ((0, 4), (4, 5), (5, 6), (6, 7)):
        part, cache = layer.apply(
            variables | cache,
            x[:, start:end],
            key_mask=key_mask[:, start:end],
            positions=positions[:, start:end],
            use_cache=True,
            mutable="cache",
        )
        seen = np.asarray(key_mask[:, start:end])
        np.testing.assert_allclose(part[seen], whole[:, start:end][seen], atol=1e-5)


def test_weights_can_be_looked_at():
    layer = MultiHeadAttention(2, causal=True)
    x = normal(0, 1, 5, 8)
    variables = random_variables(layer.init, x)
    _, kept = layer.apply(variables, x, mutable=["intermediates"])
    (weights,) = kept["intermediates"]["weights"]
    assert weights.shape == (1, 2, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    assert not np.triu(weights[0, 0], 1).any()


def test_scores_start_alike_whatever_their_scale():
    """T5 does not scale scores, and starts with smaller queries."""
    x = normal(0, 1, 64, 64)

    def spread(scale):
        layer = MultiHeadAttention(2, head_dim=32, scale=scale)
        _, kept = layer.init_with_output(jax.random.key(0), x, mutable=["params", "intermediates"])
        return jnp.log(kept["intermediates"]["weights"][0]).std()

    np.testing.assert_allclose(spread(1.0), spread(None), rtol=1e-3)


def test_buckets_of_relative_positions_are_those_of_t5():
    """Raffel et al. 2020, section 2.1: to 128 places away in 32 buckets, by the formula."""
    distances = jnp.arange(-200, 201)
    both = relative_position_buckets(distances, 32, 128, bidirectional=True)
    behind = relative_position_buckets(distances, 32, 128, bidirectional=False)

    def bucket(distance, count):
        if distance < count // 2:
            return distance
        growth = np.log(distance / (count // 2)) / np.log(128 / (count // 2))
        return min(count // 2 + int(growth * (count - count // 2) + 1e-6), count - 1)

    expected = [bucket(abs(d), 16) + 16 * (d > 0) for d in range(-200, 201)]
    np.testing.assert_array_equal(both, expected)
    np.testing.assert_array_equal(behind, [bucket(max(-d, 0), 32) for d in range(-200, 201)])


def test_what_a_cache_and_rotary_positions_cannot_be_is_refused():
    x = normal(0, 1, 4, 8)

    def shapes(layer, *inputs, **arguments):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs, **arguments))

    with pytest.raises(ValueError, match="use_cache needs causal=True"):
        shapes(MultiHeadAttention(2), x, use_cache=True)
    with pytest.raises(ValueError, match="segments are of packed documents"):
        shapes(MultiHeadAttention(2, causal=True), x, use_cache=True, segments=jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="rotary_base is of self-attention"):
        shapes(MultiHeadAttention(2, rotary_base=100.0), x, x)
