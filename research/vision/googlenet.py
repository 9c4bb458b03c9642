"""GoogLeNet (Szegedy et al., 2015: Going deeper with convolutions)."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.conv_norm import ConvNorm
from research.nn.dropout import Dropout
from research.nn.initializers import truncated_normal
from research.nn.pooling import adaptive_avg_pool, ceil_padding, max_pool
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.stride import check_stride

# Of each block: 1×1; 3×3 reduced, 3×3; 5×5 reduced, 5×5; behind the pooling. Table 1.
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
# Auxiliary classifiers see these.
_AUXILIARY_INPUTS = ("stage_1_block_0", "stage_1_block_3")
_init = truncated_normal(0.01)


class GoogLeNet(nn.Module):
    """Nine inception blocks in three stages, in the form of its published weights: with batch
    normalisation, and 3×3 where the paper has 5×5.

    `auxiliary` adds the two classifiers halfway of the paper's section 5, which `with_auxiliary`
    also returns; each counts 0.3 in training.

    torchvision's weights take pixels in [-1, 1]: `data.augment.Normalize` with mean and std 0.5 of
    those in [0, 1], not ImageNet's, from which torchvision's own model turns them into these
    (`transform_input`).
    """

    num_classes: int | None = 1000
    auxiliary: bool = False
    dropout_rate: float = 0.2
    auxiliary_dropout_rate: float = 0.7
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.head = PooledHead(self.num_classes, self.dropout_rate, _init, **types)
        if self.auxiliary and self.num_classes is not None:
            self.auxiliary_head = [
                AuxiliaryHead(self.num_classes, self.auxiliary_dropout_rate, **types)
                for _ in _AUXILIARY_INPUTS
            ]

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout and batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        return self.head(x, train)

    def with_auxiliary(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch outputs"], list[Float[Array, "batch outputs"]]]:
        """The logits, and those of every auxiliary classifier."""
        maps = self.features(images, train)
        heads = zip(self.auxiliary_head, _AUXILIARY_INPUTS, strict=True)
        *_, x = maps.values()
        return self.head(x, train), [head(maps[name], train) for head, name in heads]

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `stem` and of every block: `stage_0_block_0`, …

        Raises ValueError for images smaller than the network's stride.
        """
        check_stride(self, images.shape, 32)
        conv_norm: Any = partial(_ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        x = conv_norm(64, 7, strides=2, name="conv_0")(images, train)
        x = _halve(x, 3)
        x = conv_norm(64, 1, name="conv_1")(x, train)
        x = conv_norm(192, 3, name="conv_2")(x, train)
        maps = {"stem": x}
        for stage, blocks in enumerate(_STAGES):
            x = _halve(x, 3 if stage < 2 else 2)
            for i, channels in enumerate(blocks):
                name = f"stage_{stage}_block_{i}"
                block = InceptionBlock(
                    channels, dtype=self.dtype, param_dtype=self.param_dtype, name=name
                )
                x = maps[name] = apply_block(block, x, train, self.remat)
        return maps


class InceptionBlock(nn.Module):
    """Four branches side by side: 1×1; 1×1 and 3×3; 1×1 and a larger one; pooling and 1×1."""

    channels: tuple[int, int, int, int, int, int]
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch height width out_channels"]:
        """The branches' maps, one behind the other."""
        conv_norm: Any = partial(_ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        c = self.channels
        branch_1 = conv_norm(c[1], 1, name="branch_1_reduce")(x, train)
        branch_2 = conv_norm(c[3], 1, name="branch_2_reduce")(x, train)
        pooled = max_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
        branches = [
            conv_norm(c[0], 1, name="branch_0")(x, train),
            conv_norm(c[2], 3, name="branch_1")(branch_1, train),
            conv_norm(c[4], 3, name="branch_2")(branch_2, train),
            conv_norm(c[5], 1, name="branch_3")(pooled, train),
        ]
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(nn.Module):
    """A classifier halfway: 4×4 means, a 1×1 convolution, two dense layers with dropout between."""

    num_classes: int
    dropout_rate: float = 0.7
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch num_classes"]:
        """Logits."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = _ConvNorm(128, 1, name="conv", **types)(adaptive_avg_pool(x, (4, 4)), train)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(1024, kernel_init=_init, name="dense", **types)(x))
        x = Dropout(self.dropout_rate)(x, not train)
        return nn.Dense(self.num_classes, kernel_init=_init, name="head", **types)(x)


_ConvNorm = partial(ConvNorm, epsilon=1e-3, kernel_init=_init)


def _halve(x: Array, window: int) -> Array:
    """The maximum of windows at stride 2, of those too that reach over the edge."""
    size, strides = (window, window), (2, 2)
    return max_pool(x, size, strides, ceil_padding(x.shape[1:3], size, strides))
