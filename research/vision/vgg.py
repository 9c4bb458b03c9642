"""VGG (Simonyan and Zisserman, 2015)."""

from functools import partial
from typing import Any, Literal, NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.initializers import he_normal_fan_out
from research.nn.norm import BatchNorm
from research.nn.pooling import adaptive_avg_pool, max_pool
from research.vision.sizes import sizes_of


class VGGSizes(NamedTuple):
    """Convolutions and channels of each stage."""

    stage_sizes: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)


# Configurations A, B, D and E of table 1.
_DEPTHS = {
    11: VGGSizes((1, 1, 2, 2, 2)),
    13: VGGSizes((2, 2, 2, 2, 2)),
    16: VGGSizes((2, 2, 3, 3, 3)),
    19: VGGSizes((2, 2, 4, 4, 4)),
}


class VGG(nn.Module):
    """Stages of 3×3 convolutions, each with 2×2 max pooling behind it, then dense layers.

    `stage_sizes`, the convolutions of each stage, and their `channels` are those of `depth` where
    they are None.

    `hidden` are the widths of the dense layers between; for small images `hidden=()` and
    `pooled_size=1` are usual. The last maps are averaged to `pooled_size`, which changes nothing at
    224×224. `batch_norm` is not in the paper, but in most of its published weights. Convolutions
    are He's. `remat` keeps only the stages' inputs for the backward pass.
    """

    num_classes: int | None = 1000
    depth: Literal[11, 13, 16, 19] = 16
    stage_sizes: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    batch_norm: bool = False
    hidden: tuple[int, ...] = (4096, 4096)
    pooled_size: int = 7
    dropout_rate: float = 0.5
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        super().__post_init__()

    @property
    def sizes(self) -> VGGSizes:
        """Those of `depth`, and what is set instead."""
        return sizes_of(self, _DEPTHS[self.depth])

    def setup(self) -> None:
        dense: Any = partial(
            nn.Dense,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(0.01),
        )
        self.dense = [dense(units) for units in self.hidden]
        self.dropout = Dropout(self.dropout_rate)
        if self.num_classes is not None:
            self.head = dense(self.num_classes)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or what the last layer sees without classes; dropout where `train`."""
        *_, x = self.features(images, train).values()
        x = adaptive_avg_pool(x, (self.pooled_size, self.pooled_size))
        x = x.reshape(x.shape[0], -1)
        for dense in self.dense:
            x = self.dropout(nn.relu(dense(x)), not train)
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of every stage, `stage_0` to `stage_4`, each after its pooling."""
        x, maps = images, {}
        for stage in range(len(self.sizes.stage_sizes)):
            # Not an argument, which would be traced.
            def apply_stage(vgg: VGG, x: Array, stage: int = stage) -> Array:
                return vgg._stage(stage, x, train)

            x = (nn.remat(apply_stage) if self.remat else apply_stage)(self, x)
            maps[f"stage_{stage}"] = x
        return maps

    def _stage(self, stage: int, x: Array, train: bool) -> Array:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        depth, channels = (sizes[stage] for sizes in self.sizes)
        for place in (f"{stage}_{i}" for i in range(depth)):
            x = Conv(
                channels, (3, 3), kernel_init=he_normal_fan_out, name=f"conv_{place}", **types
            )(x)
            if self.batch_norm:
                x = BatchNorm(not train, name=f"norm_{place}", **types)(x)
            x = nn.relu(x)
        return max_pool(x, (2, 2))
