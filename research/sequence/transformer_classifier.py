"""A Transformer encoder that reads a sequence and says what it is."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.sine import sine_embedding
from research.nn.transformer import Transformer
from research.sequence.sequence_pooling import pool_sequence


class TransformerClassifier(nn.Module):
    """Scaled token embeddings and sine positions, pre-norm blocks with ReLU, one vector a sequence,
    and a dense layer to logits.

    `pooling` is of the last block's normalised outputs. Without a `vocab_size` sequences are of
    vectors, and a dense layer takes the place of the embeddings. Dropout is of the embeddings with
    their positions, the residual branches (not the attention weights), and before the logits;
    `token_dropout_rate` is of whole embeddings (Dai and Le, 2015). For `scan_layers` and `remat`
    see `nn.transformer.Transformer`.
    """

    num_classes: int | None
    num_layers: int
    num_heads: int
    embed_dim: int
    mlp_dim: int
    vocab_size: int | None = None
    pooling: Literal["first", "mean", "max"] = "mean"
    dropout_rate: float = 0.1
    token_dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    @nn.compact
    def __call__(
        self,
        x: Int[Array, "batch length"] | Float[Array, "batch length features"],
        train: bool = False,
        *,
        mask: Bool[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Logits, or the features before them without `num_classes`; dropout only where `train`.
        Positions where `mask` is false are neither attended to nor pooled."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dropout = Dropout(self.dropout_rate)
        if self.vocab_size is None:
            x = nn.Dense(self.embed_dim, name="input", **types)(x)
        else:
            init = nn.initializers.normal(self.embed_dim**-0.5)
            embedding = nn.Embed(
                self.vocab_size,
                self.embed_dim,
                embedding_init=init,
                name="token_embedding",
                **types,
            )
            x = embedding(x) * self.embed_dim**0.5
        x = Dropout(self.token_dropout_rate, broadcast_axes=(-1,))(x, not train)
        positions = sine_embedding(jnp.arange(x.shape[1]), self.embed_dim)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            activation="relu",
            dropout_rate=self.dropout_rate,
            scan_layers=self.scan_layers,
            remat=self.remat,
            kernel_init=nn.initializers.glorot_uniform(),
            implementation=self.attention_implementation,
            name="transformer",
            **types,
        )(
            dropout(x + positions.astype(x.dtype), not train),
            key_mask=mask,
            deterministic=not train,
        )
        features = dropout(pool_sequence(x, mask, self.pooling), not train)
        if self.num_classes is None:
            return features
        return nn.Dense(self.num_classes, name="head", **types)(features)
