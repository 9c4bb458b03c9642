"""Convolution, batch normalisation and activation: the brick of convolutional networks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.initializers import he_normal_fan_out
from research.nn.norm import BatchNorm


class ConvNorm(nn.Module):
    """A convolution without bias, `conv`, its batch normalisation, `norm`, and an activation.

    `padding` is one number for each spatial axis, for both of its sides; by default what keeps
    the size at stride 1. Stride 2 after it differs from "SAME", which pads one side only.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    strides: int = 1
    padding: int | tuple[int, int] | None = None
    feature_group_count: int = 1
    activation: Callable[[Array], Array] | None = jax.nn.relu
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = he_normal_fan_out
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """Applies the three; normalised by batch statistics where `train`."""
        size = self.kernel_size
        kernel_size = (size, size) if isinstance(size, int) else size
        padding = self.padding
        if padding is None:
            padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        x = Conv(
            self.features,
            kernel_size,
            self.strides,
            padding,
            feature_group_count=self.feature_group_count,
            use_bias=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        x = BatchNorm(
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            scale_init=self.scale_init,
            name="norm",
        )(x, use_running_average=not train)
        return x if self.activation is None else self.activation(x)
