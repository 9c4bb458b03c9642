"""The GPT: its parameters, what each position may see, and the numbers it computes in."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from research.sequence import GPT
from tests.random_variables import random_variables

TINY = GPT(vocab_size=11, block_size=8, num_layers=2, num_heads=2, embed_dim=16)


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(1), (3, 8), 0, 11)


@pytest.fixture(scope="module")
def variables(tokens):
    # Small, as at initialisation, where rounding is small too.
    return jax.tree.map(lambda x: 0.1 * x if x.ndim > 1 else x, random_variables(TINY.init, tokens))


@partial(jax.jit, static_argnums=0, static_argnames="train")
def apply(model, variables, tokens, **options):
    return model.apply(variables, tokens, **options)


def sizes(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    return {k: math.prod(v.shape) for k, v in traverse_util.flatten_dict(shapes["params"]).items()}


@pytest.mark.parametrize("scan_layers", [False, True])
def test_nanogpt_character_model_has_its_published_size(scan_layers):
    model = GPT(
        vocab_size=65,
        block_size=256,
        num_layers=6,
        num_heads=6,
        embed_dim=384,
        use_bias=False,
        scan_layers=scan_layers,
    )
    count = sizes(model)
    # nanoGPT prints "number of parameters: 10.65M", which leaves the positions out.
    assert sum(count.values()) - count["position_embedding", "embedding"] == 10_646_784


def test_gpt2_small_has_its_published_size():
    model = GPT(vocab_size=50257, block_size=1024, num_layers=12, num_heads=12, embed_dim=768)
    assert sum(sizes(model).values()) == 124_439_808


def test_untied_head_is_a_kernel_of_its_own():
    untied = TINY.clone(tie_embeddings=False)
    assert sum(sizes(untied).values()) - sum(sizes(TINY).values()) == 16 * 11


def test_initialisation_is_gpt2s():
    model = GPT(vocab_size=64, block_size=64, num_layers=2, num_heads=2, embed_dim=64)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    for path, value in traverse_util.flatten_dict(params, sep="/").items():
        if path.endswith("scale"):
            assert jnp.all(value == 1), path
        elif path.endswith("bias"):
            assert jnp.all(value == 0), path
        else:
            is_residual = path.endswith(("out/kernel", "down/kernel"))
            expected = 0.02 / math.sqrt(2 * 2) if is_residual else 0.02
            # The standard error of a standard deviation over n draws is 1 / sqrt(2 n) of it.
            assert jnp.std(value) == pytest.approx(expected, rel=5 / math.sqrt(2 * value.size)), (
                path
            )


def test_later_tokens_do_not_change_earlier_logits(variables, tokens):
    logits = apply(TINY, variables, tokens)
    for position in (1, 4, 7):
        changed = tokens.at[:, position].set((tokens[:, position] + 1) % 11)
        others = apply(TINY, variables, changed)
        np.testing.assert_array_equal(others[:, :position], logits[:, :position])
        assert jnp.all(jnp.any(others[:, position:] != logits[:, position:], axis=-1))


def test_shorter_texts_have_the_same_logits(variables, tokens):
    logits = apply(TINY, variables, tokens)
    np.testing.assert_allclose(apply(TINY, variables, tokens[:, :5]), logits[:, :5], atol=1e-6)


def test_refuses_more_tokens_than_a_block(variables):
    with pytest.raises(ValueError, match="9 tokens do not fit block_size=8"):
        apply(TINY, variables, jnp.zeros((1, 9), jnp.int32))


def test_scanned_layers_compute_the_same(variables, tokens):
    params = dict(variables["params"])
    transformer = dict(params["transformer"])
    blocks = [transformer.pop(f"block_{layer}") for layer in range(2)]
    transformer["blocks"] = jax.tree.map(lambda *layers: jnp.stack(layers), *blocks)
    scanned = TINY.clone(scan_layers=True)
    logits = apply(scanned, {"params": {**params, "transformer": transformer}}, tokens)
    np.testing.assert_allclose(logits, apply(TINY, variables, tokens), atol=1e-6)


def test_dropout_is_only_in_training_and_follows_the_key(variables, tokens):
    model = TINY.clone(dropout_rate=0.5)

    def train(seed):
        return apply(model, variables, tokens, train=True, rngs={"dropout": jax.random.key(seed)})

    np.testing.assert_array_equal(apply(model, variables, tokens), apply(TINY, variables, tokens))
    np.testing.assert_array_equal(train(0), train(0))
    assert jnp.any(train(0) != train(1))


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_bfloat16_computes_float32_logits_from_float32_parameters(tokens, tie_embeddings):
    exact = TINY.clone(tie_embeddings=tie_embeddings)
    model = exact.clone(dtype="bfloat16")
    variables = random_variables(model.init, tokens)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, expected = apply(model, variables, tokens), apply(exact, variables, tokens)
    assert logits.dtype == jnp.float32
    assert jnp.any(logits != logits.astype(jnp.bfloat16)), "the logits were rounded to bfloat16"
    assert jnp.any(logits != expected), "nothing was computed in bfloat16"
    np.testing.assert_allclose(logits, expected, atol=0.05 * float(jnp.std(expected)))
