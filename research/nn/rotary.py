"""Rotary positions (Su et al., 2021: RoFormer)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "batch length num_heads head_dim"],
    positions: Int[Array, "#batch length"],
    base: float = 10_000.0,
) -> Float[Array, "batch length num_heads head_dim"]:
    """Turns each pair of features i and i + head_dim / 2 by position · base^(-2i / head_dim).

    The product of a query and a key then depends on how far apart they are, not on where. Angles
    are float32 at least. Raises ValueError for an odd head_dim.
    """
    head_dim = x.shape[-1]
    if head_dim % 2:
        raise ValueError(f"rotary positions need an even head_dim, got {head_dim}")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    frequencies = base ** (-jnp.arange(0, head_dim, 2, dtype=dtype) / head_dim)
    angles = (positions[..., None] * frequencies)[:, :, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(dtype), 2, -1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return turned.astype(x.dtype)
