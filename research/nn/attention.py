"""Multi-head attention (Vaswani et al., 2017)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention_mask import attention_mask
from research.nn.dropout import Dropout, is_off
from research.nn.rotary import rotate

AttentionImplementation = Literal["auto", "xla", "cudnn"]
"""`auto` is cuDNN's fused attention on a GPU where it applies, else `xla`: an explicit softmax."""


class MultiHeadAttention(nn.Module):
    """Attention of several heads.

    Parameters: `qkv/kernel` (features, 3, num_heads, head_dim), `qkv/bias`, `out/kernel`
    (num_heads, head_dim, features), `out/bias`. With `num_kv_heads`, so many heads of keys and
    values serve as many groups of query heads (Ainslie et al., 2023), and there are
    `query/kernel` (features, num_heads, head_dim) and `key_value/kernel` (features, 2,
    num_kv_heads, head_dim) instead of `qkv`. `head_dim` defaults to features / num_heads, `scale`
    of the scores to 1 / √head_dim; with another one, the query's kernel starts smaller or larger
    so that the scores do not.

    `window` lets a query see keys less than so many places away. `rotary_base` turns queries and
    keys by their positions (`nn.rotary`). The attention weights (batch, num_heads, queries, keys)
    are in the collection "intermediates" where that is asked for.
    """

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    causal: bool = False
    window: int | None = None
    scale: float | None = None
    rotary_base: float | None = None
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
        segments: Int[Array, "batch queries"] | None = None,
        positions: Int[Array, "#batch queries"] | None = None,
        bias: Float[Array, "#batch num_heads queries keys"] | None = None,
        deterministic: bool = True,
        use_cache: bool = False,
    ) -> Float[Array, "batch queries features"]:
        """Attends from `query` to `key` (self-attention without one), reading `value` (or `key`).

        `key_mask` is true where a key may be attended to. `segments` number the documents that are
        packed into one sequence, which do not see each other. `positions`, for rotary ones, are
        0, 1, … by default. `bias` is added to the scores. Dropout of the attention weights needs
        an rng named "dropout" unless `deterministic`.

        With `use_cache`, keys and values are kept in the collection "cache". A call without one
        makes it: empty, for as many positions as `query` has, or those of `key` where that is
        given. Calls with it append theirs to it, but for those of `key`, and attend to all that it
        holds.

        Raises ValueError where num_heads does not divide the features or num_kv_heads not
        num_heads; for rotary positions of another sequence's keys; and with `use_cache` for
        segments, and for self-attention that is not causal.
        """
        features = query.shape[-1]
        if self.head_dim is None and features % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide the {features} features, "
                "or head_dim must be set"
            )
        head_dim = self.head_dim or features // self.num_heads
        is_self_attention = key is None
        key = query if key is None else key
        value = key if value is None else value
        queries, keys, values = self._projected(query, key, value, head_dim)
        if self.rotary_base is not None:
            if not is_self_attention:
                raise ValueError("rotary_base is of self-attention, and there is a key")
            if positions is None:
                positions = jnp.arange(query.shape[1])[None]
            queries = rotate(queries, positions, self.rotary_base)
            keys = rotate(keys, positions, self.rotary_base)
        causal, window, mask = self.causal, self.window, None
        if use_cache and segments is not None:
            raise ValueError("segments are of packed documents, which are not decoded")
        if use_cache and is_self_attention:
            if not self.causal:
                raise ValueError("use_cache needs causal=True: a cache holds what is before")
            keys, values, mask = self._appended(keys, values, key_mask)
            causal, window, key_mask = False, None, None
        elif use_cache:
            first_keys, first_values = keys.swapaxes(1, 2), values.swapaxes(1, 2)
            keys = self.variable("cache", "key", lambda: first_keys).value.swapaxes(1, 2)
            values = self.variable("cache", "value", lambda: first_values).value.swapaxes(1, 2)
        elif segments is not None:
            mask = (segments[:, :, None] == segments[:, None, :])[:, None]
        dropout = None
        if not is_off(self.dropout_rate) and not deterministic:
            dropout = partial(Dropout(self.dropout_rate), deterministic=False)
        is_observed = self.is_mutable_collection("intermediates")
        attended = dot_product_attention(
            queries,
            keys,
            values,
            causal=causal,
            window=window,
            key_mask=key_mask,
            mask=mask,
            bias=bias,
            scale=self.scale,
            dropout=dropout,
            observe=partial(self.sow, "intermediates", "weights") if is_observed else None,
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

    def _projected(
        self, query: Array, key: Array, value: Array, head_dim: int
    ) -> tuple[Array, Array, Array]:
        settings: dict[str, Any] = {
            "head_dim": head_dim,
            "use_bias": self.use_bias,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
        }
        first_scale = 1.0 if self.scale is None else head_dim**-0.5 / self.scale
        if self.num_kv_heads is None:
            packed = PackedProjection(
                3, self.num_heads, first_scale=first_scale, name="qkv", **settings
            )
            first, second, third = packed(query, key, value)
            return first, second, third
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} must divide num_heads={self.num_heads}"
            )
        (first,) = PackedProjection(
            1, self.num_heads, first_scale=first_scale, name="query", **settings
        )(query)
        second, third = PackedProjection(2, self.num_kv_heads, name="key_value", **settings)(
            key, value
        )
        return first, second, third

    def _appended(
        self, key: Array, value: Array, key_mask: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """The keys and values so far with these at their end, and who may see whom.

        The cache is (batch, num_kv_heads, length, head_dim), as products read it: turning all of it
        around for each token would cost more than reading it.
        """
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
        exists = self.has_variable("cache", "key")
        keys = self.variable("cache", "key", jnp.zeros, key.shape, key.dtype)
        values = self.variable("cache", "value", jnp.zeros, value.shape, value.dtype)
        batch, _, length, _ = key.shape
        seen = self.variable("cache", "mask", jnp.zeros, (batch, length), bool)
        index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
        if not exists:
            return key.swapaxes(1, 2), value.swapaxes(1, 2), None
        start = index.value
        if key_mask is None:
            key_mask = jnp.ones((batch, length), bool)
        append = partial(lax.dynamic_update_slice_in_dim, start_index=start)
        # Without the barrier XLA appends once for each use, each time to a copy of all.
        keys.value, values.value = lax.optimization_barrier(
            (append(keys.value, key, axis=2), append(values.value, value, axis=2))
        )
        seen.value, index.value = append(seen.value, key_mask, axis=1), start + length
        mask = attention_mask(
            start + jnp.arange(length),
            jnp.arange(keys.value.shape[2]),
            causal=True,
            window=self.window,
            key_mask=seen.value,
        )
        return keys.value.swapaxes(1, 2), values.value.swapaxes(1, 2), mask


class PackedProjection(nn.Module):
    """Projects one to three inputs to heads by one kernel; one product where they are the same.

    Parameters: `kernel` (features, num_inputs, num_heads, head_dim) and `bias`, without the second
    axis for one input. The first input's kernel starts `first_scale` times as large.
    """

    num_inputs: int
    num_heads: int
    head_dim: int
    first_scale: float = 1.0
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, *inputs: Float[Array, "batch _length features"]
    ) -> tuple[Float[Array, "batch _length num_heads head_dim"], ...]:
        """The heads of each input."""
        features, one = inputs[0].shape[-1], (self.num_heads, self.head_dim)
        heads = one if self.num_inputs == 1 else (self.num_inputs, *one)
        columns = math.prod(heads)

        def init(rng: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
            kernel = self.kernel_init(rng, (shape[0], columns), dtype)
            if self.first_scale != 1.0:
                width = columns // self.num_inputs
                kernel = kernel.at[:, :width].multiply(self.first_scale)
            return kernel.reshape(shape)

        kernel = self.param("kernel", init, (features, *heads), self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, heads, self.param_dtype) if self.use_bias else None
        )
        are_same = all(x is inputs[0] for x in inputs)
        *arrays, kernel, bias = promote_dtype(*inputs, kernel, bias, dtype=self.dtype)
        if are_same:
            # On CPU the bias's gradient, a sum over all positions, is fast over one axis only.
            first = arrays[0]
            packed = jnp.einsum("td,d...nh->t...nh", first.reshape(-1, features), kernel)
            if bias is not None:
                packed = packed + bias
            packed = packed.reshape(*first.shape[:-1], self.num_inputs, *one)
            return tuple(packed[:, :, i] for i in range(self.num_inputs))
        projected = [jnp.einsum("btd,dnh->btnh", x, kernel[:, i]) for i, x in enumerate(arrays)]
        if bias is not None:
            projected = [x + bias[i] for i, x in enumerate(projected)]
        return tuple(projected)


