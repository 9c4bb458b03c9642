"""The network of CIFAR-10's speed records (Jordan, 2024: 94 % on CIFAR-10 in 3.29 seconds)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.nn.convolution import Conv
from research.nn.norm import BatchNorm
from research.nn.pooling import max_pool

_default_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_LOGIT_SCALE = 1 / 9


class AirbenchNet(nn.Module):
    """2×2 whitening filters, three stages of two 3×3 convolutions with GELU, the maximum over
    positions, a linear classifier without bias whose logits are divided by 9.

    `init_from` = {"name": "vision.Whitening", …} computes the filters from the training images;
    `optimizer.freeze` = ("whitening/kernel",) leaves them so. The other convolutions begin as the
    identity on as many channels as come in. Batch normalisation has no scale.
    """

    num_classes: int | None = 10
    channels: tuple[int, int, int] = (64, 256, 256)
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        if self.num_classes is not None:
            self.head = nn.Dense(
                self.num_classes,
                use_bias=False,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                kernel_init=_default_init,
            )

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or features without classes; normalised by batch statistics where `train`."""
        *_, x = self.features(images, train).values()
        x = x.max(axis=(1, 2))
        return x if self.num_classes is None else self.head(x) * _LOGIT_SCALE

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of `whitening` and of `stage_0` to `stage_2`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm: Any = partial(
            BatchNorm, not train, momentum=0.6, epsilon=1e-12, use_scale=False, **types
        )
        conv: Any = partial(
            Conv, kernel_size=(3, 3), use_bias=False, kernel_init=partial_identity, **types
        )
        gelu: Any = partial(jax.nn.gelu, approximate=False)
        filters = 8 * images.shape[-1]
        x = Conv(filters, (2, 2), padding="VALID", name="whitening", **types)(images)
        x = gelu(x)
        maps = {"whitening": x}
        for stage, channels in enumerate(self.channels):
            x = max_pool(conv(channels, name=f"stage_{stage}_conv_0")(x), (2, 2))
            x = gelu(norm(name=f"stage_{stage}_norm_0")(x))
            x = conv(channels, name=f"stage_{stage}_conv_1")(x)
            x = maps[f"stage_{stage}"] = gelu(norm(name=f"stage_{stage}_norm_1")(x))
        return maps


def partial_identity(
    rng: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, "rows columns in_channels out_channels"]:
    """Convolution kernels whose first outputs are the inputs, the others uniform with variance
    1 / (3 · fan in)."""
    rows, columns, in_channels, out_channels = shape
    kernel = _default_init(rng, shape, dtype)
    same = min(in_channels, out_channels)
    identity = jnp.zeros((rows, columns, in_channels, same), dtype)
    identity = identity.at[rows // 2, columns // 2, jnp.arange(same), jnp.arange(same)].set(1)
    return kernel.at[..., :same].set(identity)
