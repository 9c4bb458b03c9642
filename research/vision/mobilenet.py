"""MobileNet v1 and v2."""

import math
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.channels import round_channels
from research.nn.conv_norm import ConvNorm
from research.nn.inverted_residual import InvertedResidual
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.sizes import check_positive
from research.vision.stride import check_stride

# Channels and stride of each block: table 1.
_V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Expansion, channels, blocks and stride of the first: table 2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV1(nn.Module):
    """Depthwise 3×3 and 1×1 convolutions in turns (Howard et al., 2017), ReLU6 as published.

    `width_factor` is the paper's width multiplier; its resolution multiplier is the data's size.
    """

    num_classes: int | None = 1000
    width_factor: float = 1.0
    dropout_rate: float = 0.0
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        self.head = PooledHead(
            self.num_classes,
            self.dropout_rate,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

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
        """The maps of `stem` and of every block: `block_0` to `block_12`.

        Raises ValueError for images smaller than the network's stride.
        """
        check_stride(self, images.shape, 2 * math.prod(strides for _, strides in _V1))
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        stem = ConvNorm(
            round_channels(32 * self.width_factor),
            strides=2,
            activation=jax.nn.relu6,
            name="stem",
            **types,
        )
        maps = {"stem": stem(images, train)}
        x = maps["stem"]
        for i, (channels, strides) in enumerate(_V1):
            name = f"block_{i}"
            block = SeparableBlock(
                round_channels(channels * self.width_factor), strides, name=name, **types
            )
            x = maps[name] = apply_block(block, x, train, self.remat)
        return maps


class SeparableBlock(nn.Module):
    """A 3×3 convolution, `depthwise`, and a 1×1, `pointwise`, each with norm and ReLU6."""

    channels: int
    strides: int = 1
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies the block."""
        conv_norm: Any = partial(
            ConvNorm, activation=jax.nn.relu6, dtype=self.dtype, param_dtype=self.param_dtype
        )
        x = conv_norm(
            x.shape[-1],
            strides=self.strides,
            feature_group_count=x.shape[-1],
            name="depthwise",
        )(x, train)
        return conv_norm(self.channels, 1, name="pointwise")(x, train)


class MobileNetV2(nn.Module):
    """Inverted residual blocks with linear bottlenecks (Sandler et al., 2018).

    `width_factor` is the paper's width multiplier, which leaves the last 1280 channels as they are
    unless it is above 1. `stages` are of the paper's table 2: of each the expansion, the channels,
    the number of blocks and the stride of the first. `stem` "small" is for images of some 32×32:
    the first two of the five halvings are left out.
    """

    num_classes: int | None = 1000
    width_factor: float = 1.0
    stages: tuple[tuple[int, int, int, int], ...] = _V2
    stem: Literal["large", "small"] = "large"
    dropout_rate: float = 0.2
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_positive(self, "stages", self.stages)
        super().__post_init__()

    def setup(self) -> None:
        self.head = PooledHead(
            self.num_classes,
            self.dropout_rate,
            nn.initializers.normal(0.01),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout and batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        return self.head(x, train)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `stem`, of every block, `block_0`, `block_1`, …, and the last 1×1
        convolution's, `output`.

        Raises ValueError for images smaller than the network's stride.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv_norm: Any = partial(ConvNorm, activation=jax.nn.relu6, **types)
        # A small stem takes away the first two of the strides.
        small = self.stem == "small"
        strides_of = [
            1 if small and stage == 1 else strides
            for stage, (*_, strides) in enumerate(self.stages)
        ]
        check_stride(self, images.shape, (1 if small else 2) * math.prod(strides_of))
        stem = conv_norm(
            round_channels(32 * self.width_factor), strides=1 if small else 2, name="stem"
        )
        maps = {"stem": stem(images, train)}
        x = maps["stem"]
        for (expansion, channels, depth, _), strides in zip(self.stages, strides_of, strict=True):
            for i in range(depth):
                name = f"block_{len(maps) - 1}"
                block = InvertedResidual(
                    round_channels(channels * self.width_factor),
                    expansion * x.shape[-1],
                    strides=strides if i == 0 else 1,
                    activation=jax.nn.relu6,
                    name=name,
                    **types,
                )
                x = maps[name] = apply_block(block, x, train, self.remat)
        last = round_channels(1280 * max(1.0, self.width_factor))
        maps["output"] = conv_norm(last, 1, name="output")(x, train)
        return maps