def dot_product_attention(
    query: Float[Array, "batch queries num_heads head_dim"],
    key: Float[Array, "batch keys num_kv_heads head_dim"],
    value: Float[Array, "batch keys num_kv_heads head_dim"],
    *,
    causal: bool = False,
    window: int | None = None,
    key_mask: Bool[Array, "batch keys"] | None = None,
    mask: Bool[Array, "#batch 1 queries keys"] | None = None,
    bias: Float[Array, "#batch num_heads queries keys"] | None = None,
    scale: float | None = None,
    dropout: Callable[[Array], Array] | None = None,
    observe: Callable[[Array], Any] | None = None,
    implementation: AttentionImplementation = "auto",
) -> Float[Array, "batch queries num_heads head_dim"]:
    """softmax(scale · query keyᵀ + bias) value for each head, the softmax in float32 at least.

    Each head of keys and values serves num_heads / num_kv_heads query heads in a row. With
    `causal`, query i attends to keys 0 … i; with `window`, to those less than so many places away;
    `key_mask` and `mask` are true where it may attend. A query with no key to attend to gets the
    mean of all values under `xla`; its output is meaningless under either implementation.
    `observe` is called with the attention weights (batch, num_heads, queries, keys).

    Raises ValueError for "cudnn" where the weights themselves are asked for.
    """
    needs_weights = dropout is not None or observe is not None
    match implementation:
        case "auto":
            is_plain = not needs_weights and bias is None and (window is None or causal)
            masks = key_mask is not None or mask is not None
            use_cudnn = is_plain and _cudnn_applies(query, key, causal, masks)
        case "cudnn" if needs_weights:
            raise ValueError(
                "implementation='cudnn' has no attention weights, to drop some or to look at"
            )
        case "xla" | "cudnn":
            use_cudnn = implementation == "cudnn"
        case _:
            raise ValueError(
                f"implementation must be 'auto', 'xla' or 'cudnn', got {implementation!r}"
            )
    if use_cudnn:
        logging.log_first_n(logging.INFO, "attention runs as cuDNN fused attention", 1)
        if key_mask is not None:
            keys = key_mask[:, None, None, :]
            mask = keys if mask is None else mask & keys
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            bias=bias,
            mask=mask,
            scale=scale,
            is_causal=causal,
            local_window_size=None if window is None else (window - 1, 0 if causal else window - 1),
            implementation="cudnn",
        )
    logging.log_first_n(logging.INFO, "attention runs as explicit softmax (XLA)", 1)
    seen = attention_mask(
        jnp.arange(query.shape[1]),
        jnp.arange(key.shape[1]),
        causal=causal,
        window=window,
        key_mask=key_mask,
    )
    if mask is not None:
        seen = mask if seen is None else seen & mask
    return _explicit_attention(query, key, value, seen, bias, scale, dropout, observe)


