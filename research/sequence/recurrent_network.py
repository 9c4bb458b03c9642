"""Recurrent layers over sequences of vectors."""

import flax.linen as nn
from jaxtyping import Array, Float

from research.nn.dropout import Dropout
from research.nn.recurrent import Cell, Recurrent


class RecurrentNetwork(nn.Module):
    """Recurrent layers, and a dense layer of `out_features` on each position, None for none.

    Dropout is between layers and before the dense layer, `input_dropout_rate` of the inputs.
    For `memory_span` see `nn.recurrent.Recurrent`.
    """

    hidden_dim: int
    cell: Cell = "lstm"
    num_layers: int = 1
    out_features: int | None = None
    dropout_rate: float = 0.0
    input_dropout_rate: float = 0.0
    memory_span: int | None = None
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length features"], train: bool = False
    ) -> Float[Array, "batch length out_features"]:
        """What each position and those before it give; dropout only where `train`."""
        x = Dropout(self.input_dropout_rate)(x, not train)
        x, _ = Recurrent(
            self.hidden_dim,
            self.cell,
            self.num_layers,
            dropout_rate=self.dropout_rate,
            memory_span=self.memory_span,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )(x, deterministic=not train)
        x = Dropout(self.dropout_rate)(x, not train)
        if self.out_features is None:
            return x
        head = nn.Dense(
            self.out_features, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x)
