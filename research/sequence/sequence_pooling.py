"""One vector for a sequence of them, whatever its padding."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Pooling = Literal["first", "last", "mean", "max"]


def pool_sequence(
    x: Float[Array, "batch length features"],
    mask: Bool[Array, "batch length"] | None,
    pooling: Pooling,
) -> Float[Array, "batch features"]:
    """The first or last vector, or the mean or maximum of all, where `mask` is true; without one,
    everywhere. Padding is behind a sequence. Of an empty one the mean is 0, and the maximum the
    lowest finite number.

    Raises ValueError for another `pooling`.
    """
    if mask is None:
        mask = jnp.ones(x.shape[:2], bool)
    match pooling:
        case "first":
            return x[:, 0]
        case "last":
            last = jnp.maximum(mask.sum(1) - 1, 0)
            return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        case "mean":
            total = jnp.where(mask[..., None], x, 0).sum(1, dtype=jnp.float32)
            return (total / jnp.maximum(mask.sum(1, keepdims=True), 1)).astype(x.dtype)
        case "max":
            return jnp.where(mask[..., None], x, jnp.finfo(x.dtype).min).max(1)
    raise ValueError(f'pooling must be "first", "last", "mean" or "max", got {pooling!r}')
