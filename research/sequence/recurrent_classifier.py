"""A recurrent network that reads a sequence and says what it is."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.nn.dropout import Dropout
from research.nn.recurrent import Cell, Recurrent
from research.sequence.sequence_pooling import pool_sequence


class RecurrentClassifier(nn.Module):
    """Token embeddings, recurrent layers, one vector a sequence, and a dense layer to logits.

    `pooling` "last" is the last layer's state behind the last position (behind the first, on the
    way back of `bidirectional` layers), "mean" and "max" are over its outputs. Without a
    `vocab_size` sequences are of vectors. Dropout is of the embeddings (or vectors), between layers
    and before the logits, `token_dropout_rate` of whole embeddings. Embeddings are normal(0.1). For
    `memory_span` see `nn.recurrent.Recurrent`.
    """

    num_classes: int | None
    hidden_dim: int
    vocab_size: int | None = None
    embed_dim: int | None = None
    cell: Cell = "lstm"
    num_layers: int = 1
    bidirectional: bool = False
    pooling: Literal["last", "mean", "max"] = "last"
    dropout_rate: float = 0.0
    token_dropout_rate: float = 0.0
    memory_span: int | None = None
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Int[Array, "batch length"] | Float[Array, "batch length features"],
        train: bool = False,
        *,
        mask: Bool[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Logits, or the features before them without `num_classes`; dropout only where `train`.
        Positions where `mask` is false are passed over."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dropout = Dropout(self.dropout_rate)
        if self.vocab_size is not None:
            x = nn.Embed(
                self.vocab_size,
                self.embed_dim or self.hidden_dim,
                embedding_init=nn.initializers.normal(0.1),
                name="token_embedding",
                **types,
            )(x)
        x = Dropout(self.token_dropout_rate, broadcast_axes=(-1,))(x, not train)
        outputs, (last, *_) = Recurrent(
            self.hidden_dim,
            self.cell,
            self.num_layers,
            self.bidirectional,
            self.dropout_rate,
            memory_span=self.memory_span,
            name="recurrent",
            **types,
        )(dropout(x, not train), mask, deterministic=not train)
        if self.pooling == "last":
            num_directions = 2 if self.bidirectional else 1
            features = jnp.concatenate(list(last[-num_directions:]), -1)
        else:
            features = pool_sequence(outputs, mask, self.pooling)
        features = dropout(features, not train)
        if self.num_classes is None:
            return features
        return nn.Dense(self.num_classes, name="head", **types)(features)
