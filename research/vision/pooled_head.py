"""The usual end of a convolutional classifier."""

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.dropout import Dropout


class PooledHead(nn.Module):
    """The mean over positions, dropout and a dense layer, which is left out without classes."""

    num_classes: int | None
    dropout_rate: float = 0.0
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch rows columns channels"], train: bool
    ) -> Float[Array, "batch outputs"]:
        """Logits, or the means without classes; dropout where `train`."""
        x = Dropout(self.dropout_rate)(x.mean(axis=(1, 2)), not train)
        if self.num_classes is None:
            return x
        dense = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
        )
        # Its parameters are called head/kernel, not head/Dense_0/kernel.
        nn.share_scope(self, dense)
        return dense(x)
