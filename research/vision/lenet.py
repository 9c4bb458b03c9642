"""LeNet-5, the convolutional network of LeCun et al. 1998, with its usual variations."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.pooling import avg_pool, max_pool

_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jax.nn.tanh}


class LeNet(nn.Module):
    """Convolutions, each followed by 2×2 pooling, then dense layers.

    The defaults are the 61,706-parameter network of today's textbooks (ReLU, max pooling, every
    map of the second convolution connected to all of the first) for 28×28 images; `"tanh"` and
    `"average"` bring it closer to the original. `padding` has one entry a convolution: small
    images need "SAME" throughout. With `num_classes=None` the output is the last hidden layer.

    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998.
    """

    num_classes: int | None = 10
    channels: tuple[int, ...] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    kernel_size: int = 5
    padding: tuple[Literal["SAME", "VALID"], ...] = ("SAME", "VALID")
    activation: Literal["relu", "tanh"] = "relu"
    pooling: Literal["max", "average"] = "max"
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits of the classes; dropout before each dense layer where `train`."""
        _, output = self._layers(images, train)
        return output

    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "..."]]:
        """The maps of every stage after its pooling, `stage_0`, …, and what the hidden layers
        give, `dense_0`, …"""
        layers, _ = self._layers(images, train)
        return layers

    @nn.compact
    def _layers(self, images: Array, train: bool) -> tuple[dict[str, Array], Array]:
        """Every layer's output by name, and the last."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        activation = _ACTIVATIONS[self.activation]
        pool = max_pool if self.pooling == "max" else avg_pool
        x, layers = images, {}
        for i, (channels, padding) in enumerate(zip(self.channels, self.padding, strict=True)):
            kernel_size = (self.kernel_size, self.kernel_size)
            x = Conv(channels, kernel_size, padding=padding, name=f"conv_{i}", **types)(x)
            x = layers[f"stage_{i}"] = pool(activation(x), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate(self.hidden):
            x = Dropout(self.dropout_rate)(x, not train)
            x = activation(nn.Dense(features, name=f"dense_{i}", **types)(x))
            layers[f"dense_{i}"] = x
        if self.num_classes is None:
            return layers, x
        x = Dropout(self.dropout_rate)(x, not train)
        return layers, nn.Dense(self.num_classes, name="head", **types)(x)