def _cudnn_applies(query: Array, key: Array, causal: bool, masks: bool) -> bool:
    """Whether cuDNN's fused attention, forward and backward, takes these arrays on any GPU."""
    num_queries, num_keys, head_dim = query.shape[1], key.shape[1], query.shape[-1]
    return (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and head_dim % 8 == 0
        and head_dim <= 128
        and (not causal or num_queries == num_keys)
        and (not masks or (num_queries % 2 == 0 and num_keys % 2 == 0))
    )


def _explicit_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float | None,
    dropout: Callable[[Array], Array] | None,
    observe: Callable[[Array], Any] | None,
) -> Array:
    """Computed in (batch, head)-major layout, whose matrix products need no transposes inside."""
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    batch, num_heads, num_queries, head_dim = query.shape
    num_kv_heads = key.shape[1]
    # The query heads of a group are more queries to the keys that they share.
    grouped = (batch, num_kv_heads, num_heads // num_kv_heads * num_queries, head_dim)
    softmax_dtype = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum(
        "bnqh,bnkh->bnqk",
        (query * (head_dim**-0.5 if scale is None else scale)).reshape(grouped),
        key,
        preferred_element_type=softmax_dtype,
    ).reshape(batch, num_heads, num_queries, -1)
    if bias is not None:
        scores = scores + bias.astype(softmax_dtype)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(softmax_dtype).min)
    weights = jax.nn.softmax(scores)
    if observe is not None:
        observe(weights)
    weights = weights.astype(value.dtype)
    if dropout is not None:
        weights = dropout(weights)
    attended = jnp.einsum("bnqk,bnkh->bnqh", weights.reshape(*grouped[:3], -1), value)
    return attended.reshape(batch, num_heads, num_queries, head_dim).swapaxes(1, 2)
