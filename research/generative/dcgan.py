"""Generator and discriminator of DCGAN (Radford, Metz, Chintala 2016)."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv, ConvTranspose
from research.nn.norm import BatchNorm

# "All weights were initialized from a zero-centered Normal distribution with standard deviation
# 0.02" and the scales of batch normalisation around 1.
_KERNEL = nn.initializers.normal(0.02)


def _scale(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class DCGANGenerator(nn.Module):
    """Latents to images with values in [0, 1].

    A dense layer makes `channels[0]` maps of `1 / 2**len(channels)` of the image's size; each
    4×4 transposed convolution of stride 2 doubles it. Batch normalisation and ReLU everywhere
    but at the output, whose tanh is rescaled to [0, 1]. The paper's deep networks have no other
    dense layers; `hidden` ones before the maps give a shallow network its global structure.

    With `num_categories`, the largest of that many last latents makes a choice, which the network
    sees one-hot and as long as the other latents are on average: like the categorical code of
    InfoGAN (Chen et al. 2016). A continuous map of a Gaussian alone has to pass through images
    between the classes (Khayatkhoei et al. 2018).
    """

    latent_dim: int = 100
    image_shape: tuple[int, int, int] = (64, 64, 3)
    channels: tuple[int, ...] = (512, 256, 128, 64)
    hidden: tuple[int, ...] = ()
    num_categories: int = 0
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, latents: Float[Array, "batch latent"], train: bool = False
    ) -> Float[Array, "batch height width channels"]:
        """Images of the latents; normalised by the batch's statistics where `train`.

        Raises ValueError where the image's size is no multiple of `2**len(channels)`, and where
        the categories leave no other latents.
        """
        if not 0 <= self.num_categories < self.latent_dim:
            raise ValueError(
                f"num_categories={self.num_categories} must be at least 0 and below "
                f"latent_dim={self.latent_dim}"
            )
        height, width, image_channels = self.image_shape
        doublings = 2 ** len(self.channels)
        if height % doublings or width % doublings:
            raise ValueError(
                f"image_shape {self.image_shape}: sides must be multiples of {doublings} "
                f"for {len(self.channels)} doublings, one an entry of channels"
            )
        shape = (height // doublings, width // doublings, self.channels[0])
        norm, dense = _layers(train, self.dtype)
        x = _choose(latents, self.num_categories) if self.num_categories else latents
        for i, features in enumerate(self.hidden):
            x = dense(features, name=f"hidden_{i}")(x)
            x = nn.relu(norm(name=f"hidden_norm_{i}")(x))
        x = dense(math.prod(shape), name="dense")(x)
        x = x.reshape(-1, *shape)
        for i, channels in enumerate((*self.channels[1:], image_channels)):
            x = norm(name=f"norm_{i}")(x)
            x = ConvTranspose(
                channels,
                (4, 4),
                strides=(2, 2),
                padding="SAME",
                use_bias=False,
                kernel_init=_KERNEL,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(nn.relu(x))
        return 0.5 * (nn.tanh(_at_least_float32(x)) + 1.0)


class DCGANDiscriminator(nn.Module):
    """Images with values in [0, 1] to the logit that they are real.

    4×4 convolutions of stride 2 with leaky ReLU, batch normalisation on all but the first,
    `hidden` dense layers likewise, and one dense unit.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    hidden: tuple[int, ...] = ()
    dropout_rate: float = 0.0
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, " batch"]:
        """Logits; normalised by the batch's statistics where `train`."""
        norm, dense = _layers(train, self.dtype)
        x = 2.0 * images - 1.0
        for i, channels in enumerate(self.channels):
            x = Conv(
                channels,
                (4, 4),
                strides=(2, 2),
                padding=((1, 1), (1, 1)),
                use_bias=False,
                kernel_init=_KERNEL,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x)
            if i > 0:
                x = norm(name=f"norm_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate(self.hidden):
            x = dense(features, name=f"hidden_{i}")(x)
            x = nn.leaky_relu(norm(name=f"hidden_norm_{i}")(x), 0.2)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return _at_least_float32(dense(1, name="head")(x)[:, 0])


def _layers(train: bool, dtype: str | None) -> tuple[Any, Any]:
    """Batch normalisation and dense layers that start as the paper's."""
    return (
        functools.partial(BatchNorm, use_running_average=not train, dtype=dtype, scale_init=_scale),
        functools.partial(nn.Dense, use_bias=False, kernel_init=_KERNEL, dtype=dtype),
    )


def _choose(
    latents: Float[Array, "batch latent"], num_categories: int
) -> Float[Array, "batch latent"]:
    """The last latents as a one-hot choice of the largest, of the length of the others."""
    others, scores = latents[:, :-num_categories], latents[:, -num_categories:]
    choice = jax.nn.one_hot(scores.argmax(-1), num_categories, dtype=latents.dtype)
    return jnp.concatenate([others, math.sqrt(others.shape[1]) * choice], axis=-1)


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
