"""MLP-Mixer (Tolstikhin et al., 2021)."""

from typing import Any, Literal, NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.mlp import MLP
from research.nn.remat import apply_block
from research.nn.stochastic_depth import StochasticDepth
from research.vision.patches import check_patches
from research.vision.sizes import sizes_of


class MixerSizes(NamedTuple):
    """How wide and deep a Mixer is; the last two are hidden units over patches and channels."""

    embed_dim: int
    num_layers: int
    tokens_dim: int
    channels_dim: int


# Table 1.
_VARIANTS = {
    "small": MixerSizes(512, 8, 256, 2048),
    "base": MixerSizes(768, 12, 384, 3072),
    "large": MixerSizes(1024, 24, 512, 4096),
}
_EPSILON = 1e-6


class Mixer(nn.Module):
    """Patches, blocks of a network over patches and one over channels, the mean over patches.

    `embed_dim`, `num_layers` and the hidden units over patches, `tokens_dim`, and over channels,
    `channels_dim`, are the variant's where they are None.

    `stochastic_depth_rate` grows linearly with depth to this value (the paper: 0.1). Kernels are
    Glorot's, and the classifier starts at 0.
    """

    num_classes: int | None = 1000
    variant: Literal["small", "base", "large"] = "base"
    embed_dim: int | None = None
    num_layers: int | None = None
    tokens_dim: int | None = None
    channels_dim: int | None = None
    patch_size: int = 16
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        super().__post_init__()

    @property
    def sizes(self) -> MixerSizes:
        """The variant's, and what is set instead."""
        return sizes_of(self, _VARIANTS[self.variant])

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = nn.LayerNorm(_EPSILON, **types)
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, **types)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; dropout where `train`."""
        *_, x = self.features(images, train).values()
        x = self.norm(x).mean(axis=1)
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch patches features"]]:
        """The patches as they enter, `embedding`, and behind every block: `block_0`, …"""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features, num_layers, tokens_dim, channels_dim = self.sizes
        check_patches(images.shape, self.patch_size)
        size = (self.patch_size, self.patch_size)
        x = Conv(features, size, self.patch_size, padding="VALID", name="patch_embed", **types)(
            images
        )
        x = x.reshape(x.shape[0], -1, features)
        layers = {"embedding": x}
        for i in range(num_layers):
            block = MixerBlock(
                tokens_dim,
                channels_dim,
                self.dropout_rate,
                self.stochastic_depth_rate * i / max(1, num_layers - 1),
                name=f"block_{i}",
                **types,
            )
            x = layers[f"block_{i}"] = apply_block(block, x, train, self.remat)
        return layers


class MixerBlock(nn.Module):
    """x + mlp(norm(x)ᵀ)ᵀ over patches, then x + mlp(norm(x)) over channels."""

    tokens_dim: int
    channels_dim: int
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch patches features"], train: bool
    ) -> Float[Array, "batch patches features"]:
        """Applies the block."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        skip = StochasticDepth(self.stochastic_depth_rate)

        def mlp(hidden_dim: int, name: str, x: Array) -> Array:
            y = MLP(
                hidden_dim,
                "gelu",
                dropout_rate=self.dropout_rate,
                kernel_init=nn.initializers.glorot_uniform(),
                name=name,
                **types,
            )(x, deterministic=not train)
            return Dropout(self.dropout_rate)(y, not train)

        y = nn.LayerNorm(_EPSILON, name="tokens_norm", **types)(x).swapaxes(1, 2)
        x = x + skip(mlp(self.tokens_dim, "tokens_mlp", y).swapaxes(1, 2), not train)
        y = nn.LayerNorm(_EPSILON, name="channels_norm", **types)(x)
        return x + skip(mlp(self.channels_dim, "channels_mlp", y), not train)
