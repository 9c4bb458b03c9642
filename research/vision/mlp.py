"""Perceptrons of one and of several layers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.dropout import Dropout

_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
}


class MLP(nn.Module):
    """Dense layers over all pixels; with `hidden=()` the perceptron, a linear classifier.

    Rosenblatt: The perceptron, 1958. Rumelhart, Hinton, Williams: Learning representations by
    back-propagating errors, 1986. `dropout_rate` is of the hidden layers and `input_dropout_rate`
    of the pixels (Srivastava et al. 2014: 0.5 and 0.2). Kernels are He's for ReLU and Glorot's
    otherwise.
    """

    num_classes: int | None = 10
    hidden: tuple[int, ...] = (128, 64)
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    input_dropout_rate: float = 0.0
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout where `train`."""
        *_, x = self.features(images, train).values()
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch units"]]:
        """The pixels, and the output of every hidden layer: `hidden_0`, `hidden_1`, …"""
        dense = partial(
            nn.Dense,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.he_normal()
            if self.activation == "relu"
            else nn.initializers.glorot_normal(),
        )
        x = images.reshape(images.shape[0], -1)
        x = Dropout(self.input_dropout_rate)(x, not train)
        layers = {"pixels": x}
        for i, units in enumerate(self.hidden):
            x = _ACTIVATIONS[self.activation](dense(units, name=f"hidden_{i}")(x))
            x = Dropout(self.dropout_rate)(x, not train)
            layers[f"hidden_{i}"] = x
        return layers
