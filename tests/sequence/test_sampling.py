"""Which tokens may be drawn: against the definitions, written out with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.sequence.sampling import Sampling, draw

LOGITS = np.log(np.asarray([0.4, 0.3, 0.15, 0.1, 0.05]))
NUM_DRAWS = 4000


def frequencies(sampling, logits=LOGITS, seen=()):
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    there = np.zeros((NUM_DRAWS, 5), bool)
    there[:, list(seen)] = True
    drawn = draw(keys, jnp.broadcast_to(jnp.asarray(logits), (NUM_DRAWS, 5)), there, sampling)
    return np.bincount(drawn, minlength=5) / NUM_DRAWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.4, 0.3, 0.15, 0.1, 0.05]),
        (Sampling(temperature=0.5), np.exp(2 * LOGITS)),
        (Sampling(top_k=2), [0.4, 0.3, 0, 0, 0]),
        # 0.4 + 0.3 falls short of 0.75, so that the third comes in.
        (Sampling(top_p=0.75), [0.4, 0.3, 0.15, 0, 0]),
        (Sampling(top_p=0.69), [0.4, 0.3, 0, 0, 0]),
        (Sampling(top_p=1e-6), [1, 0, 0, 0, 0]),
        (Sampling(top_p=1.0), [0.4, 0.3, 0.15, 0.1, 0.05]),
        # A quarter of 0.4 is 0.1, which rounding may leave out; 0.24 of it is not.
        (Sampling(min_p=0.24), [0.4, 0.3, 0.15, 0.1, 0]),
        (Sampling(min_p=1.0), [1, 0, 0, 0, 0]),
        # At half the temperature the second has 0.36 of the nucleus, and 0.64 is enough.
        (Sampling(temperature=0.5, top_k=2, top_p=0.6), [1, 0, 0, 0, 0]),
    ],
)
def test_draws_have_the_probabilities_that_are_left(sampling, expected):
    expected = np.asarray(expected) / np.sum(expected)
    # Five standard errors; what cannot be drawn must not be.
    error = 5 * np.sqrt(expected * (1 - expected) / NUM_DRAWS)
    np.testing.assert_array_less(np.abs(frequencies(sampling) - expected), error + 1e-12)


def test_a_repetition_penalty_makes_what_is_there_less_likely_whatever_its_sign():
    logits = np.asarray([2.0, 1.0, -1.0, -2.0, 0.0])
    sampling = Sampling(repetition_penalty=2.0)
    expected = np.exp([1.0, 1.0, -1.0, -4.0, 0.0])
    expected /= expected.sum()
    error = 5 * np.sqrt(expected * (1 - expected) / NUM_DRAWS)
    got = frequencies(sampling, logits, seen=(0, 3))
    np.testing.assert_array_less(np.abs(got - expected), error)
    greedy = Sampling(temperature=0.0, repetition_penalty=4.0)
    np.testing.assert_array_equal(frequencies(greedy, logits, seen=(0,)), [0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature = -1.0: must be at least 0 and finite"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0: must be at least 1"),
        ({"top_p": 0.0}, "top_p = 0.0: must be above 0 and at most 1"),
        ({"min_p": 1.5}, "min_p = 1.5: must be above 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0: must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Sampling(**settings)
