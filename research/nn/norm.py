"""Normalisation with statistics over all devices."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float

from research.nn.devices import device_axis


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) over the whole batch in every parallel mode.

    Flax's layer, with its variables at the same paths; inside `jax.pmap(axis_name="devices")`
    the statistics are averaged over devices, which must hold equally many examples. They are
    float32 whatever `dtype` is. A momentum of 0.9 is PyTorch's 0.1.
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones

    def setup(self) -> None:
        self.norm = nn.BatchNorm(
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            use_bias=self.use_bias,
            use_scale=self.use_scale,
            bias_init=self.bias_init,
            scale_init=self.scale_init,
            axis_name=device_axis(),
        )
        nn.share_scope(self, self.norm)

    def __call__(
        self,
        x: Float[Array, "*batch features"],
        use_running_average: bool | None = None,
        mask: Bool[Array, "*#batch #features"] | None = None,
    ) -> Float[Array, "*batch features"]:
        """Normalises each feature by the batch's statistics, or by the running ones.

        Where `mask` is false, x is not in the statistics. Those of devices inside `jax.pmap` count
        alike however much each has."""
        use_running_average = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        return self.norm(x, use_running_average=use_running_average, mask=mask)
