"""Dropout whose rate may be traced, so that trials of one program can differ in it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def is_off(rate: Any) -> bool:
    """Whether a dropout rate is known to be 0 when the program is traced."""
    return isinstance(rate, int | float) and rate == 0


class Dropout(nn.Module):
    """As `flax.linen.Dropout`, also for a traced `rate` in [0, 1).

    Srivastava et al. 2014: what is kept is scaled by 1 / (1 - rate). Needs an rng named "dropout"
    unless it is deterministic or its rate is known to be 0. Along `broadcast_axes` all elements are
    kept or dropped together.
    """

    rate: float
    broadcast_axes: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "..."], deterministic: bool) -> Float[Array, "..."]:
        """Sets each element to 0 with probability `rate`."""
        if deterministic or is_off(self.rate):
            return x
        shape = list(x.shape)
        for axis in self.broadcast_axes:
            shape[axis] = 1
        return drop(x, self.rate, self.make_rng("dropout"), tuple(shape))


def drop(
    x: Float[Array, "..."], rate: Any, rng: PRNGKeyArray, shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Sets to 0 with probability `rate`, by draws of `shape`, which is broadcast over `x`."""
    # In float32 also where it is not traced: a trial drops what it would drop alone.
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    kept = jax.random.bernoulli(rng, keep, shape)
    return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros_like(x))
