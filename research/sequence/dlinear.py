"""DLinear: linear forecasts of a trend and of what is left (Zeng et al., 2023)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.initializers import symmetric_uniform


class DLinear(nn.Module):
    """A trend and what is left of the series, each forecast by a linear layer over time, and added.

    The trend is the mean of the `kernel_size` steps around each, with both ends repeated. The two
    layers, `trend` and `remainder`, serve all channels alike; with `individual` each channel has
    its own, along a leading axis of their parameters. Kernels and biases are uniform in
    ±1 / √input_length, as in the authors' code; with `average_init` kernels are 1 / input_length,
    which it has for looking at them.
    """

    horizon: int
    kernel_size: int = 25
    individual: bool = False
    average_init: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} of DLinear must be odd")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch input_length channels"], train: bool = False
    ) -> Float[Array, "batch horizon channels"]:
        """The steps behind the inputs."""
        length = inputs.shape[1]
        init = symmetric_uniform(length**-0.5)
        dense: Any = nn.Dense
        if self.individual:
            dense = nn.vmap(
                nn.Dense,
                in_axes=1,
                out_axes=1,
                variable_axes={"params": 0},
                split_rngs={"params": True},
            )
        forecasts = [
            dense(
                self.horizon,
                kernel_init=nn.initializers.constant(1 / length) if self.average_init else init,
                bias_init=init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name,
            )(part.swapaxes(1, 2))
            for name, part in zip(
                ("trend", "remainder"), decompose(inputs, self.kernel_size), strict=True
            )
        ]
        return sum(forecasts).swapaxes(1, 2)


def decompose(
    series: Float[Array, "batch length channels"], kernel_size: int
) -> tuple[Float[Array, "batch length channels"], Float[Array, "batch length channels"]]:
    """The moving average over an odd number of steps, with both ends repeated, and the rest."""
    reach = kernel_size // 2
    padded = jnp.pad(series, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    trend = nn.avg_pool(padded, (kernel_size,))
    return trend, series - trend
