"""GPT: a decoder-only transformer over tokens (Radford et al., 2019)."""

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from research.nn.dropout import Dropout
from research.nn.transformer import Transformer


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks four times as wide inside, tanh GELU.

    With 50257 tokens, blocks of 1024 and 12 layers of 12 heads and 768 features it is GPT-2's
    smallest, weight for weight; nanoGPT's models are those with `use_bias=False`. `tie_embeddings`
    makes the output layer the transposed token embedding. `dropout_rate` is of the embeddings, the
    attention weights and both residual branches, in [0, 1). Activations are in `dtype`,
    parameters, layer-norm statistics, softmax and logits in float32.

    Radford, Wu, Child, Luan, Amodei, Sutskever: Language models are unsupervised multitask
    learners, 2019.
    """

    vocab_size: int
    block_size: int
    num_layers: int
    num_heads: int
    embed_dim: int
    dropout_rate: float = 0.0
    use_bias: bool = True
    tie_embeddings: bool = True
    dtype: str | None = None
    scan_layers: bool = False

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], train: bool = False
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits of the token after each position, float32; dropout only where `train`.

        Raises ValueError where there are more than `block_size` tokens.
        """
        batch_size, length = tokens.shape
        if length > self.block_size:
            raise ValueError(f"{length} tokens do not fit block_size={self.block_size}")
        init = nn.initializers.normal(0.02)
        embed = partial(nn.Embed, features=self.embed_dim, dtype=self.dtype, embedding_init=init)
        token_embedding = embed(self.vocab_size, name="token_embedding")
        position_embedding = embed(self.block_size, name="position_embedding")
        x = token_embedding(tokens)
        x = x + position_embedding.embedding[:length].astype(x.dtype)
        x = Dropout(self.dropout_rate)(x, deterministic=not train)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=4 * self.embed_dim,
            scan_layers=self.scan_layers,
            activation="gelu_tanh",
            causal=True,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=init,
            out_kernel_init=nn.initializers.normal(0.02 / math.sqrt(2 * self.num_layers)),
            name="transformer",
        )(x, deterministic=not train)
        # A gradient that sums over one axis of tokens is much faster on CPU than over two.
        x = x.reshape(-1, self.embed_dim)
        logits_dtype = jnp.promote_types(x.dtype, jnp.float32)
        if self.tie_embeddings:
            kernel = token_embedding.embedding.T.astype(x.dtype)
            logits = jnp.dot(x, kernel, preferred_element_type=logits_dtype)
        else:
            logits = nn.Dense(
                self.vocab_size,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=init,
                dot_general=partial(lax.dot_general, preferred_element_type=logits_dtype),
                name="head",
            )(x)
        return logits.reshape(batch_size, length, self.vocab_size)
