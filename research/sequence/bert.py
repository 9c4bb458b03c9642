"""BERT: an encoder that fills in masked tokens (Devlin et al., 2019)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.logits import tied_logits
from research.nn.transformer import Transformer
from research.sequence.length import check_length


class BERT(nn.Module):
    """Token, position and type embeddings, normalised, and post-norm blocks with exact GELU.

    The defaults are BERT-base's. `masked_head` gives logits of every token by the transposed token
    embedding behind a dense layer, GELU and a norm; `pooler` a dense layer with tanh of the first
    token, and `num_classes` a classifier of that (in pre-training, of whether the second sentence
    follows the first). Kernels and embeddings are normal(`init_std`); at 0.02 the blocks of a much
    narrower network begin with next to nothing to add to what they read. For `scan_layers` and
    `remat` see `nn.transformer.Transformer`.
    """

    vocab_size: int = 30_522
    block_size: int = 512
    num_layers: int = 12
    num_heads: int = 12
    embed_dim: int = 768
    mlp_dim: int = 3072
    num_token_types: int = 2
    masked_head: bool = True
    pooler: bool = False
    num_classes: int | None = None
    dropout_rate: float = 0.1
    epsilon: float = 1e-12
    init_std: float = 0.02
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    def __post_init__(self) -> None:
        if self.num_classes is not None and not self.pooler:
            raise ValueError(f"num_classes={self.num_classes} of BERT needs pooler=True")
        super().__post_init__()

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        token_types: Int[Array, "batch length"] | None = None,
        segments: Int[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        masked_positions: Int[Array, "batch masked"] | None = None,
    ) -> Float[Array, "batch ... outputs"]:
        """Logits of classes where there are some, else of every token, float32, else the pooled
        features or those of every token; dropout only where `train`. Arguments as of `features`."""
        *_, last = self.features(
            tokens, train, key_mask, token_types, segments, positions, masked_positions
        ).values()
        return last

    @nn.compact
    def features(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        key_mask: Bool[Array, "batch length"] | None = None,
        token_types: Int[Array, "batch length"] | None = None,
        segments: Int[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        masked_positions: Int[Array, "batch masked"] | None = None,
    ) -> dict[str, Float[Array, "batch ..."]]:
        """`tokens`, the features of each token, and what heads there are of: `pooled`,
        `token_logits`, `class_logits`.

        `key_mask` is true for tokens that are no padding, `token_types` (by default 0) say which
        sentence a token is of, and `segments` which document of several in one sequence. With
        `masked_positions` the masked head is computed there only, for `token_logits` (batch,
        masked, vocab_size).

        Raises ValueError where there are more than `block_size` tokens.
        """
        check_length(tokens, self.block_size)
        init = nn.initializers.normal(self.init_std)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        embed: Any = partial(nn.Embed, features=self.embed_dim, embedding_init=init, **types)
        dense: Any = partial(nn.Dense, kernel_init=init, **types)
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, **types)
        token_embedding = embed(self.vocab_size, name="token_embedding")
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None]
        if token_types is None:
            token_types = jnp.zeros_like(tokens)
        x = token_embedding(tokens)
        x = x + embed(self.block_size, name="position_embedding")(positions)
        x = x + embed(self.num_token_types, name="type_embedding")(token_types)
        x = Dropout(self.dropout_rate)(norm(name="embedding_norm")(x), deterministic=not train)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            activation="gelu",
            norm_first=False,
            final_norm=False,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            epsilon=self.epsilon,
            scan_layers=self.scan_layers,
            remat=self.remat,
            kernel_init=init,
            implementation=self.attention_implementation,
            name="transformer",
            **types,
        )(x, key_mask=key_mask, segments=segments, deterministic=not train)
        outputs = {"tokens": x}
        if self.pooler:
            outputs["pooled"] = jnp.tanh(dense(self.embed_dim, name="pooler")(x[:, 0]))
        if self.masked_head:
            if masked_positions is not None:
                x = jnp.take_along_axis(x, masked_positions[..., None], axis=1)
            hidden = nn.gelu(dense(self.embed_dim, name="masked_dense")(x), approximate=False)
            hidden = norm(name="masked_norm")(hidden)
            bias = self.param(
                "masked_bias",
                nn.initializers.zeros,
                (self.vocab_size,),
                jnp.dtype(self.param_dtype),
            )
            logits = tied_logits(hidden, token_embedding.embedding)
            outputs["token_logits"] = logits + bias.astype(logits.dtype)
        if self.num_classes is not None:
            pooled = Dropout(self.dropout_rate)(outputs["pooled"], deterministic=not train)
            logits = dense(self.num_classes, name="head")(pooled)
            outputs["class_logits"] = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return outputs
