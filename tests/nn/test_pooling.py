"""Fast pooling is plain pooling, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.pooling import avg_pool, max_pool

CASES = {
    "2x2": ((8, 8), (2, 2), None, "VALID"),
    "remainder is cropped": ((7, 9), (2, 3), None, "VALID"),
    "overlapping, padded": ((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "stride 1, SAME": ((5, 6), (3, 3), (1, 1), "SAME"),
    "gaps between windows": ((9, 9), (2, 2), (3, 3), "VALID"),
    "one axis": ((9,), (3,), (2,), "SAME"),
}


def value_and_input_gradient(pool, x, *args):
    shape = jax.eval_shape(lambda x: pool(x, *args), x).shape
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=shape), x.dtype)

    @jax.jit
    def both(x):
        y, vjp = jax.vjp(lambda x: pool(x, *args), x)
        return y, vjp(cotangent)[0]

    return both(x)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_fast_equals_plain(pool, case):
    space, window, strides, padding = CASES[case]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *space, 3)), jnp.float32)
    extra = (True,) if pool is avg_pool else ()
    fast = value_and_input_gradient(pool, x, window, strides, padding, *extra, "fast")
    plain = value_and_input_gradient(pool, x, window, strides or window, padding, *extra, "plain")
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(fast[1], plain[1], rtol=1e-5, atol=1e-6)


def test_ties_send_the_gradient_to_the_first_maximum_in_either_implementation():
    """Few distinct values, so most windows tie: also in windows where a later row ties first."""
    values = np.random.default_rng(0).integers(0, 2, (4, 12, 12, 3))
    x = jnp.asarray(values, jnp.float32)
    for window, strides, padding in [((2, 2), (2, 2), "VALID"), ((3, 3), (2, 2), "SAME")]:
        fast = value_and_input_gradient(max_pool, x, window, strides, padding, "fast")
        plain = value_and_input_gradient(max_pool, x, window, strides, padding, "plain")
        np.testing.assert_allclose(fast[1], plain[1], atol=1e-6)
    one_window = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])[None, :, :, None]
    differentiate = jax.grad(lambda x: max_pool(x, (2, 2), implementation="fast").sum())
    gradient = jax.jit(differentiate)(one_window)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])


def test_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 3)))
        for pool, extra in [(max_pool, ()), (avg_pool, (False,))]:
            args = ((3, 3), (2, 2), "SAME", *extra)
            fast = value_and_input_gradient(pool, x, *args, "fast")
            plain = value_and_input_gradient(pool, x, *args, "plain")
            np.testing.assert_allclose(fast[0], plain[0], rtol=1e-13)
            np.testing.assert_allclose(fast[1], plain[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("place", range(4))
def test_nan_is_not_hidden(place):
    x = np.ones((1, 2, 2, 1), np.float32)
    x.flat[place] = np.nan
    pool = jax.jit(lambda x: max_pool(x, (2, 2), implementation="fast"))
    assert np.isnan(pool(x)).all()


def test_padding_is_not_counted_when_asked():
    x = jnp.ones((1, 3, 3, 1))
    options = {"count_include_pad": False, "implementation": "fast"}
    pooled = jax.jit(lambda x: avg_pool(x, (2, 2), (2, 2), "SAME", **options))(x)
    np.testing.assert_array_equal(pooled, jnp.ones((1, 2, 2, 1)))


def test_mistakes_are_named():
    x = jnp.ones((1, 2, 2, 1))
    with pytest.raises(ValueError, match="a window of 3×3 does not fit into maps of"):
        max_pool(x, (3, 3), implementation="fast")
    with pytest.raises(ValueError, match="one entry for each spatial axis"):
        max_pool(x, (2, 2), (2,), implementation="fast")
    with pytest.raises(ValueError, match="implementation must be"):
        max_pool(x, (2, 2), implementation="quick")
