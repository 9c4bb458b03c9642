"""ConvNeXt (Liu et al., 2022: A ConvNet for the 2020s)."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.initializers import truncated_normal
from research.nn.stochastic_depth import StochasticDepth
from research.vision.sizes import sizes_of


class ConvNeXtSizes(NamedTuple):
    """Blocks and channels of each stage."""

    stage_sizes: tuple[int, ...]
    channels: tuple[int, ...]


# Section 3.
_VARIANTS = {
    "tiny": ConvNeXtSizes((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ConvNeXtSizes((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ConvNeXtSizes((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ConvNeXtSizes((3, 3, 27, 3), (192, 384, 768, 1536)),
}
_init = truncated_normal(0.02)
_EPSILON = 1e-6


class ConvNeXt(nn.Module):
    """4×4 patches, four stages of depthwise 7×7 convolutions and position-wise networks.

    `stage_sizes`, the blocks of each stage, and their `channels` are the variant's where they are
    None.

    `stochastic_depth_rate` grows linearly with depth to this value; the paper has 0.1, 0.4, 0.5 and
    0.5 from tiny to large. `scan_layers` compiles one block a stage and loops over it: parameters
    of its blocks are stacked along a leading axis under `stage_<s>_blocks`, where they are
    `stage_<s>_block_<i>` without.
    """

    num_classes: int | None = 1000
    variant: Literal["tiny", "small", "base", "large"] = "tiny"
    stage_sizes: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    stochastic_depth_rate: float = 0.1
    layer_scale: float = 1e-6
    scan_layers: bool = False
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        super().__post_init__()

    @property
    def sizes(self) -> ConvNeXtSizes:
        """The variant's, and what is set instead."""
        return sizes_of(self, _VARIANTS[self.variant])

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = nn.LayerNorm(_EPSILON, **types)
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, kernel_init=_init, **types)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or normalised features without classes; stochastic depth where `train`."""
        *_, x = self.features(images, train).values()
        x = self.norm(x.mean(axis=(1, 2)))
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `stem` and of `stage_0` to `stage_3`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv: Any = partial(Conv, padding="VALID", kernel_init=_init, **types)
        norm: Any = partial(nn.LayerNorm, _EPSILON, **types)
        sizes = self.sizes
        x = norm(name="stem_norm")(conv(sizes.channels[0], (4, 4), 4, name="stem_conv")(images))
        maps, index = {"stem": x}, 0
        last = max(1, sum(sizes.stage_sizes) - 1)
        for stage, (depth, channels) in enumerate(zip(*sizes, strict=True)):
            if stage > 0:
                x = norm(name=f"downsample_{stage - 1}_norm")(x)
                x = conv(channels, (2, 2), 2, name=f"downsample_{stage - 1}_conv")(x)
            rates = [self.stochastic_depth_rate * (index + i) / last for i in range(depth)]
            x, index = self._stage(stage, x, rates, train), index + depth
            maps[f"stage_{stage}"] = x
        return maps

    def _stage(self, stage: int, x: Array, rates: list[Any], train: bool) -> Array:
        block: Any = partial(
            ConvNeXtBlock, self.layer_scale, dtype=self.dtype, param_dtype=self.param_dtype
        )

        if not self.scan_layers:
            for i, rate in enumerate(rates):
                # Not an argument, which would be traced: a rate of 0 draws nothing.
                def apply_one(block: ConvNeXtBlock, x: Array, rate: Any = rate) -> Array:
                    return block(x, rate, train)

                named = block(name=f"stage_{stage}_block_{i}")
                x = (nn.remat(apply_one) if self.remat else apply_one)(named, x)
            return x

        def apply(block: ConvNeXtBlock, x: Array, rate: Any) -> Array:
            return block(x, rate, train)

        if self.remat:  # inside a scan XLA cannot undo the recomputation, so it needs no barrier
            apply = nn.remat(apply, prevent_cse=False)
        scan = nn.scan(
            lambda block, x, rate: (apply(block, x, rate), None),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=len(rates),
        )
        x, _ = scan(block(name=f"stage_{stage}_blocks"), x, jnp.asarray(rates, jnp.float32))
        return x


class ConvNeXtBlock(nn.Module):
    """x + scale · down(gelu(up(norm(depthwise(x))))), the scale one number a channel."""

    layer_scale: float = 1e-6
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        stochastic_depth_rate: Any = 0.0,
        train: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """Applies the block."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        channels = x.shape[-1]
        dense: Any = partial(nn.Dense, kernel_init=_init, **types)
        y = Conv(
            channels,
            (7, 7),
            feature_group_count=channels,
            kernel_init=_init,
            name="depthwise",
            **types,
        )(x)
        y = nn.LayerNorm(_EPSILON, name="norm", **types)(y)
        y = jax.nn.gelu(dense(4 * channels, name="up")(y), approximate=False)
        y = dense(channels, name="down")(y)
        scale = self.param(
            "layer_scale",
            nn.initializers.constant(self.layer_scale),
            (channels,),
            jnp.dtype(self.param_dtype),
        )
        y = y * scale.astype(y.dtype)
        return x + StochasticDepth(stochastic_depth_rate)(y, not train)
