"""The Conformer: attention and convolution over spectrograms (Gulati et al., 2020)."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float

from research.nn.attention import AttentionImplementation, MultiHeadAttention
from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.mlp import MLP
from research.nn.norm import BatchNorm
from research.sequence.acoustic_model import AcousticModel

ConvNorm = Literal["batch", "layer"]


class Conformer(AcousticModel, kw_only=True):
    """Convolutions and `num_layers` blocks.

    The defaults are the paper's small encoder but for a kernel of 31, which has a middle, not 32,
    and for its positions: attention has rotary ones (Su et al., 2021), as in Li, Xu and Zhang
    (2021), instead of Transformer-XL's relative sines. `conv_norm` "layer" takes the place of
    batch norm, which wants large batches. For `scan_layers` and `remat` see
    `nn.transformer.Transformer`.
    """

    num_layers: int = 16
    num_heads: int = 4
    embed_dim: int = 144
    mlp_dim: int = 576
    kernel_size: int = 31
    stem_channels: int = 144
    dropout_rate: float = 0.1
    conv_norm: ConvNorm = "batch"
    attention_implementation: AttentionImplementation = "auto"
    scan_layers: bool = False
    remat: bool = False

    @property
    def features(self) -> int:
        return self.embed_dim

    @nn.compact
    def encode(
        self,
        x: Float[Array, "batch frames features"],
        mask: Bool[Array, "batch frames"],
        train: bool,
    ) -> Float[Array, "batch frames features"]:
        """The last block's output."""
        x = Dropout(self.dropout_rate)(x, deterministic=not train)
        make: Any = partial(
            ConformerBlock,
            self.num_heads,
            self.mlp_dim,
            self.kernel_size,
            self.conv_norm,
            self.dropout_rate,
            self.attention_implementation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

        def apply(block: ConformerBlock, x: Array) -> Array:
            return block(x, mask, train)

        if self.remat:  # inside a scan XLA cannot undo the recomputation, so it needs no barrier
            apply = nn.remat(apply, prevent_cse=not self.scan_layers)
        if not self.scan_layers:
            for layer in range(self.num_layers):
                x = apply(make(name=f"block_{layer}"), x)
            return x
        scan = nn.scan(
            lambda block, x: (apply(block, x), None),
            variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.num_layers,
        )
        x, _ = scan(make(name="blocks"), x)
        return x


class ConformerBlock(nn.Module):
    """Half a feed-forward network, self-attention, convolution and the other half, each behind a
    norm and with a residual, and a norm (section 2)."""

    num_heads: int
    mlp_dim: int
    kernel_size: int
    conv_norm: ConvNorm = "batch"
    dropout_rate: float = 0.0
    implementation: AttentionImplementation = "auto"
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames features"],
        mask: Bool[Array, "batch frames"],
        train: bool = False,
    ) -> Float[Array, "batch frames features"]:
        """Applies the block; where `mask` is false there is padding, which no other frame sees."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = partial(nn.LayerNorm, epsilon=1e-5, **types)
        dropout = partial(Dropout(self.dropout_rate), deterministic=not train)

        def half(name: str) -> Array:
            mlp = MLP(self.mlp_dim, "silu", dropout_rate=self.dropout_rate, name=name, **types)
            return 0.5 * dropout(mlp(norm(name=f"{name}_norm")(x), deterministic=not train))

        x = x + half("mlp_before")
        attention = MultiHeadAttention(
            self.num_heads,
            rotary_base=10_000.0,
            dropout_rate=self.dropout_rate,
            implementation=self.implementation,
            name="attention",
            **types,
        )
        attended = attention(norm(name="attention_norm")(x), key_mask=mask, deterministic=not train)
        x = x + dropout(attended)
        convolution = ConformerConvolution(
            self.kernel_size, self.conv_norm, name="convolution", **types
        )
        x = x + dropout(convolution(norm(name="convolution_norm")(x), mask, train))
        x = x + half("mlp_after")
        return norm(name="norm")(x)


class ConformerConvolution(nn.Module):
    """A dense layer with a gate (Dauphin et al., 2017), a depthwise convolution over time, a norm,
    swish and a dense layer (figure 2)."""

    kernel_size: int
    norm: ConvNorm = "batch"
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames features"],
        mask: Bool[Array, "batch frames"],
        train: bool = False,
    ) -> Float[Array, "batch frames features"]:
        """Frames where `mask` is false are zeros to the others, and not in the batch's statistics.

        Raises ValueError for another `norm`.
        """
        if self.norm not in ("batch", "layer"):
            raise ValueError(f'norm must be "batch" or "layer", got {self.norm!r}')
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features, kept = x.shape[-1], mask[..., None]
        gated = nn.Dense(2 * features, name="up", **types)(x.reshape(-1, features))
        x = jnp.where(kept, nn.glu(gated).reshape(x.shape), 0)
        x = Conv(
            features, (self.kernel_size,), feature_group_count=features, name="depthwise", **types
        )(x)
        if self.norm == "batch":
            x = BatchNorm(name="norm", **types)(x, use_running_average=not train, mask=kept)
        else:
            x = nn.LayerNorm(epsilon=1e-5, name="norm", **types)(x)
        flat = nn.silu(x).reshape(-1, features)
        return nn.Dense(features, name="down", **types)(flat).reshape(x.shape)
