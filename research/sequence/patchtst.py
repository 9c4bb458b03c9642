"""PatchTST: a transformer over patches of each channel (Nie et al., 2023)."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.initializers import symmetric_uniform
from research.nn.transformer import Transformer

EPSILON = 1e-5


class PatchTST(nn.Module):
    """Patches of every channel by itself, learned positions, a post-norm encoder with exact GELU,
    and one linear layer from all patches to the forecast. No channel sees another, but for the
    batch's statistics in training.

    A patch has `patch_length` steps and begins `stride` behind the one before; `pad_end` repeats
    the last step `stride` times for one patch more. With `instance_norm` each channel of a window
    is standardised, and its forecast put back (RevIN, Kim et al. 2022); `affine` learns a scale and
    a bias of each channel in between. `norm` "batch" is the encoder's as published.

    Sizes are the paper's but for the smallest data, which have 4 heads, 16 features, an MLP of 128
    and dropout of 0.3. The authors' code also adds each layer's attention scores to the next one's
    (He et al. 2020) and drops what attention gives twice; here neither is done. Kernels are uniform
    in ±1 / √fan_in. For `scan_layers` and `remat` see `nn.transformer.Transformer`.
    """

    horizon: int
    patch_length: int = 16
    stride: int = 8
    pad_end: bool = True
    instance_norm: bool = True
    affine: bool = False
    num_layers: int = 3
    num_heads: int = 16
    embed_dim: int = 128
    mlp_dim: int = 256
    norm: Literal["batch", "layer"] = "batch"
    dropout_rate: float = 0.2
    attention_dropout_rate: float = 0.0
    head_dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    def __post_init__(self) -> None:
        if self.affine and not self.instance_norm:
            raise ValueError("affine=True of PatchTST needs instance_norm=True")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch input_length channels"], train: bool = False
    ) -> Float[Array, "batch horizon channels"]:
        """The steps behind the inputs, float32; dropout where `train`.

        Raises ValueError where the inputs are shorter than a patch.
        """
        batch, length, channels = inputs.shape
        if length < self.patch_length:
            raise ValueError(f"{length} steps are fewer than patch_length={self.patch_length}")
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if self.instance_norm:
            mean = x.mean(1, keepdims=True)
            std = jnp.sqrt(x.var(1, keepdims=True) + EPSILON)
            x = (x - mean) / std
        if self.affine:
            types = (channels,), jnp.dtype(self.param_dtype)
            scale = self.param("scale", nn.initializers.ones, *types)
            bias = self.param("bias", nn.initializers.zeros, *types)
            x = x * scale + bias
        x = self._forecast(x.swapaxes(1, 2).reshape(batch * channels, length), train)
        x = x.reshape(batch, channels, self.horizon).swapaxes(1, 2)
        if self.affine:
            x = (x - bias) / (scale + EPSILON**2)
        return x * std + mean if self.instance_norm else x

    def _forecast(
        self, series: Float[Array, "batch input_length"], train: bool
    ) -> Float[Array, "batch horizon"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        if self.pad_end:
            series = jnp.pad(series, ((0, 0), (0, self.stride)), mode="edge")
        starts = np.arange(0, series.shape[1] - self.patch_length + 1, self.stride)
        patches = series[:, starts[:, None] + np.arange(self.patch_length)]
        x = nn.Dense(self.embed_dim, kernel_init=init, name="patch_embed", **types)(patches)
        positions = self.param(
            "positions", symmetric_uniform(0.02), x.shape[1:], jnp.dtype(self.param_dtype)
        )
        x = Dropout(self.dropout_rate)(x + positions.astype(x.dtype), deterministic=not train)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            activation="gelu",
            norm=self.norm,
            norm_first=False,
            final_norm=False,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
            mlp_dropout_rate=self.dropout_rate,
            kernel_init=init,
            scan_layers=self.scan_layers,
            remat=self.remat,
            implementation=self.attention_implementation,
            name="transformer",
            **types,
        )(x, deterministic=not train)
        x = nn.Dense(self.horizon, kernel_init=init, name="head", **types)(x.reshape(len(x), -1))
        x = Dropout(self.head_dropout_rate)(x, deterministic=not train)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
