"""Llama: the decoder with RMS norms, gated MLPs, rotary positions and grouped queries."""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.logits import LogitsHead, tied_logits
from research.nn.transformer import Transformer
from research.sequence.length import check_length


class Llama(nn.Module):
    """Pre-norm blocks without biases: RMS norm, SwiGLU of `mlp_dim`, rotary positions, and
    `num_kv_heads` heads of keys and values, by default as many as of queries.

    Touvron et al., 2023: LLaMA, and Llama 2, whose larger models group queries. Kernels and
    embeddings are normal(0.02). `block_size` limits the tokens that fit; no parameter depends on
    it. For `scan_layers` and `remat` see `nn.transformer.Transformer`.
    """

    vocab_size: int
    block_size: int
    num_layers: int
    num_heads: int
    embed_dim: int
    mlp_dim: int
    num_kv_heads: int | None = None
    rotary_base: float = 10_000.0
    window: int | None = None
    dropout_rate: float = 0.0
    epsilon: float = 1e-5
    tie_embeddings: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        segments: Int[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits of the token after each position, float32; dropout only where `train`.

        Arguments as of `GPT`. Raises ValueError where there are more than `block_size` tokens.
        """
        check_length(tokens, self.block_size)
        init = nn.initializers.normal(0.02)
        token_embedding = nn.Embed(
            self.vocab_size,
            self.embed_dim,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            embedding_init=init,
            name="token_embedding",
        )
        x = Dropout(self.dropout_rate)(token_embedding(tokens), deterministic=not train)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            mlp_dim=self.mlp_dim,
            activation="silu",
            gated=True,
            norm="rms",
            causal=True,
            window=self.window,
            rotary_base=self.rotary_base,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            epsilon=self.epsilon,
            use_bias=False,
            scan_layers=self.scan_layers,
            remat=self.remat,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=init,
            implementation=self.attention_implementation,
            name="transformer",
        )(
            x,
            key_mask=key_mask,
            segments=segments,
            positions=positions,
            deterministic=not train,
            use_cache=use_cache,
        )
        if self.tie_embeddings:
            return tied_logits(x, token_embedding.embedding)
        head = partial(LogitsHead, dtype=self.dtype, param_dtype=self.param_dtype)
        return head(self.vocab_size, kernel_init=init, name="head")(x)
