"""Drawing tokens: against one forward pass at a time, and against the probabilities themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import GPT
from research.sequence.beam_search import BeamSearch
from research.sequence.decoding import search, write
from research.sequence.sampling import Sampling
from tests.random_variables import random_variables

MODEL = GPT(vocab_size=11, block_size=8, num_layers=1, num_heads=2, embed_dim=16)
PROMPTS = jnp.asarray([[1, 2, 3], [9, 0, 4]], jnp.int32)


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL.init, PROMPTS)


forward = jax.jit(MODEL.apply)


def draw(variables, seed=0, prompts=PROMPTS, vocab_size=11, max_new_tokens=12, **options):
    (tokens,) = write(
        MODEL,
        variables,
        jax.random.key(seed),
        prompts,
        vocab_size=vocab_size,
        max_new_tokens=max_new_tokens,
        sampling=Sampling(**options),
    )
    return tokens


def test_greedy_is_the_chain_of_most_likely_tokens(variables):
    tokens = np.asarray(PROMPTS)
    for _ in range(12):  # past the end of a block, which holds 8
        logits = forward(variables, jnp.asarray(tokens[:, -8:]))
        tokens = np.append(tokens, np.argmax(logits[:, -1:], axis=-1), axis=1)
    drawn = draw(variables, temperature=0)
    np.testing.assert_array_equal(drawn, tokens)
    assert len(np.unique(drawn[:, 3:])) > 1, "a constant chain proves nothing"


def test_a_scan_over_layers_writes_the_same():
    model = MODEL.clone(num_layers=2, scan_layers=True)
    stacked = random_variables(model.init, PROMPTS)
    tokens = np.asarray(PROMPTS)
    for _ in range(3):
        logits = model.apply(stacked, jnp.asarray(tokens))
        tokens = np.append(tokens, np.argmax(logits[:, -1:], axis=-1), axis=1)
    (written,) = write(
        model,
        stacked,
        jax.random.key(0),
        PROMPTS,
        vocab_size=11,
        max_new_tokens=3,
        sampling=Sampling(temperature=0),
    )
    np.testing.assert_array_equal(written, tokens)


def test_top_1_and_a_temperature_near_0_are_greedy(variables):
    greedy = draw(variables, temperature=0)
    np.testing.assert_array_equal(draw(variables, top_k=1), greedy)
    np.testing.assert_array_equal(draw(variables, temperature=1e-6), greedy)


def test_prompts_longer_than_a_block(variables):
    prompt = jnp.arange(20, dtype=jnp.int32)[None] % 11
    drawn = draw(variables, prompts=prompt, max_new_tokens=1, temperature=0)
    logits = forward(variables, prompt[:, -8:])
    np.testing.assert_array_equal(drawn[:, :20], prompt)
    assert drawn[0, 20] == np.argmax(logits[0, -1])


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (2.0, None), (0.7, 3)])
def test_draws_have_the_models_probabilities(variables, temperature, top_k):
    num_samples = 4000
    prompts = jnp.broadcast_to(PROMPTS[0], (num_samples, 3))
    options = {"temperature": temperature, "top_k": top_k}
    drawn = draw(variables, prompts=prompts, max_new_tokens=1, **options)[:, -1]
    logits = np.asarray(forward(variables, PROMPTS[:1])[0, -1], np.float64) / temperature
    if top_k is not None:
        logits[np.argsort(logits)[:-top_k]] = -np.inf
    expected = np.exp(logits) / np.exp(logits).sum()
    frequency = np.bincount(drawn, minlength=11) / num_samples
    # Five standard errors of each frequency; what cannot be drawn must not be.
    error = 5 * np.sqrt(expected * (1 - expected) / num_samples)
    np.testing.assert_array_less(np.abs(frequency - expected), error + 1e-12)


def test_tokens_outside_the_vocabulary_are_never_drawn(variables):
    assert draw(variables, vocab_size=4, temperature=50.0)[:, 3:].max() < 4


def test_top_k_of_more_than_all_tokens_is_all(variables):
    np.testing.assert_array_equal(draw(variables, top_k=1000), draw(variables))


def test_in_steps_it_writes_what_it_writes_at_once(variables):
    options = {"vocab_size": 11, "max_new_tokens": 12, "sampling": Sampling()}
    rng = jax.random.key(0)
    (whole,) = write(MODEL, variables, rng, PROMPTS, **options)
    parts = list(write(MODEL, variables, rng, PROMPTS, tokens_at_a_time=3, **options))
    # The cache holds 8 tokens; from there on it reads the last 8 anew.
    assert [part.shape[1] for part in parts] == [6, 8, 11, 14, 15]
    for part in parts:
        np.testing.assert_array_equal(part, whole[:, : part.shape[1]])


def test_nothing_is_compiled_for_a_text_that_grows(variables, compilations):
    counts = []
    for length in (6, 18):
        compilations.clear()
        options = {"vocab_size": 11, "max_new_tokens": length, "sampling": Sampling()}
        parts = write(MODEL, variables, jax.random.key(0), PROMPTS, tokens_at_a_time=1, **options)
        assert len(list(parts)) == length
        counts.append(len(compilations))
    assert counts[0] == counts[1]


def test_prompts_of_several_lengths_are_as_each_alone(variables):
    options = {"vocab_size": 11, "max_new_tokens": 12, "sampling": Sampling(temperature=0.0)}
    rng, mask = jax.random.key(0), jnp.asarray([[True] * 3, [False, False, True]])
    (both,) = write(MODEL, variables, rng, PROMPTS, prompt_mask=mask, **options)
    (alone,) = write(MODEL, variables, rng, PROMPTS[1:, 2:], **options)
    np.testing.assert_array_equal(both[1, 2:8], alone[0, :6])


def test_draws_behind_several_prompts_are_as_behind_each_alone(variables):
    options = {"vocab_size": 11, "max_new_tokens": 12, "sampling": Sampling()}
    rng, mask = jax.random.key(0), jnp.asarray([[True] * 3, [False, False, True]])
    (both,) = write(
        MODEL, variables, rng, PROMPTS, prompt_mask=mask, sample_numbers=[5, 5], **options
    )
    for row, prompt in zip(both, (PROMPTS[:1], PROMPTS[1:, 2:]), strict=True):
        (alone,) = write(MODEL, variables, rng, prompt, sample_numbers=[5], **options)
        # Also past the end of a block: padding leaves it before a text's own tokens do.
        np.testing.assert_array_equal(row[-alone.shape[1] :], alone[0])


def test_a_beam_behind_prompts_of_several_lengths(variables):
    options = {"vocab_size": 11, "max_new_tokens": 5}
    mask = jnp.asarray([[True] * 3, [False, False, True]])
    greedy = search(
        MODEL, variables, PROMPTS, prompt_mask=mask, beams=BeamSearch(num_beams=1), **options
    )
    chain = write(
        MODEL,
        variables,
        jax.random.key(0),
        PROMPTS,
        prompt_mask=mask,
        sampling=Sampling(temperature=0.0),
        **options,
    )
    np.testing.assert_array_equal(greedy.tokens[:, 0], next(chain)[:, 3:])
    both = search(MODEL, variables, PROMPTS, prompt_mask=mask, beams=BeamSearch(3, 0.0), **options)
    for row, prompt in enumerate((PROMPTS[:1], PROMPTS[1:, 2:])):
        alone = search(MODEL, variables, prompt, beams=BeamSearch(3, 0.0), **options)
        np.testing.assert_array_equal(both.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(both.scores[row], alone.scores[0], rtol=1e-4)
        for tokens, score in zip(both.tokens[row], both.scores[row], strict=True):
            whole = jnp.concatenate([prompt[0], tokens])[None]
            log_probabilities = jax.nn.log_softmax(forward(variables, whole))
            steps = log_probabilities[0, prompt.shape[1] - 1 : -1]
            np.testing.assert_allclose(steps[jnp.arange(5), tokens].sum(), score, rtol=1e-4)
    assert (both.scores[:, 0] >= greedy.scores[:, 0] * (10 / 6) ** 0.6 - 1e-4).all()


def test_behind_an_end_there_is_nothing_else(variables):
    (free,) = write(
        MODEL,
        variables,
        jax.random.key(0),
        PROMPTS,
        vocab_size=11,
        max_new_tokens=12,
        sampling=Sampling(),
    )
    end = int(free[0, 4])
    *_, ended = write(
        MODEL,
        variables,
        jax.random.key(0),
        PROMPTS,
        vocab_size=11,
        max_new_tokens=12,
        sampling=Sampling(),
        end_token=end,
        tokens_at_a_time=1,
    )
    for row, before in zip(ended, free, strict=True):
        new = list(before[3:])
        first = new.index(end) if end in new else len(new)
        np.testing.assert_array_equal(row[3 : 3 + first], new[:first][: len(row) - 3])
        assert (row[3 + first :] == end).all()
    (short,) = write(
        MODEL,
        variables,
        jax.random.key(0),
        PROMPTS[:1],
        vocab_size=11,
        max_new_tokens=12,
        sampling=Sampling(),
        end_token=end,
    )
    assert short[0, -1] == end
    assert short.shape[1] == 4 + list(free[0, 3:]).index(end)
