"""The small network on top of a backbone that joint-embedding methods compare views in."""

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.norm import BatchNorm


class ProjectionMLP(nn.Module):
    """Dense, batch normalisation, ReLU, dense: BYOL's projector and predictor."""

    hidden_dim: int = 4096
    output_dim: int = 256
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], train: bool = False
    ) -> Float[Array, "batch output"]:
        """The projection; normalised by the batch's statistics where `train`."""
        x = nn.Dense(self.hidden_dim, dtype=self.dtype, name="dense_0")(x)
        x = BatchNorm(use_running_average=not train, dtype=self.dtype, name="norm")(x)
        return nn.Dense(self.output_dim, dtype=self.dtype, name="dense_1")(nn.relu(x))
