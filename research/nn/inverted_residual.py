"""The block of MobileNet v2 and v3 and of EfficientNet."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

from research.nn.conv_norm import ConvNorm
from research.nn.squeeze_excitation import SqueezeExcitation
from research.nn.stochastic_depth import StochasticDepth


class InvertedResidual(nn.Module):
    """1×1 convolution to `hidden_dim` channels, depthwise convolution, squeeze and excitation,
    1×1 convolution to `channels` without activation (Sandler et al., 2018); the input is added
    where shapes are equal.

    They are called `expand` (left out where the input has `hidden_dim` channels), `depthwise`,
    `squeeze_excitation` (left out where `squeeze_dim` is 0) and `project`.
    """

    channels: int
    hidden_dim: int
    kernel_size: int = 3
    strides: int = 1
    squeeze_dim: int = 0
    activation: Callable[[Array], Array] = jax.nn.relu
    squeeze_activation: Callable[[Array], Array] = jax.nn.relu
    gate: Callable[[Array], Array] = jax.nn.sigmoid
    stochastic_depth_rate: Any = 0.0
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies the block; dropout of the branch and batch statistics where `train`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv_norm: Any = partial(
            ConvNorm,
            activation=self.activation,
            epsilon=self.epsilon,
            momentum=self.momentum,
            **types,
        )
        y = x
        if self.hidden_dim != x.shape[-1]:
            y = conv_norm(self.hidden_dim, 1, name="expand")(y, train)
        y = conv_norm(
            self.hidden_dim,
            self.kernel_size,
            self.strides,
            feature_group_count=self.hidden_dim,
            name="depthwise",
        )(y, train)
        if self.squeeze_dim:
            y = SqueezeExcitation(
                self.squeeze_dim,
                self.squeeze_activation,
                self.gate,
                name="squeeze_excitation",
                **types,
            )(y)
        y = conv_norm(self.channels, 1, activation=None, name="project")(y, train)
        if self.strides > 1 or x.shape[-1] != self.channels:
            return y
        return x + StochasticDepth(self.stochastic_depth_rate)(y, not train)
