"""A small convolutional network with batch normalisation: a backbone for small images."""

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.norm import BatchNorm
from research.nn.pooling import max_pool


class ConvNet(nn.Module):
    """Stages of 3×3 convolution, batch normalisation, ReLU; 2×2 max pooling between stages.

    One stage an entry of `channels`, of `depth` convolutions each; the average over positions
    gives `channels[-1]` features, which are the output where `num_classes` is None.
    """

    num_classes: int | None = None
    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features in float32 without classes; batch statistics where `train`."""
        x = images
        for stage, channels in enumerate(self.channels):
            if stage > 0:
                x = max_pool(x, (2, 2))
            for _ in range(self.depth):
                x = Conv(channels, (3, 3), use_bias=False, dtype=self.dtype)(x)
                x = nn.relu(BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
        x = x.mean(axis=(1, 2))
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x)
