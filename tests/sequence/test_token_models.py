"""What all models of tokens promise: no look ahead, packing, a cache that changes
nothing, layers scanned or side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import (
    BERT,
    GPT,
    T5,
    Llama,
    RecurrentLanguageModel,
    RecurrentTranslator,
    TranslationTransformer,
)
from tests.random_variables import random_variables

SHAPE = {"num_layers": 2, "num_heads": 4, "embed_dim": 16}
DECODERS = {
    "GPT": GPT(11, 12, **SHAPE),
    "GPT scanned": GPT(11, 12, **SHAPE, scan_layers=True, remat=True),
    "Llama": Llama(11, 12, **SHAPE, mlp_dim=24, num_kv_heads=2, window=4),
    "Llama scanned": Llama(11, 12, **SHAPE, mlp_dim=24, tie_embeddings=True, scan_layers=True),
}
RECURRENT = {
    "tanh": RecurrentLanguageModel(11, 16, cell="rnn", num_layers=1),
    "LSTM": RecurrentLanguageModel(11, 16),
    "GRU": RecurrentLanguageModel(11, 16, cell="gru", tie_embeddings=True),
}
TRANSLATORS = {
    "T5": T5(11, **SHAPE, head_dim=4, mlp_dim=24, num_buckets=8, max_distance=6),
    "Transformer": TranslationTransformer(11, **SHAPE, mlp_dim=24),
    "Transformer, pre-norm": TranslationTransformer(
        11,
        **SHAPE,
        mlp_dim=24,
        norm_first=True,
        share_embeddings=False,
        target_vocab_size=11,
        positions="learned",
    ),
    "Bahdanau": RecurrentTranslator(11, 16, bidirectional=True),
    "Luong": RecurrentTranslator(11, 16, attention="general"),
    "Luong, dot": RecurrentTranslator(11, 16, attention="dot"),
}
TRANSLATORS |= {
    f"{name} scanned": TRANSLATORS[name].clone(scan_layers=True) for name in ("T5", "Transformer")
}
ENCODER = BERT(11, 12, **SHAPE, mlp_dim=24)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 10)))


@pytest.mark.parametrize("name", [*DECODERS, *RECURRENT])
def test_a_later_token_never_changes_an_earlier_output(name):
    model = (DECODERS | RECURRENT)[name]
    variables = random_variables(model.init, TOKENS)
    apply = jax.jit(model.apply)
    before, after = apply(variables, TOKENS), apply(variables, TOKENS.at[:, 6].add(1) % 11)
    np.testing.assert_allclose(after[:, :6], before[:, :6], atol=1e-6)
    assert np.abs(after[:, 6] - before[:, 6]).max() > 1e-3


@pytest.mark.parametrize("name", [*DECODERS, *RECURRENT])
def test_a_cache_gives_the_logits_of_the_whole_sequence(name):
    """Also of a prompt that is padded on the left."""
    model = (DECODERS | RECURRENT)[name]
    variables = random_variables(model.init, TOKENS)
    key_mask = jnp.arange(10) >= jnp.asarray([[0], [3]])
    positions = jnp.maximum(jnp.cumsum(key_mask, 1) - 1, 0)
    whole = model.apply(variables, TOKENS, key_mask=key_mask, positions=positions)
    alone = model.apply(variables, TOKENS[1:, 3:])
    np.testing.assert_allclose(whole[1:, 3:], alone, atol=1e-5)
    cached(model.apply, variables, whole, key_mask=key_mask, positions=positions)


@pytest.mark.parametrize("name", DECODERS)
def test_packed_documents_are_as_each_alone(name):
    model = DECODERS[name]
    variables = random_variables(model.init, TOKENS)
    row = TOKENS.reshape(1, -1)[:, :12]
    packed = model.apply(
        variables,
        row,
        segments=jnp.repeat(jnp.arange(3), 4)[None],
        positions=jnp.tile(jnp.arange(4), 3)[None],
    )
    apart = model.apply(variables, row.reshape(3, 4))
    np.testing.assert_allclose(packed.reshape(3, 4, 11), apart, atol=1e-5)


def test_padding_and_packing_of_bert():
    variables = random_variables(ENCODER.init, TOKENS)
    key_mask = jnp.arange(10) < jnp.asarray([[10], [6]])
    masked = ENCODER.apply(variables, TOKENS, key_mask=key_mask)
    alone = ENCODER.apply(variables, TOKENS[1:, :6])
    np.testing.assert_allclose(masked[1:, :6], alone, atol=1e-5)
    packed = ENCODER.apply(
        variables,
        TOKENS[:1],
        segments=jnp.asarray([[0] * 4 + [1] * 6]),
        positions=jnp.asarray([[*range(4), *range(6)]]),
    )
    apart = [ENCODER.apply(variables, part) for part in (TOKENS[:1, :4], TOKENS[:1, 4:])]
    np.testing.assert_allclose(packed, jnp.concatenate(apart, 1), atol=1e-5)


def test_heads_of_bert():
    model = ENCODER.clone(pooler=True, num_classes=3)
    variables = random_variables(model.init, TOKENS)
    shapes = {
        name: x.shape for name, x in model.apply(variables, TOKENS, method="features").items()
    }
    assert shapes == {
        "tokens": (2, 10, 16),
        "pooled": (2, 16),
        "token_logits": (2, 10, 11),
        "class_logits": (2, 3),
    }
    assert model.apply(variables, TOKENS).shape == (2, 3)
    with pytest.raises(ValueError, match="num_classes=3 of BERT needs pooler=True"):
        ENCODER.clone(num_classes=3)


def test_masked_head_of_bert_at_some_positions():
    variables = random_variables(ENCODER.init, TOKENS)
    positions = jnp.asarray([[3, 0, 9], [5, 5, 1]])
    found = ENCODER.apply(variables, TOKENS, masked_positions=positions)
    everywhere = ENCODER.apply(variables, TOKENS)
    np.testing.assert_allclose(found, everywhere[jnp.arange(2)[:, None], positions], atol=1e-6)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_translators_with_a_cache_and_padded_sources(name):
    model = TRANSLATORS[name]
    variables = random_variables(model.init, TOKENS, TOKENS)
    source_mask = jnp.arange(10) < jnp.asarray([[10], [6]])
    whole = model.apply(variables, TOKENS, TOKENS, source_mask=source_mask)
    alone = model.apply(variables, TOKENS[1:, :6], TOKENS[1:])
    np.testing.assert_allclose(whole[1:], alone, atol=1e-5)
    changed = model.apply(variables, TOKENS, TOKENS.at[:, 6].add(1) % 11, source_mask=source_mask)
    np.testing.assert_allclose(changed[:, :6], whole[:, :6], atol=1e-5)

    memory = model.apply(variables, TOKENS, source_mask=source_mask, method="encode")

    def decode(variables, tokens, **arguments):
        return model.apply(
            variables, tokens, memory, source_mask=source_mask, method="decode", **arguments
        )

    cached(decode, variables, whole, positions=jnp.arange(10)[None])


def cached(apply, variables, whole, **arguments):
    """Compares a prompt of five tokens and one token after the other, all from a cache."""
    _, cache = apply(variables, TOKENS, use_cache=True, mutable=["cache"])
    apply = jax.jit(apply, static_argnames=("use_cache", "mutable"))
    for start, end in ((0, 5), *((i, i + 1) for i in range(5, 10))):
        logits, cache = apply(
            variables | cache,
            TOKENS[:, start:end],
            **{name: x[:, start:end] for name, x in arguments.items()},
            use_cache=True,
            mutable=("cache",),
        )
        seen = np.asarray(arguments.get("key_mask", jnp.ones((2, 10), bool)))[:, start:end]
        np.testing.assert_allclose(logits[seen], whole[:, start:end][seen], atol=1e-5)


@pytest.mark.parametrize("model", [DECODERS["GPT"], DECODERS["Llama"], ENCODER])
def test_too_many_tokens_are_refused(model):
    with pytest.raises(ValueError, match="13 tokens do not fit block_size=12"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 13), int))


def test_luongs_dot_product_needs_states_of_one_width():
    with pytest.raises(
        ValueError, match=r'attention="dot" .* needs bidirectional=False: .*general'
    ):
        RecurrentTranslator(11, 16, attention="dot", bidirectional=True)
    found = RecurrentTranslator(11, 16, attention="general", bidirectional=True)
    source, target = TOKENS, TOKENS[:, :4]
    variables = random_variables(found.init, source, target)
    assert found.apply(variables, source, target).shape == (2, 4, 11)
