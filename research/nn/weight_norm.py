"""Weight normalisation (Salimans and Kingma, 2016)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def normalised(
    direction: Float[Array, "*inputs features"], scale: Float[Array, " features"]
) -> Float[Array, "*inputs features"]:
    """A kernel whose column for each output has this length and the direction's direction."""
    axes = tuple(range(direction.ndim - 1))
    return direction * (scale / jnp.sqrt(jnp.square(direction).sum(axes)))
