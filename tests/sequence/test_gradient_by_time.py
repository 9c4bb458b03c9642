"""How far back a loss reaches."""

import jax.numpy as jnp
import numpy as np

from research.engine.display import Curves
from research.sequence.gradient_by_time import gradient_curves, gradient_norms


def test_a_state_that_shrinks_sees_less_and_less_of_the_past():
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)))
    weights = jnp.asarray([3.0, 4.0])

    def losses(inputs):
        state = 0.0
        for position in range(6):
            state = 0.5 * state + inputs[:, position] @ weights
        return state * jnp.asarray([1.0, 2.0, 3.0])

    expected = 5.0 * 0.5 ** np.arange(5, -1, -1) * np.mean([1, 2, 3])
    np.testing.assert_allclose(gradient_norms(losses, inputs), expected, rtol=1e-5)


def test_what_does_not_reach_back_at_all_is_a_gap():
    display = gradient_curves({"trained": jnp.asarray([0.0, 1e-3])})
    assert isinstance(display, Curves) and display.logarithmic
    ((curve,),) = display.panels.values()
    np.testing.assert_array_equal(curve.y, [np.nan, np.float32(1e-3)])
