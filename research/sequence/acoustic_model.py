"""What all models of spectrograms have."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float

from research.nn.convolution import Conv
from research.nn.logits import LogitsHead
from research.sequence.sequence_pooling import Pooling, pool_sequence

SUBSAMPLING = 4


class AcousticModel(nn.Module, kw_only=True):
    """Convolutions that make one frame of four, an encoder of these, and a dense layer on top;
    abstract.

    The model gives logits of each frame, as `CTC` takes them, or with a `pooling` of its frames'
    features of the whole recording, as `SequenceClassification` does. Where `num_classes` is None
    it gives the features before the last layer. Frames that are padding change nothing.
    """

    num_classes: int | None
    pooling: Pooling | None = None
    stem_channels: int = 32
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch frames bands"],
        train: bool = False,
        *,
        mask: Bool[Array, "batch frames"] | None = None,
    ) -> Float[Array, "batch ..."]:
        """The logits, float32, of every fourth frame or of the recording; dropout only where
        `train`. `mask` is true for frames that are no padding."""
        if mask is None:
            mask = jnp.ones(inputs.shape[:2], bool)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Subsampling(self.stem_channels, self.features, name="stem", **types)(inputs, mask)
        mask = self.output_mask(mask)
        x = self.encode(x, mask, train)
        if self.pooling is not None:
            x = pool_sequence(x, mask, self.pooling)
        if self.num_classes is None:
            return x
        return LogitsHead(self.num_classes, use_bias=True, name="head", **types)(x)

    @nn.nowrap
    def output_mask(self, mask: Bool[Array, "batch frames"]) -> Bool[Array, "batch fewer"]:
        """Which frames of the output are no padding, where these of the input are none."""
        return mask[:, ::SUBSAMPLING]

    @property
    def features(self) -> int:
        """How many features of a frame enter the encoder."""
        raise NotImplementedError

    def encode(
        self,
        x: Float[Array, "batch frames features"],
        mask: Bool[Array, "batch frames"],
        train: bool,
    ) -> Float[Array, "batch frames outputs"]:
        """What the encoder makes of the frames; called within a compact method."""
        raise NotImplementedError


class Subsampling(nn.Module):
    """Two 3×3 convolutions over time and bands, of stride 2 and each with ReLU, and a dense layer
    over the channels of all bands (Gulati et al., 2020; Dong, Xu, Xu, 2018)."""

    channels: int
    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch frames bands"], mask: Bool[Array, "batch frames"]
    ) -> Float[Array, "batch fewer features"]:
        """Every fourth frame, as it is without the frames where `mask` is false."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = inputs[..., None]
        for layer in range(2):
            # What the convolution sees beyond the end must be what there is beyond its padding.
            x = jnp.where(mask[:, :, None, None], x, 0)
            conv = Conv(self.channels, (3, 3), strides=2, padding=1, name=f"conv_{layer}", **types)
            x, mask = nn.relu(conv(x)), mask[:, ::2]
        flat = x.reshape(-1, x.shape[-2] * x.shape[-1])
        out = nn.Dense(self.features, name="out", **types)(flat)
        return out.reshape(*x.shape[:2], -1)
