"""Squeeze-and-excitation (Hu et al., 2018)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from research.nn.initializers import he_normal_fan_out


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that sees the means of all: dense layers `squeeze` to
    `hidden_dim` channels and `excite` back."""

    hidden_dim: int
    activation: Callable[[Array], Array] = jax.nn.relu
    gate: Callable[[Array], Array] = jax.nn.sigmoid
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal_fan_out

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The scaled maps."""
        shared: dict[str, Any] = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
        }
        means = x.mean(axis=(1, 2))
        hidden = self.activation(nn.Dense(self.hidden_dim, name="squeeze", **shared)(means))
        scale = self.gate(nn.Dense(x.shape[-1], name="excite", **shared)(hidden))
        return x * scale[:, None, None, :]
