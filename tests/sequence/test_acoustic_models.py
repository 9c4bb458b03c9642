"""Models of spectrograms: padding, what is pooled, and what a Conformer's parts do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.transformer import unscanned
from research.sequence import AcousticEncoder, Conformer
from research.sequence.conformer import ConformerConvolution
from tests.random_variables import random_variables

GENERATOR = np.random.default_rng(0)
INPUTS = jnp.asarray(GENERATOR.normal(size=(3, 21, 7)), jnp.float32)
LENGTHS = (21, 6, 12)
MASK = jnp.arange(21) < jnp.asarray(LENGTHS)[:, None]
CONFORMER = Conformer(
    num_classes=4,
    stem_channels=3,
    num_layers=1,
    num_heads=2,
    embed_dim=8,
    mlp_dim=12,
    kernel_size=3,
)
MODELS = {
    "recurrent": AcousticEncoder(num_classes=4, hidden_dim=6, num_layers=1, stem_channels=3),
    "conformer": CONFORMER,
    "conformer with layer norm": CONFORMER.clone(conv_norm="layer"),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_padding_changes_nothing(model, pooling):
    model = model.clone(pooling=pooling)
    variables = random_variables(model.init, INPUTS)
    apply = jax.jit(lambda x, mask: model.apply(variables, x, mask=mask))
    outputs = apply(jnp.where(MASK[..., None], INPUTS, 99.0), MASK)
    assert outputs.dtype == jnp.float32
    for i, length in enumerate(LENGTHS):
        alone = apply(INPUTS[i : i + 1, :length], None)[0]
        if pooling:
            np.testing.assert_allclose(outputs[i], alone, atol=1e-5)
            continue
        inside = model.output_mask(MASK)[i]
        assert alone.shape == (inside.sum(), 4) == (-(-length // 4), 4)
        np.testing.assert_allclose(outputs[i][inside], alone, atol=1e-5)


def test_padding_changes_no_gradient(model):
    # Batch statistics, too, are of what is no padding.
    model = model.clone(dropout_rate=0.0)
    variables = random_variables(model.init, INPUTS)
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    @jax.jit
    def gradient(inputs, mask):
        def loss(params):
            outputs, changed = model.apply(
                {"params": params, **rest},
                inputs,
                train=True,
                mask=mask,
                mutable=list(rest),
            )
            kept = model.output_mask(mask)[..., None]
            return (jnp.where(kept, outputs, 0) ** 2).sum(), changed

        return jax.grad(loss, has_aux=True)(params)

    plain = gradient(INPUTS, MASK)
    more = jnp.pad(INPUTS, ((0, 0), (0, 8), (0, 0)), constant_values=3.0)
    more = jnp.where(jnp.pad(MASK, ((0, 0), (0, 8)))[..., None], more, -50.0)
    padded = gradient(more, jnp.pad(MASK, ((0, 0), (0, 8))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, padded)


def test_without_classes_there_are_features(model):
    pooled = model.clone(pooling="mean")
    variables = random_variables(pooled.init, INPUTS)
    features = pooled.clone(num_classes=None).apply(variables, INPUTS, mask=MASK)
    head = variables["params"]["head"]
    logits = pooled.apply(variables, INPUTS, mask=MASK)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)


def test_dropout_is_in_training_only(model):
    model = model.clone(dropout_rate=0.5)
    variables = random_variables(model.init, INPUTS)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, INPUTS, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    assert not np.allclose(train(0), train(1))
    np.testing.assert_array_equal(model.apply(variables, INPUTS), model.apply(variables, INPUTS))


@pytest.mark.parametrize(("scan_layers", "remat"), [(True, False), (False, True), (True, True)])
def test_scan_and_remat_of_a_conformer_change_nothing(scan_layers, remat):
    other = CONFORMER.clone(num_layers=2, dropout_rate=0.0, scan_layers=scan_layers, remat=remat)
    variables = random_variables(other.init, INPUTS)
    layers = {"blocks"} if scan_layers else {"block_0", "block_1"}
    assert layers < variables["params"].keys()
    assert variables["batch_stats"].keys() == layers
    plain, converted = unscanned(other, variables)

    def trained(model, variables):
        """The gradient, what the model gives, and the statistics after it."""

        def loss(params):
            given = {**variables, "params": params}
            outputs, changed = model.apply(
                given, INPUTS, train=True, mask=MASK, mutable=["batch_stats"]
            )
            return (outputs**2).sum(), (outputs, changed)

        grads, aux = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        return (grads, *aux)

    grads, outputs, changed = trained(other, variables)
    _, found = unscanned(other, {"params": grads, **changed})
    grads, expected, changed = trained(plain.clone(remat=False), converted)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(found, {"params": grads, **changed}, rtol=1e-4, atol=1e-4)


def test_the_convolution_module_is_as_drawn():
    x, mask = INPUTS[:, :, :4], MASK
    module = ConformerConvolution(5)
    variables = random_variables(module.init, x, mask)
    params, stats = variables["params"], variables["batch_stats"]["norm"]
    up = x @ params["up"]["kernel"] + params["up"]["bias"]
    gated = np.where(mask[..., None], up[..., :4] * jax.nn.sigmoid(up[..., 4:]), 0)
    beyond = np.pad(gated, ((0, 0), (2, 2), (0, 0)))
    kernel = params["depthwise"]["kernel"][:, 0]
    y = sum(beyond[:, tap : tap + 21] * kernel[tap] for tap in range(5))
    y = y + params["depthwise"]["bias"] - stats["mean"]
    y = y / np.sqrt(stats["var"] + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    y = jax.nn.silu(y) @ params["down"]["kernel"] + params["down"]["bias"]
    np.testing.assert_allclose(module.apply(variables, x, mask), y, atol=1e-5)
    with pytest.raises(ValueError, match='must be "batch" or "layer", got \'group\''):
        ConformerConvolution(5, "group").init(jax.random.key(0), x, mask)


def test_positions_are_relative():
    # Silence before what is said only moves what is heard, where nothing is normalised over time.
    model = CONFORMER
    variables = random_variables(model.init, INPUTS)
    moved = jnp.pad(INPUTS, ((0, 0), (8, 0), (0, 0)))
    mask = jnp.arange(29) >= 8
    plain = model.apply(variables, INPUTS)
    late = model.apply(variables, moved, mask=jnp.broadcast_to(mask, (3, 29)))
    np.testing.assert_allclose(late[:, 2:], plain, atol=1e-4)


def test_variables_have_the_dtypes_asked_for():
    model = CONFORMER.clone(dtype="bfloat16")
    variables = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    outputs = jax.eval_shape(model.apply, variables, INPUTS)
    assert outputs.dtype == jnp.float32
