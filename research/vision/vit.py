"""Vision Transformer (Dosovitskiy et al., 2021)."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.attention import AttentionImplementation
from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.transformer import Transformer
from research.vision.patches import check_patches
from research.vision.sizes import sizes_of


class ViTSizes(NamedTuple):
    """How wide and deep a ViT is."""

    embed_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int


# Table 1, and Touvron et al. 2021 for the smaller ones.
_VARIANTS = {
    "tiny": ViTSizes(192, 12, 3, 768),
    "small": ViTSizes(384, 12, 6, 1536),
    "base": ViTSizes(768, 12, 12, 3072),
    "large": ViTSizes(1024, 24, 16, 4096),
}


class ViT(nn.Module):
    """Patches, positions, a pre-norm Transformer, a layer norm and a classifier.

    `embed_dim`, `num_layers`, `num_heads` and `mlp_dim` are the variant's where they are None.

    `pool` "token" classifies what becomes of a learned token; "average" the mean over patches,
    which are normalised before it (Beyer et al. 2022: Better plain ViT baselines) or, with
    `norm_after_pool`, behind it. Without a token `class_token` is False.

    `positions` "learned" are of one size of images, the data's, and can be resized when weights
    are read; "sine" are Beyer et al.'s, for any size. `stochastic_depth_rate` grows linearly with
    depth to this value (Touvron et al.: 0.1). Kernels are Glorot's, and the classifier starts at 0.
    For `scan_layers` and `remat` see `nn.transformer.Transformer`.
    """

    num_classes: int | None = 1000
    variant: Literal["tiny", "small", "base", "large"] = "base"
    embed_dim: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    mlp_dim: int | None = None
    patch_size: int = 16
    class_token: bool = True
    pool: Literal["token", "average"] = "token"
    norm_after_pool: bool = False
    positions: Literal["learned", "sine"] = "learned"
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    epsilon: float = 1e-6
    attention_implementation: AttentionImplementation = "auto"
    scan_layers: bool = False
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.pool == "token" and not self.class_token:
            raise ValueError('pool="token" of ViT needs class_token=True')
        sizes = self.sizes
        if sizes.embed_dim % sizes.num_heads:
            raise ValueError(
                f"num_heads={sizes.num_heads} of ViT must divide embed_dim={sizes.embed_dim}"
            )
        super().__post_init__()

    @property
    def sizes(self) -> ViTSizes:
        """The variant's, and what is set instead."""
        return sizes_of(self, _VARIANTS[self.variant])

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        sizes = self.sizes
        size = (self.patch_size, self.patch_size)
        self.patch_embed = Conv(sizes.embed_dim, size, self.patch_size, padding="VALID", **types)
        self.dropout = Dropout(self.dropout_rate)
        self.transformer = Transformer(
            num_layers=sizes.num_layers,
            num_heads=sizes.num_heads,
            mlp_dim=sizes.mlp_dim,
            final_norm=False,
            scan_layers=self.scan_layers,
            remat=self.remat,
            activation="gelu",
            dropout_rate=self.dropout_rate,
            mlp_dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
            stochastic_depth_rate=self.stochastic_depth_rate,
            epsilon=self.epsilon,
            kernel_init=nn.initializers.glorot_uniform(),
            implementation=self.attention_implementation,
            **types,
        )
        self.norm = nn.LayerNorm(self.epsilon, **types)
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, **types)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or normalised features without classes; dropout where `train`."""
        x = self.transformer(self._tokens(images, train), deterministic=not train)
        if not self.norm_after_pool:
            x = self.norm(x)
        x = x[:, 0] if self.pool == "token" else x[:, int(self.class_token) :].mean(axis=1)
        if self.norm_after_pool:
            x = self.norm(x)
        return x if self.num_classes is None else self.head(x)

    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch tokens features"]]:
        """The tokens as they enter, `embedding`, and behind every block: `block_0`, … The class
        token is the first."""
        x = self._tokens(images, train)
        layers = self.transformer.layers(x, deterministic=not train)
        return {"embedding": x, **{f"block_{i}": layer for i, layer in enumerate(layers)}}

    @nn.compact
    def _tokens(self, images: Array, train: bool) -> Array:
        """Patches in rows, the class token before them, positions added.

        Raises ValueError where the patches do not cover the images.
        """
        check_patches(images.shape, self.patch_size)
        x = self.patch_embed(images)
        rows, columns, features = x.shape[1:]
        x = x.reshape(x.shape[0], rows * columns, features)
        param_dtype = jnp.dtype(self.param_dtype)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (features,), param_dtype)
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, features))
            x = jnp.concatenate([token, x], 1)
        if self.positions == "learned":
            shape = (x.shape[1], features)
            positions = self.param("positions", nn.initializers.normal(0.02), shape, param_dtype)
        else:
            sines = sine_positions(rows, columns, features)
            positions = jnp.asarray(np.pad(sines, ((int(self.class_token), 0), (0, 0))))
        return self.dropout(x + positions.astype(x.dtype), not train)


def sine_positions(
    rows: int, columns: int, features: int, max_period: float = 10_000.0
) -> Float[np.ndarray, "positions features"]:
    """Sine and cosine of column and row, each with a quarter of the features (Beyer et al.)."""
    if features % 4 or features < 8:
        raise ValueError(f"sine positions need a multiple of 4 features, got {features}")
    quarter = features // 4
    frequencies = max_period ** -(np.arange(quarter) / (quarter - 1))
    row, column = np.mgrid[:rows, :columns].reshape(2, -1, 1) * frequencies
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], axis=1)
