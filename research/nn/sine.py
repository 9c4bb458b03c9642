"""Sine and cosine of positions (Vaswani et al., 2017, section 3.5)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sine_embedding(
    positions: Int[Array, "*batch"], features: int, max_period: float = 10_000.0
) -> Float[Array, "*batch features"]:
    """Sine at even features 2i and cosine at odd ones of position / max_period^(2i / features).

    Raises ValueError for an odd number of features.
    """
    if features % 2:
        raise ValueError(f"sine and cosine need an even number of features, got {features}")
    frequencies = max_period ** (-jnp.arange(0, features, 2) / features)
    angles = positions[..., None] * frequencies
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
    return pairs.reshape(*positions.shape, features)
