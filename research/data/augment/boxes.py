"""Random boxes, as crops and erasing take them."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

_TRIES = 10


def random_box(
    rng: PRNGKeyArray,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    aspect_ratio: Float[Array, ""] | float,
) -> tuple[Float[Array, "2"], Float[Array, "2"], Bool[Array, ""]]:
    """The corner and sides of a box (rows, columns) as shares of the image's, and whether it fits.

    Its share of the area is uniform in `scale`, its width by height log-uniform in `ratio`, where
    the image's own is `aspect_ratio`. It is the first of ten draws that fits in the image, at a
    uniform place; where none does, the largest box in the middle whose ratio is in range.
    """
    area_rng, ratio_rng, place_rng = jax.random.split(rng, 3)
    area = jax.random.uniform(area_rng, (_TRIES,), minval=scale[0], maxval=scale[1])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    # Of an image that is stretched to a square: its area is 1, and the ratio by its own.
    relative = jnp.exp(jax.random.uniform(ratio_rng, (_TRIES,), minval=low, maxval=high))
    relative /= aspect_ratio
    tries = jnp.stack([jnp.sqrt(area / relative), jnp.sqrt(area * relative)], 1)
    fits = (tries <= 1).all(1)
    largest = jnp.stack([aspect_ratio / ratio[0], ratio[1] / aspect_ratio])
    sides = jnp.where(fits.any(), tries[fits.argmax()], jnp.minimum(largest, 1.0))
    place = jnp.where(fits.any(), jax.random.uniform(place_rng, (2,)), 0.5)
    return place * (1 - sides), sides, fits.any()
