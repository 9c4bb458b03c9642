"""DenseNet (Huang, Liu, van der Maaten, Weinberger, 2017)."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.norm import BatchNorm
from research.nn.pooling import avg_pool, max_pool
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.sizes import sizes_of


class DenseNetSizes(NamedTuple):
    """Layers of each block, new channels of each layer, and channels before the first."""

    stage_sizes: tuple[int, ...]
    growth_rate: int
    stem_channels: int


# Table 1, bottleneck and compression form.
_DEPTHS = {
    121: DenseNetSizes((6, 12, 24, 16), 32, 64),
    161: DenseNetSizes((6, 12, 36, 24), 48, 96),
    169: DenseNetSizes((6, 12, 32, 32), 32, 64),
    201: DenseNetSizes((6, 12, 48, 32), 32, 64),
}


class DenseNet(nn.Module):
    """Four blocks in which every layer sees the maps of all layers before; between blocks a 1×1
    convolution halves the channels and 2×2 means the size.

    `stage_sizes`, the layers of each block, `growth_rate`, the new maps of each layer, and
    `stem_channels`, the maps before the first, are those of `depth` where they are None.

    `dropout_rate` is of every layer's new maps (the paper: 0.2 without augmentation). Kernels are
    He's. `remat` computes a layer's maps anew for the backward pass (Pleiss et al. 2017).
    """

    num_classes: int | None = 1000
    depth: Literal[121, 161, 169, 201] = 121
    stage_sizes: tuple[int, ...] | None = None
    growth_rate: int | None = None
    stem_channels: int | None = None
    dropout_rate: float = 0.0
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        super().__post_init__()

    @property
    def sizes(self) -> DenseNetSizes:
        """Those of `depth`, and what is set instead."""
        return sizes_of(self, _DEPTHS[self.depth])

    def setup(self) -> None:
        self.head = PooledHead(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype)

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
        """The maps of `stem`, before its pooling, of `block_0` to `block_3`, and the last
        activation, `output`."""
        depths, growth_rate, channels = self.sizes
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        he = nn.initializers.he_normal()
        conv = Conv(
            channels, (7, 7), 2, 3, use_bias=False, kernel_init=he, name="stem_conv", **types
        )
        x = nn.relu(BatchNorm(not train, name="stem_norm", **types)(conv(images)))
        maps = {"stem": x}
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block, depth in enumerate(depths):
            if block > 0:
                x = nn.relu(BatchNorm(not train, name=f"transition_{block - 1}_norm", **types)(x))
                x = Conv(
                    x.shape[-1] // 2,
                    (1, 1),
                    use_bias=False,
                    kernel_init=he,
                    name=f"transition_{block - 1}_conv",
                    **types,
                )(x)
                x = avg_pool(x, (2, 2))
            for i in range(depth):
                layer = DenseLayer(
                    growth_rate, self.dropout_rate, name=f"block_{block}_layer_{i}", **types
                )
                x = jnp.concatenate([x, apply_block(layer, x, train, self.remat)], -1)
            maps[f"block_{block}"] = x
        maps["output"] = nn.relu(BatchNorm(not train, name="norm", **types)(x))
        return maps


class DenseLayer(nn.Module):
    """The new maps of a layer: norm, ReLU and a 1×1 convolution to 4 · `growth_rate` channels;
    norm, ReLU and a 3×3 convolution to `growth_rate`."""

    growth_rate: int
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch height width growth_rate"]:
        """The new maps alone."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for i, (channels, size) in enumerate(((4 * self.growth_rate, 1), (self.growth_rate, 3))):
            x = nn.relu(BatchNorm(not train, name=f"norm_{i}", **types)(x))
            x = Conv(
                channels,
                (size, size),
                use_bias=False,
                kernel_init=nn.initializers.he_normal(),
                name=f"conv_{i}",
                **types,
            )(x)
        return Dropout(self.dropout_rate)(x, not train)
