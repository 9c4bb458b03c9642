"""MobileNet v3 (Howard et al., 2019)."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.channels import round_channels
from research.nn.conv_norm import ConvNorm
from research.nn.dropout import Dropout
from research.nn.inverted_residual import InvertedResidual
from research.nn.remat import apply_block
from research.vision.sizes import check_positive
from research.vision.stride import check_stride

Block = tuple[int, int, int, bool, bool, int]
"""Window, hidden channels, channels, squeeze and excitation, hard swish (or ReLU), stride."""

# Tables 1 and 2.
_BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "large": (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    ),
    "small": (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    ),
}
_HIDDEN = {"large": 1280, "small": 1024}


class MobileNetV3(nn.Module):
    """Searched inverted residual blocks with hard swish and squeeze and excitation.

    `blocks` are those of `size` where they are None: of each the window, the hidden channels, the
    channels, whether there is squeeze and excitation, whether hard swish (or ReLU), the stride.

    `epsilon` of the batch norms is 1e-3 in torchvision's weights; those of timm's
    mobilenetv3_large_100 and mobilenetv3_small_100 have 1e-5.
    """

    num_classes: int | None = 1000
    size: Literal["large", "small"] = "large"
    blocks: tuple[Block, ...] | None = None
    width_factor: float = 1.0
    dropout_rate: float = 0.2
    epsilon: float = 1e-3
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.blocks is not None:
            check_positive(self, "blocks", self.blocks)
        super().__post_init__()

    def setup(self) -> None:
        dense: Any = partial(
            nn.Dense,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(0.01),
        )
        self.dense = dense(round_channels(_HIDDEN[self.size] * self.width_factor))
        self.dropout = Dropout(self.dropout_rate)
        if self.num_classes is not None:
            self.head = dense(self.num_classes)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout and batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        x = jax.nn.hard_swish(self.dense(x.mean(axis=(1, 2))))
        x = self.dropout(x, not train)
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `stem`, of every block, `block_0`, `block_1`, …, and the last 1×1
        convolution's, `output`.

        Raises ValueError for images smaller than the network's stride.
        """
        blocks = _BLOCKS[self.size] if self.blocks is None else self.blocks
        check_stride(self, images.shape, 2 * math.prod(strides for *_, strides in blocks))
        settings: dict[str, Any] = {
            "epsilon": self.epsilon,
            "momentum": 0.99,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        conv_norm: Any = partial(ConvNorm, activation=jax.nn.hard_swish, **settings)
        stem = conv_norm(round_channels(16 * self.width_factor), strides=2, name="stem")
        maps = {"stem": stem(images, train)}
        x = maps["stem"]
        for i, (size, hidden, channels, squeeze, swish, strides) in enumerate(blocks):
            hidden_dim = round_channels(hidden * self.width_factor)
            block = InvertedResidual(
                round_channels(channels * self.width_factor),
                hidden_dim,
                size,
                strides,
                squeeze_dim=round_channels(hidden_dim // 4) if squeeze else 0,
                activation=jax.nn.hard_swish if swish else jax.nn.relu,
                gate=jax.nn.hard_sigmoid,
                name=f"block_{i}",
                **settings,
            )
            x = maps[f"block_{i}"] = apply_block(block, x, train, self.remat)
        maps["output"] = conv_norm(6 * x.shape[-1], 1, name="output")(x, train)
        return maps
