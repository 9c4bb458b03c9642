"""EfficientNet (Tan and Le, 2019)."""

import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.channels import round_channels
from research.nn.conv_norm import ConvNorm
from research.nn.inverted_residual import InvertedResidual
from research.nn.remat import apply_block
from research.vision.pooled_head import PooledHead
from research.vision.sizes import check_positive, sizes_of
from research.vision.stride import check_stride


class EfficientNetSizes(NamedTuple):
    """Factors of the numbers of channels and of blocks."""

    width_factor: float
    depth_factor: float


# Expansion, window, stride of the first block, channels, blocks: table 1.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
# By compound scaling, and the dropout rate; their images have 224, 240, 260, 300, 380, 456, 528
# and 600 pixels a side.
_VARIANTS = {
    "b0": (EfficientNetSizes(1.0, 1.0), 0.2),
    "b1": (EfficientNetSizes(1.0, 1.1), 0.2),
    "b2": (EfficientNetSizes(1.1, 1.2), 0.3),
    "b3": (EfficientNetSizes(1.2, 1.4), 0.3),
    "b4": (EfficientNetSizes(1.4, 1.8), 0.4),
    "b5": (EfficientNetSizes(1.6, 2.2), 0.4),
    "b6": (EfficientNetSizes(1.8, 2.6), 0.5),
    "b7": (EfficientNetSizes(2.0, 3.1), 0.5),
}


class EfficientNet(nn.Module):
    """Inverted residual blocks with squeeze and excitation, scaled in width, depth and size of
    images together.

    The factors of compound scaling, `width_factor` and `depth_factor`, are the variant's where they
    are None. `stages` are of the paper's table 1: of each the expansion, the window, the stride of
    its first block, the channels and the number of blocks, before scaling.

    `dropout_rate` None is the variant's own. `stochastic_depth_rate` grows linearly with depth to
    this value. `epsilon` of the batch norms is 1e-3 in the paper, and in published weights from b5
    on; those of b0 to b4 have 1e-5: None takes what the variant's weights have.
    """

    num_classes: int | None = 1000
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = "b0"
    width_factor: float | None = None
    depth_factor: float | None = None
    stages: tuple[tuple[int, int, int, int, int], ...] = _STAGES
    dropout_rate: float | None = None
    stochastic_depth_rate: float = 0.2
    epsilon: float | None = None
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        check_positive(self, "stages", self.stages)
        super().__post_init__()

    @property
    def sizes(self) -> EfficientNetSizes:
        """The variant's, and what is set instead."""
        return sizes_of(self, _VARIANTS[self.variant][0])

    def setup(self) -> None:
        own = _VARIANTS[self.variant][1]
        self.head = PooledHead(
            self.num_classes,
            own if self.dropout_rate is None else self.dropout_rate,
            nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform"),
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
        """The maps of `stem`, of every stage, `stage_0`, `stage_1`, …, and the last 1×1
        convolution's, `output`.

        Raises ValueError for images smaller than the network's stride.
        """
        total = 2 * math.prod(strides for _, _, strides, _, _ in self.stages)
        check_stride(self, images.shape, total)
        width, depth = self.sizes
        late = self.variant in ("b5", "b6", "b7")
        settings: dict[str, Any] = {
            "activation": jax.nn.silu,
            "epsilon": (1e-3 if late else 1e-5) if self.epsilon is None else self.epsilon,
            "momentum": 0.99 if late else 0.9,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        conv_norm: Any = partial(ConvNorm, **settings)
        x = conv_norm(round_channels(32 * width), strides=2, name="stem")(images, train)
        maps = {"stem": x}
        depths = [math.ceil(stage[-1] * depth) for stage in self.stages]
        index = 0
        for stage, (expansion, size, strides, channels, _) in enumerate(self.stages):
            for i in range(depths[stage]):
                block = InvertedResidual(
                    round_channels(channels * width),
                    expansion * x.shape[-1],
                    size,
                    strides if i == 0 else 1,
                    squeeze_dim=x.shape[-1] // 4,
                    squeeze_activation=jax.nn.silu,
                    stochastic_depth_rate=self.stochastic_depth_rate * index / sum(depths),
                    name=f"stage_{stage}_block_{i}",
                    **settings,
                )
                x, index = apply_block(block, x, train, self.remat), index + 1
            maps[f"stage_{stage}"] = x
        maps["output"] = conv_norm(4 * x.shape[-1], 1, name="output")(x, train)
        return maps
