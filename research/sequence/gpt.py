"""GPT: a decoder-only transformer over tokens (Radford et al., 2019)."""

import math
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.logits import LogitsHead, tied_logits
from research.nn.transformer import Transformer
from research.sequence.length import check_length


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

        `positions` are 0, 1, … by default. For `key_mask`, `segments` and `use_cache` see
        `nn.attention.MultiHeadAttention`.

        Raises ValueError where there are more than `block_size` tokens.
        """
        check_length(tokens, self.block_size)
        init = nn.initializers.normal(0.02)
        embed = partial(
            nn.Embed,
            features=self.embed_dim,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            embedding_init=init,
        )
        token_embedding = embed(self.vocab_size, name="token_embedding")
        position_embedding = embed(self.block_size, name="position_embedding")
        x = token_embedding(tokens)
        if positions is None:
            x = x + position_embedding.embedding[: tokens.shape[1]].astype(x.dtype)
        else:
            x = x + position_embedding(positions)
        x = Dropout(self.dropout_rate)(x, deterministic=not train)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=4 * self.embed_dim,
            scan_layers=self.scan_layers,
            remat=self.remat,
            activation="gelu_tanh",
            causal=True,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=init,
            out_kernel_init=nn.initializers.normal(0.02 / math.sqrt(2 * self.num_layers)),
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
        return LogitsHead(
            self.vocab_size,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=init,
            name="head",
        )(x)
