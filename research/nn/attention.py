"""Multi-head attention (Vaswani et al., 2017)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float

from research.nn.dropout import Dropout, is_off

AttentionImplementation = Literal["auto", "xla", "cudnn"]
"""`auto` is cuDNN's fused attention on a GPU where it applies, else `xla`: an explicit softmax."""


class MultiHeadAttention(nn.Module):
    """Attention of several heads with one packed projection of query, key and value.

    Parameters: `qkv/kernel` (features, 3, num_heads, head_dim), `qkv/bias`, `out/kernel`
    (num_heads, head_dim, features), `out/bias`. `head_dim` defaults to features / num_heads.
    """

    num_heads: int
    head_dim: int | None = None
    causal: bool = False
    dropout_rate: float = 0.0
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    implementation: AttentionImplementation = "auto"

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "batch queries features"],
        key: Float[Array, "batch keys features"] | None = None,
        value: Float[Array, "batch keys features"] | None = None,
        *,
        key_mask: Bool[Array, "batch keys"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch queries features"]:
        """Attends from `query` to `key` (self-attention without one), reading `value` (or `key`).

        `key_mask` is true where a key may be attended to. Dropout of the attention weights needs
        an rng named "dropout" unless `deterministic`.

        Raises ValueError where num_heads does not divide the features.
        """
        features = query.shape[-1]
        if self.head_dim is None and features % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide the {features} features, "
                "or head_dim must be set"
            )
        head_dim = self.head_dim or features // self.num_heads
        key = query if key is None else key
        value = key if value is None else value
        projected = PackedProjection(
            num_heads=self.num_heads,
            head_dim=head_dim,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            name="qkv",
        )(query, key, value)
        dropout = None
        if not is_off(self.dropout_rate) and not deterministic:
            dropout = partial(Dropout(self.dropout_rate), deterministic=False)
        attended = dot_product_attention(
            *projected,
            causal=self.causal,
            key_mask=key_mask,
            dropout=dropout,
            implementation=self.implementation,
        )
        out = nn.DenseGeneral(
            features,
            axis=(-2, -1),
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.out_kernel_init or self.kernel_init,
            bias_init=self.bias_init,
            name="out",
        )(attended.reshape(-1, self.num_heads, head_dim))
        return out.reshape(query.shape)


class PackedProjection(nn.Module):
    """Projects query, key and value by one kernel; one matrix product where they are the same."""

    num_heads: int
    head_dim: int
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "batch queries features"],
        key: Float[Array, "batch keys features"],
        value: Float[Array, "batch keys features"],
    ) -> tuple[
        Float[Array, "batch queries num_heads head_dim"],
        Float[Array, "batch keys num_heads head_dim"],
        Float[Array, "batch keys num_heads head_dim"],
    ]:
        """Query, key and value of every head."""
        features, heads = query.shape[-1], (3, self.num_heads, self.head_dim)
        columns = 3 * self.num_heads * self.head_dim
        kernel = self.param(
            "kernel",
            lambda rng, shape, dtype: self.kernel_init(rng, (shape[0], columns), dtype).reshape(
                shape
            ),
            (features, *heads),
            self.param_dtype,
        )
        bias = (
            self.param("bias", self.bias_init, heads, self.param_dtype) if self.use_bias else None
        )
        is_self_attention = query is key and key is value
        query, key, value, kernel, bias = promote_dtype(
            query, key, value, kernel, bias, dtype=self.dtype
        )
        if is_self_attention:
            # On CPU the bias's gradient, a sum over all positions, is fast over one axis only.
            packed = jnp.einsum("td,dcnh->tcnh", query.reshape(-1, features), kernel)
            if bias is not None:
                packed = packed + bias
            packed = packed.reshape(*query.shape[:-1], *heads)
            return packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]
        projected = [
            jnp.einsum("btd,dnh->btnh", x, kernel[:, i]) for i, x in enumerate((query, key, value))
        ]
        if bias is not None:
            projected = [x + bias[i] for i, x in enumerate(projected)]
        return projected[0], projected[1], projected[2]


def dot_product_attention(
    query: Float[Array, "batch queries num_heads head_dim"],
    key: Float[Array, "batch keys num_heads head_dim"],
    value: Float[Array, "batch keys num_heads head_dim"],
    *,
    causal: bool = False,
    key_mask: Bool[Array, "batch keys"] | None = None,
    dropout: Callable[[Array], Array] | None = None,
    implementation: AttentionImplementation = "auto",
) -> Float[Array, "batch queries num_heads head_dim"]:
    """softmax(query keyᵀ / √head_dim) value for each head, the softmax in float32 at least.

    With `causal`, query i attends to keys 0 … i. A query with no key to attend to gets the mean
    of all values under `xla`; its output is meaningless under either implementation.
    """
    match implementation:
        case "auto":
            use_cudnn = _cudnn_applies(query, key, causal, key_mask, dropout)
        case "cudnn" if dropout is not None:
            raise ValueError("implementation='cudnn' has no dropout of attention weights")
        case "xla" | "cudnn":
            use_cudnn = implementation == "cudnn"
        case _:
            raise ValueError(
                f"implementation must be 'auto', 'xla' or 'cudnn', got {implementation!r}"
            )
    if use_cudnn:
        logging.log_first_n(logging.INFO, "attention runs as cuDNN fused attention", 1)
        mask = None if key_mask is None else key_mask[:, None, None, :]
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, is_causal=causal, implementation="cudnn"
        )
    logging.log_first_n(logging.INFO, "attention runs as explicit softmax (XLA)", 1)
    return _explicit_attention(query, key, value, causal, key_mask, dropout)


def _cudnn_applies(
    query: Array,
    key: Array,
    causal: bool,
    key_mask: Array | None,
    dropout: Callable[[Array], Array] | None,
) -> bool:
    """Whether cuDNN's fused attention, forward and backward, takes these arrays on any GPU."""
    num_queries, num_keys, head_dim = query.shape[1], key.shape[1], query.shape[-1]
    return (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and dropout is None
        and head_dim % 8 == 0
        and head_dim <= 128
        and (not causal or num_queries == num_keys)
        and (key_mask is None or (num_queries % 2 == 0 and num_keys % 2 == 0))
    )


def _explicit_attention(
    query: Array,
    key: Array,
    value: Array,
    causal: bool,
    key_mask: Array | None,
    dropout: Callable[[Array], Array] | None,
) -> Array:
    """Computed in (batch, head)-major layout, whose matrix products need no transposes inside."""
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    softmax_dtype = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum(
        "bnqh,bnkh->bnqk",
        query * query.shape[-1] ** -0.5,
        key,
        preferred_element_type=softmax_dtype,
    )
    smallest = jnp.finfo(softmax_dtype).min
    if causal:
        seen = jnp.tri(query.shape[2], key.shape[2], dtype=bool)
        scores = jnp.where(seen, scores, smallest)
    if key_mask is not None:
        scores = jnp.where(key_mask[:, None, None, :], scores, smallest)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    if dropout is not None:
        weights = dropout(weights)
    return jnp.einsum("bnqk,bnkh->bnqh", weights, value).swapaxes(1, 2)
