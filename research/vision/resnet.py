"""Residual networks for images of some 224×224 (He, Zhang, Ren, Sun, 2016)."""

from functools import partial
from typing import Any, Literal, NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.conv_norm import ConvNorm
from research.nn.pooling import max_pool
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.sizes import sizes_of
from research.vision.stride import check_stride


class ResNetSizes(NamedTuple):
    """Blocks and channels of each stage; bottlenecks give four times as many."""

    stage_sizes: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)


# Table 1.
_DEPTHS = {
    18: ResNetSizes((2, 2, 2, 2)),
    34: ResNetSizes((3, 4, 6, 3)),
    50: ResNetSizes((3, 4, 6, 3)),
    101: ResNetSizes((3, 4, 23, 3)),
    152: ResNetSizes((3, 8, 36, 3)),
}
_EXPANSION = 4


class ResNet(nn.Module):
    """A 7×7 convolution, four stages of residual blocks, the average over positions, a classifier.

    Depths 18 and 34 have blocks of two 3×3 convolutions, the others bottlenecks, which have their
    stride in the 3×3 convolution (Goyal et al. 2017, as in all published weights). `width_factor`
    2 makes bottlenecks twice as wide inside (Zagoruyko and Komodakis 2016: Wide ResNet-50-2).
    `stage_sizes`, the blocks of each stage, and their `channels` (a quarter of a bottleneck's
    output, and the first also the stem's) are those of `depth` where they are None.

    `stem` "small" is for images of some 32×32: a 3×3 convolution at stride 1 and no pooling.
    Kernels are He's; with `zero_init_last_norm` every block starts as the identity (Goyal et al.).
    `remat` keeps only the blocks' inputs for the backward pass.
    """

    num_classes: int | None = 1000
    depth: Literal[18, 34, 50, 101, 152] = 50
    stage_sizes: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    width_factor: int = 1
    stem: Literal["large", "small"] = "large"
    zero_init_last_norm: bool = True
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        super().__post_init__()

    @property
    def sizes(self) -> ResNetSizes:
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
        """The maps of `stem`, before its pooling, and of every stage: `stage_0`, `stage_1`, …

        Raises ValueError for images smaller than the network's stride.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        block: Any = partial(
            BasicBlock if self.depth < 50 else partial(Bottleneck, width_factor=self.width_factor),
            zero_init_last_norm=self.zero_init_last_norm,
            **types,
        )
        size, strides = (7, 2) if self.stem == "large" else (3, 1)
        sizes = self.sizes
        stem_stride = 4 if self.stem == "large" else 1
        check_stride(self, images.shape, stem_stride * 2 ** (len(sizes.stage_sizes) - 1))
        x = ConvNorm(sizes.channels[0], size, strides, name="stem", **types)(images, train)
        maps = {"stem": x}
        if self.stem == "large":
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (depth, channels) in enumerate(zip(*sizes, strict=True)):
            for i in range(depth):
                strides = 2 if stage > 0 and i == 0 else 1
                name = f"stage_{stage}_block_{i}"
                x = apply_block(block(channels, strides, name=name), x, train, self.remat)
            maps[f"stage_{stage}"] = x
        return maps


class BasicBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))); a 1×1 convolution on x where shapes differ."""

    channels: int
    strides: int = 1
    zero_init_last_norm: bool = True
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies the block."""
        conv_norm: Any = partial(ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        branch = conv_norm(self.channels, 3, self.strides, name="conv_0")(x, train)
        branch = conv_norm(
            self.channels,
            3,
            activation=None,
            scale_init=_last_scale(self.zero_init_last_norm),
            name="conv_1",
        )(branch, train)
        if self.strides > 1 or x.shape[-1] != self.channels:
            shortcut = conv_norm(self.channels, 1, self.strides, activation=None, name="shortcut")
            x = shortcut(x, train)
        return nn.relu(x + branch)


class Bottleneck(nn.Module):
    """As `BasicBlock`, with 1×1, 3×3 and 1×1 convolutions; the output has 4 · `channels`."""

    channels: int
    strides: int = 1
    width_factor: int = 1
    zero_init_last_norm: bool = True
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns out_channels"]:
        """Applies the block."""
        conv_norm: Any = partial(ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        width, out_channels = self.channels * self.width_factor, self.channels * _EXPANSION
        branch = conv_norm(width, 1, name="conv_0")(x, train)
        branch = conv_norm(width, 3, self.strides, name="conv_1")(branch, train)
        branch = conv_norm(
            out_channels,
            1,
            activation=None,
            scale_init=_last_scale(self.zero_init_last_norm),
            name="conv_2",
        )(branch, train)
        if self.strides > 1 or x.shape[-1] != out_channels:
            shortcut = conv_norm(out_channels, 1, self.strides, activation=None, name="shortcut")
            x = shortcut(x, train)
        return nn.relu(x + branch)


def _last_scale(zero: bool) -> nn.initializers.Initializer:
    return nn.initializers.zeros if zero else nn.initializers.ones
