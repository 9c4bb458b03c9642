"""How far back a loss reaches."""

import jax.numpy as jnp
import numpy as np

from research.engine.display import Curves
from research.sequence.gradient_by_time import gradient_by_time, gradient_norms


def test_a_state_that_shrinks_sees_less_and_less_of_the_past():
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)))
    weights = jnp.asarray([3.0, 4.0])

    def losses(keeps, inputs):
        state = 0.0
        for position in range(6):
            state = keeps * state + inputs[:, position] @ weights
        return state * jnp.asarray([1.0, 2.0, 3.0])

    expected = 5.0 * 0.5 ** np.arange(5, -1, -1) * np.mean([1, 2, 3])
    np.testing.assert_allclose(gradient_norms(losses, 0.5, inputs), expected, rtol=1e-5)
    display = gradient_by_time(losses, {"short": 0.5, "none": 0.0}, inputs)
    assert isinstance(display, Curves)
    assert display.logarithmic
    ((short, none),) = display.panels.values()
    assert (short.label, none.label) == ("short", "none")
    np.testing.assert_allclose(short.y, expected, rtol=1e-5)
    np.testing.assert_allclose(none.y, [np.nan] * 5 + [10.0], rtol=1e-5)
