"""A small convolutional network with batch normalisation: a backbone for small images."""

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.norm import BatchNorm
from research.nn.pooling import max_pool
from research.vision.pooled_head import PooledHead


class ConvNet(nn.Module):
    """Stages of 3×3 convolution, batch normalisation, ReLU; 2×2 max pooling between stages.

    One stage an entry of `channels`, of `depth` convolutions each; the average over positions
    gives `channels[-1]` features, which are the output where `num_classes` is None.
    """

    num_classes: int | None = None
    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    dtype: str | None = None

    def setup(self) -> None:
        self.head = PooledHead(self.num_classes, dtype=self.dtype)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; normalised by batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        return self.head(x, train)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of every stage: `stage_0`, `stage_1`, …"""
        x, stages = images, {}
        for stage, channels in enumerate(self.channels):
            if stage > 0:
                x = max_pool(x, (2, 2))
            for _ in range(self.depth):
                x = Conv(channels, (3, 3), use_bias=False, dtype=self.dtype)(x)
                x = nn.relu(BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
            stages[f"stage_{stage}"] = x
        return stages
