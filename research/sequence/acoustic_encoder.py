"""A recurrent network over spectrograms (Graves, Mohamed, Hinton, 2013; Amodei et al., 2016)."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from research.nn.dropout import Dropout
from research.nn.recurrent import Cell, Recurrent
from research.sequence.acoustic_model import AcousticModel


class AcousticEncoder(AcousticModel, kw_only=True):
    """Convolutions and `num_layers` recurrent layers, both ways; dropout before each of these and
    behind the last."""

    hidden_dim: int
    num_layers: int = 2
    cell: Cell = "gru"

    @property
    def features(self) -> int:
        return self.hidden_dim

    @nn.compact
    def encode(
        self,
        x: Float[Array, "batch frames features"],
        mask: Bool[Array, "batch frames"],
        train: bool,
    ) -> Float[Array, "batch frames outputs"]:
        """Both ways' states side by side."""
        x = Dropout(self.dropout_rate)(x, deterministic=not train)
        x, _ = Recurrent(
            self.hidden_dim,
            self.cell,
            num_layers=self.num_layers,
            bidirectional=True,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )(x, mask, deterministic=not train)
        return Dropout(self.dropout_rate)(x, deterministic=not train)
