"""Beam search against all sequences, written out, and with a model's cache."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import GPT
from research.sequence.beam_search import batch_axes, beam_search
from tests.random_variables import random_variables

END, VOCAB, LENGTH = 0, 4, 4
# The next token depends on the last one and the place: log probabilities of both examples.
TABLE = np.random.default_rng(3).normal(size=(2, LENGTH + 1, VOCAB, VOCAB)) * 1.5
TABLE -= np.log(np.exp(TABLE).sum(-1, keepdims=True))


def search(num_beams, length_penalty=0.6):
    def next_logits(tokens, length, cache):
        logits = jnp.asarray(TABLE, jnp.float32)[cache, length + 1, tokens[:, 0]]
        return logits, cache

    return beam_search(
        next_logits,
        jnp.asarray(TABLE[:, 0, 1], jnp.float32),
        jnp.arange(2),
        0,
        num_beams=num_beams,
        max_new_tokens=LENGTH,
        end_token=END,
        length_penalty=length_penalty,
    )


def all_finished(example, length_penalty):
    """Every sequence that ends, with its score, best first."""
    found = []
    for length in range(1, LENGTH + 1):
        for body in itertools.product(range(1, VOCAB), repeat=length - 1):
            tokens, last, score = (*body, END), 1, 0.0
            for place, token in enumerate(tokens):
                score += TABLE[example, place, last, token]
                last = token
            found.append((score / ((5 + length) / 6) ** length_penalty, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all(length_penalty):
    beam = jax.jit(search, static_argnums=(0, 1))(40, length_penalty)
    for example in range(2):
        for i, (score, tokens) in enumerate(all_finished(example, length_penalty)[:5]):
            np.testing.assert_allclose(beam.scores[example, i], score, rtol=1e-5)
            expected = tokens + (END,) * (LENGTH - len(tokens))
            np.testing.assert_array_equal(beam.tokens[example, i], expected)


def test_a_penalty_prefers_longer_sequences():
    def length(length_penalty):
        return (search(40, length_penalty).tokens[:, 0] != END).sum()

    assert length(5.0) > length(0.0)


def test_one_beam_is_greedy_and_more_are_not_worse():
    tokens, last = [], 1
    for place in range(LENGTH):
        last = int(np.argmax(TABLE[0, place, last, 1:])) + 1
        tokens.append(last)
    # Greedy among what does not end; what ends on the way competes by its score.
    one, more = search(1), search(8)
    assert (more.scores[:, 0] >= one.scores[:, 0] - 1e-6).all()
    ends = [t for t in np.asarray(one.tokens[0, 0]) if t != END]
    np.testing.assert_array_equal(ends, tokens[: len(ends)])


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_models_cache_follows_its_beam(scan_layers):
    """The score of the best is what the model gives to it without a cache."""
    model = GPT(7, 12, num_layers=2, num_heads=2, embed_dim=16, scan_layers=scan_layers)
    prompts = jnp.asarray([[1, 2, 3], [4, 5, 6]])
    variables = random_variables(model.init, prompts)

    def make(batch_size):
        blank = jnp.zeros((batch_size, 12), int)
        return model.apply(variables, blank, use_cache=True, mutable=["cache"])[1]["cache"]

    def read(tokens, cache, positions):
        logits, new = model.apply(
            {**variables, "cache": cache},
            tokens,
            positions=positions,
            use_cache=True,
            mutable=["cache"],
        )
        return logits[:, -1], new["cache"]

    @jax.jit
    def run(prompts):
        logits, cache = read(prompts, make(2), jnp.arange(3)[None])
        return beam_search(
            lambda tokens, length, cache: read(tokens, cache, jnp.full((1, 1), 3 + length)),
            logits,
            cache,
            batch_axes(make),
            num_beams=3,
            max_new_tokens=6,
            end_token=0,
            length_penalty=0.0,
        )

    beam = run(prompts)
    for example in range(2):
        for i in range(3):
            new = np.asarray(beam.tokens[example, i])
            new = new[: list(new).index(0) + 1] if 0 in new else new
            whole = jnp.asarray([*prompts[example], *new])[None]
            log_probabilities = jax.nn.log_softmax(model.apply(variables, whole))[0, 2:-1]
            score = log_probabilities[jnp.arange(len(new)), new].sum()
            np.testing.assert_allclose(beam.scores[example, i], score, rtol=1e-4)
        ended = (np.asarray(beam.tokens[example]) == 0).any(-1)
        assert (np.diff(ended.astype(int)) <= 0).all(), "what ends comes first"
        for kind in (True, False):
            assert (np.diff(beam.scores[example][ended == kind]) <= 0).all()
