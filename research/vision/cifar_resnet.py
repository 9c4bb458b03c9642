"""Residual networks for images of some 32×32."""

from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.conv_norm import ConvNorm
from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.initializers import he_normal_fan_out
from research.nn.norm import BatchNorm
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.stride import check_stride


class CifarResNet(nn.Module):
    """A 3×3 convolution and three stages of (depth - 2) / 6 residual blocks (He, Zhang, Ren, Sun,
    2016, section 4.2): depths 20, 32, 44, 56, 110, and any 6n + 2.

    Where shapes differ, `shortcut` "A" takes every second pixel and fills the new channels with
    zeros, half on each side; "B" is a 1×1 convolution. Kernels are He's.
    """

    num_classes: int | None = 10
    depth: int = 20
    channels: int = 16
    shortcut: Literal["A", "B"] = "A"
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"depth={self.depth} of CifarResNet must be 6n + 2, such as 20")
        super().__post_init__()

    def setup(self) -> None:
        self.head = PooledHead(
            self.num_classes,
            kernel_init=nn.initializers.he_normal(),
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
        """The maps of `stem` and of `stage_0` to `stage_2`.

        Raises ValueError for images smaller than the network's stride.
        """
        check_stride(self, images.shape, 4)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = ConvNorm(self.channels, name="stem", **types)(images, train)
        maps = {"stem": x}
        for stage in range(3):
            for i in range((self.depth - 2) // 6):
                block = CifarBlock(
                    self.channels * 2**stage,
                    strides=2 if stage > 0 and i == 0 else 1,
                    shortcut=self.shortcut,
                    name=f"stage_{stage}_block_{i}",
                    **types,
                )
                x = apply_block(block, x, train, self.remat)
            maps[f"stage_{stage}"] = x
        return maps


class CifarBlock(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    channels: int
    strides: int = 1
    shortcut: Literal["A", "B"] = "A"
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies the block."""
        conv_norm: Any = partial(ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        branch = conv_norm(self.channels, 3, self.strides, name="conv_0")(x, train)
        branch = conv_norm(self.channels, 3, activation=None, name="conv_1")(branch, train)
        missing = self.channels - x.shape[-1]
        if self.strides > 1 or missing:
            if self.shortcut == "A":
                x = x[:, :: self.strides, :: self.strides]
                x = jnp.pad(x, ((0, 0),) * 3 + ((missing // 2, missing - missing // 2),))
            else:
                shortcut = conv_norm(
                    self.channels, 1, self.strides, activation=None, name="shortcut"
                )
                x = shortcut(x, train)
        return nn.relu(x + branch)


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 pre-activation blocks, `widen_factor` times as wide
    (Zagoruyko and Komodakis, 2016): WRN-28-10, WRN-40-4, WRN-16-8.

    Dropout is between the two convolutions of a block; the paper has 0.3 without augmentation
    and on SVHN. Kernels are He's.
    """

    num_classes: int | None = 10
    depth: int = 28
    widen_factor: int = 10
    dropout_rate: float = 0.0
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth={self.depth} of WideResNet must be 6n + 4, such as 28")
        super().__post_init__()

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
        """The maps of `stem`, `stage_0` to `stage_2`, and of the last activation, `output`.

        Raises ValueError for images smaller than the network's stride.
        """
        check_stride(self, images.shape, 4)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Conv(16, (3, 3), use_bias=False, kernel_init=he_normal_fan_out, name="stem", **types)(
            images
        )
        maps = {"stem": x}
        for stage in range(3):
            for i in range((self.depth - 4) // 6):
                block = PreactivationBlock(
                    16 * self.widen_factor * 2**stage,
                    strides=2 if stage > 0 and i == 0 else 1,
                    dropout_rate=self.dropout_rate,
                    name=f"stage_{stage}_block_{i}",
                    **types,
                )
                x = apply_block(block, x, train, self.remat)
            maps[f"stage_{stage}"] = x
        maps["output"] = nn.relu(BatchNorm(not train, name="norm", **types)(x))
        return maps


class PreactivationBlock(nn.Module):
    """x + conv(dropout(relu(norm(conv(relu(norm(x))))))); where shapes differ a 1×1 convolution of
    relu(norm(x)) takes the place of x."""

    channels: int
    strides: int = 1
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies the block."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv: Any = partial(Conv, use_bias=False, kernel_init=he_normal_fan_out, **types)
        activated = nn.relu(BatchNorm(not train, name="norm_0", **types)(x))
        branch = conv(self.channels, (3, 3), self.strides, 1, name="conv_0")(activated)
        branch = nn.relu(BatchNorm(not train, name="norm_1", **types)(branch))
        branch = Dropout(self.dropout_rate)(branch, not train)
        branch = conv(self.channels, (3, 3), 1, 1, name="conv_1")(branch)
        if self.strides > 1 or x.shape[-1] != self.channels:
            x = conv(self.channels, (1, 1), self.strides, 0, name="shortcut")(activated)
        return x + branch
