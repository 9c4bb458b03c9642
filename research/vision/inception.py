"""Inception v3 (Szegedy et al., 2016: Rethinking the Inception architecture)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.conv_norm import ConvNorm
from research.nn.initializers import truncated_normal
from research.nn.pooling import avg_pool, max_pool
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead


@dataclass(frozen=True)
class Branch:
    """Of a block: pooling, then convolutions of so many features and such windows, then, where
    `fork` is not 0, a 1×3 and a 3×1 convolution side by side.

    With stride 2 the last of these, or the pooling where it is alone, halves the maps.
    """

    convs: tuple[tuple[int, int | tuple[int, int]], ...] = ()
    pool: Literal["", "average", "max"] = ""
    strides: int = 1
    fork: int = 0


def _block_a(pooled: int) -> dict[str, Branch]:
    return {
        "branch_1x1": Branch(((64, 1),)),
        "branch_5x5": Branch(((48, 1), (64, 5))),
        "branch_3x3_double": Branch(((64, 1), (96, 3), (96, 3))),
        "branch_pool": Branch(((pooled, 1),), pool="average"),
    }


def _block_c(c: int) -> dict[str, Branch]:
    row, column = (1, 7), (7, 1)
    return {
        "branch_1x1": Branch(((192, 1),)),
        "branch_7x7": Branch(((c, 1), (c, row), (192, column))),
        "branch_7x7_double": Branch(((c, 1), (c, column), (c, row), (c, column), (192, row))),
        "branch_pool": Branch(((192, 1),), pool="average"),
    }


_BLOCK_B = {
    "branch_3x3": Branch(((384, 3),), strides=2),
    "branch_3x3_double": Branch(((64, 1), (96, 3), (96, 3)), strides=2),
    "branch_pool": Branch(pool="max", strides=2),
}
_BLOCK_D = {
    "branch_3x3": Branch(((192, 1), (320, 3)), strides=2),
    "branch_7x7": Branch(((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)), strides=2),
    "branch_pool": Branch(pool="max", strides=2),
}
_BLOCK_E = {
    "branch_1x1": Branch(((320, 1),)),
    "branch_3x3": Branch(((384, 1),), fork=384),
    "branch_3x3_double": Branch(((448, 1), (384, 3)), fork=384),
    "branch_pool": Branch(((192, 1),), pool="average"),
}
BLOCKS: Mapping[str, Mapping[str, Branch]] = {
    "mixed_5b": _block_a(32),
    "mixed_5c": _block_a(64),
    "mixed_5d": _block_a(64),
    "mixed_6a": _BLOCK_B,
    "mixed_6b": _block_c(128),
    "mixed_6c": _block_c(160),
    "mixed_6d": _block_c(160),
    "mixed_6e": _block_c(192),
    "mixed_7a": _BLOCK_D,
    "mixed_7b": _BLOCK_E,
    "mixed_7c": _BLOCK_E,
}
"""The branches of every block by name, table 1 and figures 5 to 7."""

_AUXILIARY_INPUT = "mixed_6e"
_ConvNorm = partial(ConvNorm, padding=0, epsilon=1e-3, kernel_init=truncated_normal(0.1))


class InceptionV3(nn.Module):
    """The 48-layer network for 299×299 images.

    Its blocks are called as in the published weights, `mixed_5b` to `mixed_7c`. `auxiliary` adds
    the classifier behind `mixed_6e`, which `with_auxiliary` also returns; it counts 0.4 in training
    (0.3 in Szegedy et al.'s own).

    torchvision's weights take pixels in [-1, 1]: `data.augment.Normalize` with mean and std 0.5 of
    those in [0, 1], not ImageNet's, from which torchvision's own model turns them into these
    (`transform_input`).
    """

    num_classes: int | None = 1000
    auxiliary: bool = False
    dropout_rate: float = 0.5
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.head = PooledHead(self.num_classes, self.dropout_rate, truncated_normal(0.1), **types)
        if self.auxiliary and self.num_classes is not None:
            self.auxiliary_head = AuxiliaryHead(self.num_classes, **types)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout and batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        return self.head(x, train)

    def with_auxiliary(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch outputs"], list[Float[Array, "batch outputs"]]]:
        """The logits, and those of the auxiliary classifier."""
        maps = self.features(images, train)
        *_, x = maps.values()
        return self.head(x, train), [self.auxiliary_head(maps[_AUXILIARY_INPUT], train)]

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `stem` and of every block."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv_norm: Any = partial(_ConvNorm, **types)
        x = conv_norm(32, 3, strides=2, name="conv_1a")(images, train)
        x = conv_norm(32, 3, name="conv_2a")(x, train)
        x = conv_norm(64, 3, padding=1, name="conv_2b")(x, train)
        x = max_pool(x, (3, 3), (2, 2))
        x = conv_norm(80, 1, name="conv_3b")(x, train)
        x = conv_norm(192, 3, name="conv_4a")(x, train)
        maps = {"stem": x}
        x = max_pool(x, (3, 3), (2, 2))
        for name, branches in BLOCKS.items():
            block = Mixed(branches, name=name, **types)
            x = maps[name] = apply_block(block, x, train, self.remat)
        return maps


class Mixed(nn.Module):
    """A block: branches side by side. Convolution i of a branch is called `<branch>_<i>`."""

    branches: Mapping[str, Branch]
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns out_channels"]:
        """The branches' maps, one behind the other."""
        conv_norm: Any = partial(_ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype)
        outputs: list[Array] = []
        for name, branch in self.branches.items():
            y, last = x, len(branch.convs) - 1
            if branch.pool == "average":
                y = avg_pool(y, (3, 3), (1, 1), ((1, 1), (1, 1)))
            elif branch.pool == "max":
                y = max_pool(y, (3, 3), (branch.strides, branch.strides))
            for i, (features, size) in enumerate(branch.convs):
                halves = branch.strides > 1 and i == last
                y = conv_norm(
                    features,
                    size,
                    strides=branch.strides if halves else 1,
                    padding=0 if halves else None,
                    name=f"{name}_{i}",
                )(y, train)
            if branch.fork:
                outputs += [
                    conv_norm(branch.fork, size, padding=None, name=f"{name}_fork_{j}")(y, train)
                    for j, size in enumerate(((1, 3), (3, 1)))
                ]
            else:
                outputs.append(y)
        return jnp.concatenate(outputs, -1)


class AuxiliaryHead(nn.Module):
    """A classifier halfway: 5×5 means at stride 3, a 1×1 and a 5×5 convolution, their means."""

    num_classes: int
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch num_classes"]:
        """Logits."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = avg_pool(x, (5, 5), (3, 3))
        x = _ConvNorm(128, 1, name="conv_0", **types)(x, train)
        init = truncated_normal(0.01)
        x = _ConvNorm(768, 5, kernel_init=init, name="conv_1", **types)(x, train)
        init = truncated_normal(0.001)
        return nn.Dense(self.num_classes, kernel_init=init, name="head", **types)(
            x.mean(axis=(1, 2))
        )
