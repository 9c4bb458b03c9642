"""The transformer: the same function scanned and rematerialised, and what each position sees."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.mlp import MLP
from research.nn.transformer import Transformer
from tests.random_variables import random_variables

TINY = {"num_layers": 3, "num_heads": 2, "mlp_dim": 16}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def value_and_gradient(params, **options):
    x, key_mask = normal(0, 2, 5, 8), jnp.arange(5) < jnp.asarray([[5], [3]])
    model = Transformer(**TINY, causal=True, **options)

    def loss(params, x):
        return (model.apply({"params": params}, x, key_mask=key_mask) ** 3).mean()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


@pytest.fixture(scope="module")
def plain():
    """Parameters of separate layers; value and gradient there."""
    params = random_variables(Transformer(**TINY).init, normal(0, 2, 5, 8))["params"]
    return params, value_and_gradient(params)


@pytest.mark.parametrize(("scan_layers", "remat"), [(True, False), (False, True), (True, True)])
def test_scan_and_remat_change_nothing(plain, scan_layers, remat):
    """Value and gradient of the plain stack, its parameters stacked for the scan."""

    def stack(params):
        blocks = [params[f"block_{i}"] for i in range(TINY["num_layers"])]
        return {"blocks": jax.tree.map(lambda *a: np.stack(a), *blocks), "norm": params["norm"]}

    params, (expected_value, (expected, expected_x)) = plain
    layout = stack if scan_layers else (lambda params: params)
    value, (got, got_x) = value_and_gradient(layout(params), scan_layers=scan_layers, remat=remat)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        (got, got_x),
        (layout(expected), expected_x),
    )


@pytest.mark.parametrize("scan_layers", [False, True])
def test_batch_norm_has_statistics_in_every_layer(scan_layers):
    """Those of the batch in training, which move the running ones that evaluation takes."""
    x = 10 * normal(0, 4, 5, 8) + 3
    model = Transformer(**TINY, norm="batch", norm_first=False, scan_layers=scan_layers, remat=True)
    rngs = {"dropout": jax.random.key(0)}
    variables = random_variables(model.init, x)
    layers = {"blocks"} if scan_layers else {"block_0", "block_1", "block_2"}
    assert set(variables["batch_stats"]) == {*layers, "norm"}

    @jax.jit
    def train(variables):
        return model.apply(variables, x, deterministic=False, mutable=["batch_stats"], rngs=rngs)

    y, moved = train(variables)
    norm = variables["params"]["norm"]
    np.testing.assert_allclose(y.mean((0, 1)), norm["bias"], atol=1e-4)
    np.testing.assert_allclose(y.std((0, 1)), norm["scale"], rtol=1e-3)
    for leaf, before in zip(
        jax.tree.leaves(moved["batch_stats"]),
        jax.tree.leaves(variables["batch_stats"]),
        strict=True,
    ):
        assert (leaf != before).all()
    first = model.apply({**variables, **moved}, x[:1])
    np.testing.assert_allclose(first, model.apply({**variables, **moved}, x)[:1], rtol=1e-4)


def test_scanned_layers_start_different_and_drop_different():
    x = jnp.broadcast_to(normal(0, 1, 1, 8), (1, 4, 8))
    model = Transformer(**TINY, scan_layers=True, remat=True, dropout_rate=0.5)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    kernel = variables["params"]["blocks"]["mlp"]["up"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])

    # With every layer the same and zero branches but a constant, dropout alone moves x.
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["blocks"]["mlp"]["down"]["bias"] = jnp.ones_like(params["blocks"]["mlp"]["down"]["bias"])
    params["norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    rngs = {"dropout": jax.random.key(1)}

    @jax.jit
    def added(params):
        dropped = model.apply({"params": params}, x, deterministic=False, rngs=rngs)
        return dropped - model.apply({"params": params}, x)

    # Each layer adds 0 or 2: the sums take more than the two values one shared mask would give.
    assert len(np.unique(np.round(added(params), 3))) > 2


def test_causal_blocks_look_back_only():
    x = normal(0, 1, 6, 8)
    model = Transformer(**TINY, causal=True)
    variables = random_variables(model.init, x)
    apply = jax.jit(model.apply)
    changed, same = apply(variables, x.at[:, 4].add(1.0)), apply(variables, x)
    np.testing.assert_allclose(changed[:, :4], same[:, :4], rtol=1e-6, atol=1e-6)
    assert not np.allclose(changed[:, 4:], same[:, 4:])


def test_masked_positions_do_not_reach_the_others():
    x, key_mask = normal(0, 1, 6, 8), jnp.arange(6)[None] < 4
    model = Transformer(**TINY)
    variables = random_variables(model.init, x)
    apply = jax.jit(model.apply)
    masked, shorter = apply(variables, x, key_mask=key_mask), apply(variables, x[:, :4])
    np.testing.assert_allclose(masked[:, :4], shorter, rtol=1e-5, atol=1e-5)


def test_initialisation_of_gpt2_can_be_asked_for():
    model = Transformer(
        num_layers=2,
        num_heads=4,
        mlp_dim=256,
        kernel_init=nn.initializers.normal(0.02),
        out_kernel_init=nn.initializers.normal(0.02 / 2),
        use_bias=False,
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 2, 64)))["params"]
    block = params["block_0"]
    for kernel, std in [
        (block["attention"]["qkv"], 0.02),
        (block["attention"]["out"], 0.01),
        (block["mlp"]["up"], 0.02),
        (block["mlp"]["down"], 0.01),
    ]:
        np.testing.assert_allclose(kernel["kernel"].std(), std, rtol=0.1)
    assert not [p for p, _ in jax.tree_util.tree_leaves_with_path(params) if "bias" in str(p)]


def test_bfloat16_keeps_float32_parameters():
    model = Transformer(**TINY, dtype=jnp.bfloat16)
    init = jax.jit(model.init_with_output)
    y, variables = init(jax.random.key(0), normal(0, 1, 4, 8))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", [0.0, 1.0]),
        ("silu", [-1 / (1 + np.e), 1 / (1 + np.exp(-1))]),
        ("gelu", [-0.158655, 0.841345]),
        ("gelu_tanh", [-0.158808, 0.841192]),
    ],
)
def test_activations(activation, expected):
    """An MLP of identities is its activation."""
    identity = {"kernel": jnp.eye(2)}
    mlp = MLP(hidden_dim=2, activation=activation, use_bias=False)
    y = mlp.apply({"params": {"up": identity, "down": identity}}, jnp.asarray([-1.0, 1.0]))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match=r"activation must be one of .* got 'swish'"):
        MLP(hidden_dim=2, activation="swish").init(jax.random.key(0), jnp.ones(2))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_row_of_an_mlp_is_as_one_of_many(dtype):
    # Long enough for the product that writing tokens needs.
    mlp = MLP(hidden_dim=1024, dtype=dtype)
    x = jax.random.normal(jax.random.key(0), (3, 8))
    params = random_variables(mlp.init, x)
    together = mlp.apply(params, x)
    alone = jnp.concatenate([mlp.apply(params, row[None]) for row in x])
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(alone, together, atol=tolerance * float(jnp.abs(together).max()))
    gradient = jax.grad(lambda x: mlp.apply(params, x).sum())
    np.testing.assert_allclose(
        gradient(x[:1]),
        gradient(x)[:1],
        atol=tolerance * float(jnp.abs(gradient(x)).max()),
    )


def test_cross_attention_and_a_memory_come_together():
    x = normal(0, 1, 4, 8)
    with pytest.raises(ValueError, match="cross_attention=True, but there is no memory"):
        Transformer(**TINY, cross_attention=True).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="cross_attention=False, but there is a memory"):
        Transformer(**TINY).init(jax.random.key(0), x, memory=x)


def test_post_norm_normalises_what_leaves_a_block():
    """And pre-norm what enters; with an rms norm means stay, and gated MLPs have a third kernel."""
    x = 10 * normal(0, 2, 5, 8) + 3
    post = Transformer(**TINY, norm_first=False, final_norm=False)
    y, variables = jax.jit(post.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-3)
    assert set(variables["params"]) == {"block_0", "block_1", "block_2"}
    rms = Transformer(**TINY, norm="rms", gated=True, use_bias=False, final_norm=True)
    y, variables = jax.jit(rms.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose((y**2).mean(-1), 1, rtol=1e-3)
    assert np.abs(y.mean(-1)).max() > 0.1
    assert set(variables["params"]["block_0"]["mlp"]) == {"gate", "up", "down"}
    assert set(variables["params"]["norm"]) == {"scale"}
