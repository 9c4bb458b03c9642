"""Logits of a vocabulary, float32 at least."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float


def tied_logits(
    x: Float[Array, "*batch features"], embedding: Float[Array, "vocab_size features"]
) -> Float[Array, "*batch vocab_size"]:
    """By the transposed token embedding (Press and Wolf, 2017)."""
    # A gradient that sums over one axis of tokens is much faster on CPU than over two.
    flat = x.reshape(-1, x.shape[-1])
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    embedding = embedding.astype(x.dtype)
    if len(flat) == 1:  # on CPU a product with a vector is five times as fast as with one row
        logits = jnp.dot(embedding, flat[0], preferred_element_type=dtype)
    else:
        logits = jnp.dot(flat, embedding.T, preferred_element_type=dtype)
    return logits.reshape(*x.shape[:-1], -1)


class LogitsHead(nn.Module):
    """A dense layer of its own to logits; parameters `kernel` and, where asked for, `bias`."""

    vocab_size: int
    use_bias: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch vocab_size"]:
        """Logits of each position."""
        shape = (x.shape[-1], self.vocab_size)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape[1:], self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        logits = jnp.dot(x.reshape(-1, shape[0]), kernel, preferred_element_type=dtype)
        if bias is not None:
            logits = logits + bias
        return logits.reshape(*x.shape[:-1], -1)
