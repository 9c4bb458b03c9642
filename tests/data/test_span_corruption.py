"""Span corruption: source and target together are the text, and lengths are T5's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.augment import SpanCorruption
from research.data.augment.span_corruption import noise_mask
from research.data.tokenizers import Char, Word
from research.errors import UserError
from research.sequence import T5, SequenceToSequence

SENTINELS = tuple(f"<extra_id_{i}>" for i in range(8))
TOKENIZER = Word(("<s>", "</s>", *SENTINELS, *"abcdefghij"))  # behind <unk>
START, END, FIRST_SENTINEL, FIRST_WORD = 1, 2, 3, 11
CORRUPT = SpanCorruption(TOKENIZER)


def corrupted(tokens, token_mask=None, seed=0, transform=CORRUPT, **more):
    batch = {"tokens": jnp.asarray(tokens), **more}
    if token_mask is not None:
        batch["token_mask"] = jnp.asarray(token_mask, jnp.float32)
    found = jax.jit(transform)(jax.random.key(seed), batch)
    return {name: np.asarray(x) for name, x in found.items()}


def joined(source, target):
    """The text of a source and a target, each without padding."""
    *target, end = target[1:]
    *source, other_end = source
    assert end == other_end == END
    spans = {}
    for token in target:
        if FIRST_SENTINEL <= token < FIRST_WORD:
            spans[token] = []
        else:
            spans[[*spans][-1]].append(token)
    assert [*spans] == [*range(FIRST_SENTINEL, FIRST_SENTINEL + len(spans))]
    assert all(spans.values()), "a span is empty"
    text = []
    for token in source:
        text += spans.get(token, [token])
    return text


@pytest.mark.parametrize("length", [2, 7, 64])
def test_source_and_target_are_the_text(length):
    tokens = np.random.default_rng(0).integers(FIRST_WORD, FIRST_WORD + 10, (16, length))
    found = corrupted(tokens, np.ones(tokens.shape))
    num_noise, num_spans = CORRUPT.counts(length)
    assert num_noise == max(1, round(0.15 * length))
    assert num_spans == max(1, round(num_noise / 3))
    assert found["source"].shape == (16, length - num_noise + num_spans + 1)
    assert found["target"].shape == (16, num_noise + num_spans + 2)
    assert (found["source_mask"] == 1).all()
    assert (found["target_mask"] == 1).all()
    assert (found["target"][:, 0] == START).all()
    for row in range(16):
        assert joined(found["source"][row], found["target"][row]) == tokens[row].tolist()
    if num_spans > 1:  # a single span is the text's end
        again = corrupted(tokens, np.ones(tokens.shape), seed=1)
        assert not np.array_equal(found["source"], again["source"])


def test_spans_of_all_lengths_are_alike_probable():
    keys = jax.random.split(jax.random.key(0), 4000)
    masks = np.asarray(jax.vmap(lambda key: noise_mask(key, 10, 4, 2))(keys))
    assert (masks.sum(1) == 4).all()
    assert not masks[:, 0].any(), "text begins"
    assert masks[:, -1].all(), "a span ends"
    assert (np.diff(masks.astype(int)).clip(0).sum(1) == 2).all()
    # Lengths of (1, 3), (2, 2), (3, 1) of noise, and (1, 5) … (5, 1) of text.
    _, counts = np.unique(masks, axis=0, return_counts=True)
    np.testing.assert_allclose(counts / 4000, 1 / 15, atol=0.02)
    assert len(counts) == 15


def test_padding_is_never_a_target():
    tokens = np.random.default_rng(0).integers(FIRST_WORD, FIRST_WORD + 10, (6, 30))
    lengths = np.asarray([30, 4, 17, 1, 9, 29])
    token_mask = np.arange(30) < lengths[:, None]
    found = corrupted(np.where(token_mask, tokens, 0), token_mask)
    for row, length in enumerate(lengths):
        source, target = (
            found[name][row][found[f"{name}_mask"][row] > 0] for name in ("source", "target")
        )
        assert joined(source, target) == tokens[row, :length].tolist()
        assert (found["source"][row][found["source_mask"][row] == 0] == START).all()


def test_windows_lose_their_first_token():
    tokens = np.random.default_rng(0).integers(FIRST_WORD, FIRST_WORD + 10, (3, 21))
    found = corrupted(tokens)
    for row in range(3):
        assert joined(found["source"][row], found["target"][row]) == tokens[row, 1:].tolist()


def test_an_evaluation_draws_by_the_place_in_the_data():
    tokens = np.random.default_rng(0).integers(FIRST_WORD, FIRST_WORD + 10, (6, 21))
    whole = corrupted(tokens, index=jnp.arange(6), mask=jnp.ones(6))
    part = corrupted(tokens[4:], index=jnp.arange(4, 6), mask=jnp.ones(2))
    for name in ("source", "target", "mask", "index"):
        np.testing.assert_array_equal(whole[name][4:], part[name])


def test_what_cannot_be():
    with pytest.raises(UserError, match=r"noise_density must be in \(0, 1\)"):
        SpanCorruption(TOKENIZER, noise_density=1.0)
    with pytest.raises(UserError, match="Char has no special tokens, and '<extra_id_0>'"):
        corrupted(np.zeros((1, 9), int), transform=SpanCorruption(Char("ab")))
    with pytest.raises(UserError, match="There is no token '<extra_id_8>'"):
        corrupted(np.zeros((1, 201), int))
    with pytest.raises(UserError, match="texts of at least 2 tokens; got 1"):
        corrupted(np.zeros((1, 2), int))


def test_t5_learns_what_is_missing():
    tokens = (np.arange(21) + np.arange(10)[:, None]) % 10 + FIRST_WORD
    model = T5(21, num_layers=1, num_heads=2, head_dim=8, embed_dim=16, mlp_dim=32, dropout_rate=0)
    objective = SequenceToSequence(model, TOKENIZER, TOKENIZER, num_beams=1)
    batch = {"tokens": jnp.asarray(tokens), "index": jnp.arange(10), "mask": jnp.ones(10)}
    params = objective.init(jax.random.key(0), CORRUPT(jax.random.key(0), batch))["params"]
    optimizer = optax.adam(0.01)

    @jax.jit
    def step(params, state, rng):
        given = CORRUPT(rng, {"tokens": batch["tokens"]})
        loss, grads = jax.value_and_grad(lambda p: objective.loss(p, {}, given, rng)[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for i in range(60):
        params, state, loss = step(params, state, jax.random.key(i))
        losses.append(float(loss))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])


def test_packed_documents_are_no_pairs():
    tokens = np.full((2, 9), FIRST_WORD)
    pairs = corrupted(tokens, segments=jnp.zeros((2, 9), jnp.int32))
    with pytest.raises(UserError, match=r"takes no segments.*; set packed=False in its source"):
        SequenceToSequence(T5(len(TOKENIZER.words))).init(jax.random.key(0), pairs)
