"""Temporal convolutional network (Bai, Kolter, Koltun, 2018)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from research.nn.dropout import Dropout, drop, is_off
from research.nn.weight_norm import normalised


class TCN(nn.Module):
    """Residual blocks of two dilated causal convolutions, each with weight normalisation, ReLU and
    dropout of whole features; dilation doubles from block to block.

    A block's input goes around it, through a 1×1 convolution where its features are others.
    `out_features` are of a dense layer on top, None for none. Kernels are normal(0.01), as in the
    authors' code. `input_dropout_rate` is of single inputs.
    """

    channels: tuple[int, ...]
    kernel_size: int
    out_features: int | None = None
    dropout_rate: float = 0.2
    input_dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length features"], train: bool = False
    ) -> Float[Array, "batch length out_features"]:
        """What each position and those before it give; dropout only where `train`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.normal(0.01)
        x = Dropout(self.input_dropout_rate)(x, not train)
        for level, channels in enumerate(self.channels):
            y = x
            for i in range(2):
                y = CausalConv(
                    channels,
                    self.kernel_size,
                    dilation=2**level,
                    name=f"block_{level}_conv_{i}",
                    **types,
                )(y)
                y = nn.relu(y)
                if train and not is_off(self.dropout_rate):
                    # Of whole features: one draw for all positions.
                    shape = (y.shape[0], 1, channels)
                    y = drop(y, self.dropout_rate, self.make_rng("dropout"), shape)
            if x.shape[-1] != channels:
                name = f"block_{level}_shortcut"
                x = nn.Dense(channels, kernel_init=init, name=name, **types)(x)
            x = nn.relu(x + y)
        if self.out_features is None:
            return x
        return nn.Dense(self.out_features, kernel_init=init, name="head", **types)(x)


class CausalConv(nn.Module):
    """A convolution over a position and those before it, with weight normalisation.

    Parameters: `direction` (kernel_size, in_features, features), `scale` and `bias` (features).
    """

    features: int
    kernel_size: int
    dilation: int = 1
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length in_features"]
    ) -> Float[Array, "batch length features"]:
        """Convolves; before the first position there are zeros."""
        shape = (self.kernel_size, x.shape[-1], self.features)
        direction = self.param("direction", nn.initializers.normal(0.01), shape, self.param_dtype)

        def norm(rng: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
            return jnp.sqrt(jnp.square(jnp.asarray(direction)).sum((0, 1))).astype(dtype)

        scale = self.param("scale", norm, (self.features,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x, direction, scale, bias = promote_dtype(x, direction, scale, bias, dtype=self.dtype)
        kernel = normalised(direction, scale)
        length, reach = x.shape[1], (self.kernel_size - 1) * self.dilation
        padded = jnp.pad(x, ((0, 0), (reach, 0), (0, 0)))
        # One product of matrices: a dilated convolution's gradients are slow on CPU.
        taps = [padded[:, tap * self.dilation :][:, :length] for tap in range(self.kernel_size)]
        product = jnp.concatenate(taps, -1).reshape(-1, self.kernel_size * x.shape[-1]) @ (
            kernel.reshape(-1, self.features)
        )
        return (product + bias).reshape(*x.shape[:-1], self.features)
