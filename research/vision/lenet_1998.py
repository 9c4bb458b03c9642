"""LeNet-5 as it was published (LeCun, Bottou, Bengio, Haffner, 1998)."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.nn.convolution import Conv, convolve
from research.nn.initializers import symmetric_uniform
from research.nn.pooling import avg_pool

# Which maps of S2 each map of C3 sees: table 1.
_SEEN = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
_PLACES = np.array([(source, target) for target, seen in enumerate(_SEEN) for source in seen])


class LeNet1998(nn.Module):
    """The 60,000 parameters of section II.B, for 32×32 images or 28×28 ones with a border of zeros.

    Subsampling has a coefficient and a bias a map, C3 sees the maps of its table 1 only, and
    activations are 1.7159 tanh(2x / 3). A dense layer takes the place of the fixed bitmaps against
    which the last layer compared; it adds 85 parameters a class.

    Kernels are uniform between -2.4 / n and 2.4 / n, where n is the number of inputs of a unit
    (appendix A). Biases begin at 0, coefficients at 1/4, with which a window's mean is taken, and
    the dense layer at LeCun's scale.
    """

    num_classes: int | None = 10
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or the 84 features of F6 without classes."""
        *_, x = self.features(images, train).values()
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "..."]]:
        """What every layer gives, called as in the paper: `c1`, `s2`, `c3`, `s4`, `c5`, `f6`.

        Raises ValueError for images of another size.
        """
        if images.shape[1:3] == (28, 28):
            images = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        if images.shape[1:3] != (32, 32):
            size = "×".join(map(str, images.shape[1:3]))
            raise ValueError(f"LeNet1998 takes images of 32×32 or 28×28 pixels, not {size}")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        drawn: dict[str, Any] = {"kernel_init": _uniform_by_inputs, **types}
        conv: dict[str, Any] = {"kernel_size": (5, 5), "padding": "VALID", **drawn}
        layers = {"c1": _squash(Conv(6, name="c1", **conv)(images))}
        layers["s2"] = Subsampling(name="s2", **types)(layers["c1"])
        layers["c3"] = _squash(SparseConv(name="c3", **types)(layers["s2"]))
        layers["s4"] = Subsampling(name="s4", **types)(layers["c3"])
        layers["c5"] = _squash(Conv(120, name="c5", **conv)(layers["s4"]))
        flat = layers["c5"].reshape(images.shape[0], -1)
        layers["f6"] = _squash(nn.Dense(84, name="f6", **drawn)(flat))
        return layers


class Subsampling(nn.Module):
    """The sum of each 2×2 window times a coefficient of the map, plus a bias, squashed."""

    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns channels"]:
        """Half the height and width."""
        param_dtype, channels = jnp.dtype(self.param_dtype), (x.shape[-1],)
        coefficient = self.param("scale", nn.initializers.constant(0.25), channels, param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, param_dtype)
        total = 4 * avg_pool(x, (2, 2))
        return _squash(total * coefficient.astype(x.dtype) + bias.astype(x.dtype))


class SparseConv(nn.Module):
    """A 5×5 convolution from 6 to 16 maps with kernels for the pairs of table 1 only."""

    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width 6"]
    ) -> Float[Array, "batch rows columns 16"]:
        """Convolves without padding."""
        param_dtype = jnp.dtype(self.param_dtype)
        inputs = 25 * np.array([len(_SEEN[target]) for _, target in _PLACES], param_dtype)
        kernels = self.param(
            "kernel",
            lambda *drawn: symmetric_uniform(2.4)(*drawn) / inputs,
            (5, 5, len(_PLACES)),
            param_dtype,
        )
        bias = self.param("bias", nn.initializers.zeros, (16,), param_dtype)
        dense = jnp.zeros((5, 5, 6, 16), param_dtype)
        dense = dense.at[:, :, _PLACES[:, 0], _PLACES[:, 1]].set(kernels)
        y = convolve(
            x,
            dense.astype(x.dtype),
            strides=(1, 1),
            padding="VALID",
            kernel_dilation=(1, 1),
        )
        return y + bias.astype(x.dtype)


def _uniform_by_inputs(rng: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
    """The paper's, for kernels whose last axis is that of the outputs."""
    return symmetric_uniform(2.4 / math.prod(shape[:-1]))(rng, shape, dtype)


def _squash(x: Array) -> Array:
    """Appendix A of the paper."""
    return 1.7159 * jnp.tanh(2 / 3 * x)
