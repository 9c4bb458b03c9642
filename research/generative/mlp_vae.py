"""Encoder and decoder of the variational autoencoder with one kind of layer: dense."""

import math

from flax import linen as nn
from jaxtyping import Array, Float


class MLPEncoder(nn.Module):
    """Images to the mean and log-variance of a diagonal Gaussian over the latents."""

    latent_dim: int = 20
    hidden: tuple[int, ...] = (400,)
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> tuple[Float[Array, "batch latent"], Float[Array, "batch latent"]]:
        """The posterior's mean and log-variance."""
        x = images.reshape(images.shape[0], -1)
        for i, features in enumerate(self.hidden):
            x = nn.relu(nn.Dense(features, dtype=self.dtype, name=f"dense_{i}")(x))
        mean = nn.Dense(self.latent_dim, dtype=self.dtype, name="mean")(x)
        log_variance = nn.Dense(self.latent_dim, dtype=self.dtype, name="log_variance")(x)
        return mean, log_variance


class MLPDecoder(nn.Module):
    """Latents to the logits of Bernoulli-distributed pixels."""

    image_shape: tuple[int, ...] = (28, 28, 1)
    hidden: tuple[int, ...] = (400,)
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, latents: Float[Array, "batch latent"]
    ) -> Float[Array, "batch height width channels"]:
        """Logits of the pixels."""
        x = latents
        for i, features in enumerate(self.hidden):
            x = nn.relu(nn.Dense(features, dtype=self.dtype, name=f"dense_{i}")(x))
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype, name="pixels")(x)
        return x.reshape(x.shape[0], *self.image_shape)
