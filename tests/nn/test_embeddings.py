"""Sine positions, and logits of a vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.logits import LogitsHead, tied_logits
from research.nn.sine import sine_embedding


def test_sine_positions_are_the_papers():
    """Vaswani et al. 2017, section 3.5: sine at 2i, cosine at 2i + 1."""
    got = sine_embedding(jnp.asarray([[0, 3, 50]]), 6)
    for place, position in enumerate((0, 3, 50)):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            np.testing.assert_allclose(got[0, place, 2 * i], np.sin(angle), atol=1e-5)
            np.testing.assert_allclose(got[0, place, 2 * i + 1], np.cos(angle), atol=1e-5)
    with pytest.raises(ValueError, match="even number of features, got 5"):
        sine_embedding(jnp.arange(3), 5)


def test_logits_are_float32_whatever_computes_them():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.bfloat16)
    embedding = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32)
    tied = tied_logits(x, embedding)
    assert tied.shape == (2, 3, 5)
    assert tied.dtype == jnp.float32
    np.testing.assert_allclose(tied, x.astype(jnp.float32) @ embedding.T, atol=0.05)

    head = LogitsHead(5, use_bias=True, dtype=jnp.bfloat16)
    logits, variables = head.init_with_output(jax.random.key(0), x)
    assert logits.dtype == jnp.float32
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), variables["params"])
    assert shapes == {"kernel": ((4, 5), "float32"), "bias": ((5,), "float32")}
