"""Initialisers of the literature that Flax has no name for."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

he_normal_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015, equation 14: a normal with variance 2 by the number of a kernel's outputs."""


def truncated_normal(stddev: float) -> Initializer:
    """A normal of this standard deviation, drawn anew beyond two units (not two deviations) of 0,
    which PyTorch's `trunc_normal_` does and which is none at all below 0.5."""

    def init(rng: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        bound = 2.0 / stddev
        return stddev * jax.random.truncated_normal(rng, -bound, bound, shape, dtype)

    return init


def symmetric_uniform(bound: float) -> Initializer:
    """Uniform between -bound and bound."""

    def init(rng: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(rng, shape, dtype, -bound, bound)

    return init
