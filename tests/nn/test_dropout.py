"""Dropout drops the share it is told, also where the rate is traced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.dropout import Dropout

X = jnp.arange(1.0, 4001.0)


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        return Dropout(self.rate)(x, deterministic)


def drop(rate, deterministic=False, x=X):
    return Dropped(rate).apply({}, x, deterministic, rngs={"dropout": jax.random.key(0)})


def test_kept_elements_are_scaled_and_the_mean_stays():
    out = np.asarray(drop(0.25, x=jnp.ones(40_000)))
    assert set(np.unique(out).tolist()) == {0.0, np.float32(1 / 0.75)}
    # Three standard errors of 40,000 draws.
    assert np.mean(out == 0) == pytest.approx(0.25, abs=0.0065)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_traced_rate_drops_the_same_elements(rate):
    traced = jax.jit(drop)(jnp.float32(rate))
    np.testing.assert_array_equal(traced == 0, drop(rate) == 0)
    np.testing.assert_allclose(traced, drop(rate), rtol=1e-6)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    np.testing.assert_array_equal(drop(0.5, deterministic=True), X)
    np.testing.assert_array_equal(drop(0.0), X)
    # Without randomness no rng is needed.
    np.testing.assert_array_equal(Dropped(0.0).apply({}, X, False), X)


def test_elements_along_broadcast_axes_are_dropped_together():
    x = jnp.ones((50, 40, 8))
    layer = Dropout(0.25, broadcast_axes=(-1,))
    out = np.asarray(layer.apply({}, x, False, rngs={"dropout": jax.random.key(0)}))
    np.testing.assert_array_equal(out, np.repeat(out[..., :1], 8, -1))
    # Three standard errors of 2000 draws.
    assert np.mean(out == 0) == pytest.approx(0.25, abs=0.03)


def test_gradients_pass_where_elements_are_kept_and_reach_the_rate():
    grad = jax.grad(lambda x: drop(0.5, x=x).sum())(X)
    np.testing.assert_array_equal(grad, np.where(drop(0.5) == 0, 0.0, 2.0))
    assert np.isfinite(jax.grad(lambda rate: drop(rate).sum())(0.5))
