"""The variational autoencoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Display, Displays, Images, Scatter
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables, example_keys

ImageBatch = Float[Array, "batch height width channels"]
Latents = Float[Array, "batch latent"]


@dataclass(frozen=True)
class VAE:
    """The negative evidence lower bound, in nats an image (Kingma & Welling 2014, eq. 10).

        −log p(x | z) + KL(q(z | x) ‖ N(0, I)),   z ~ q(z | x) = N(mean(x), diag(variance(x)))

    with one sample of z. The likelihood is Bernoulli in each pixel, evaluated at the pixel's
    intensity in [0, 1]: the convention under which the 784–400–20 network reaches 104 to 105
    nats on MNIST. Numbers on binarised digits are not comparable.

    `encoder(images)` returns the posterior's mean and log-variance and has a field `latent_dim`;
    `decoder(latents)` returns the logits of the pixels. `kl_weight` other than 1 trains a
    β-VAE (Higgins et al. 2017); what is reported stays the bound itself.
    """

    encoder: nn.Module
    decoder: nn.Module
    kl_weight: float = 1.0

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """Parameters of `encoder` and `decoder`."""
        encoder_rng, decoder_rng = jax.random.split(rng)
        latents = jnp.zeros((1, self.encoder.latent_dim))
        return {
            "params": {
                "encoder": self.encoder.init(encoder_rng, batch["image"])["params"],
                "decoder": self.decoder.init(decoder_rng, latents)["params"],
            }
        }

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over images of reconstruction + kl_weight · KL."""
        mean, log_variance = self._encode(params, batch["image"])
        noise = jax.random.normal(rng, mean.shape)
        reconstruction, kl = self._bound(params, batch["image"], mean, log_variance, noise)
        loss = reconstruction + self.kl_weight * kl
        metrics = {
            "negative_elbo": mean_of(reconstruction + kl),
            "reconstruction": mean_of(reconstruction),
            "kl": mean_of(kl),
        }
        return loss.mean(), Aux(metrics)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The negative ELBO and its two parts, in nats an image, with one sample of z each."""
        mask = batch.get("mask")
        mean, log_variance = self._encode(params, batch["image"])
        draw = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))
        noise = draw(example_keys(rng, batch))
        reconstruction, kl = self._bound(params, batch["image"], mean, log_variance, noise)
        return {
            "loss": mean_of(reconstruction + self.kl_weight * kl, mask),
            "negative_elbo": mean_of(reconstruction + kl, mask),
            "reconstruction": mean_of(reconstruction, mask),
            "kl": mean_of(kl, mask),
        }

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch latent"]:
        """The posterior means."""
        return self._encode(params, batch["image"])[0]

    def decode(self, params: Params, latents: Latents) -> ImageBatch:
        """The means of the pixels' distributions, in [0, 1]."""
        return jax.nn.sigmoid(self._pixel_logits(params, latents))

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Reconstructions below their originals, samples, and a map of the latent space.

        The map shows the posterior means in the plane of their largest variance. With two
        latents it is the plane itself, and `manifold` decodes a grid of the prior's quantiles.
        """
        means = self._compiled_features(params, collections, batch)
        originals = batch["image"][:10]
        reconstructions = self._compiled_decode(params, means[:10])
        displays: dict[str, Display] = {
            "reconstructions": Images(
                jnp.concatenate([originals, reconstructions]), columns=len(originals)
            ),
            "latents": _latent_map(np.asarray(means), np.asarray(batch.get("label", ()))),
            **self.generate(params, collections, rng),
        }
        if means.shape[1] == 2:
            quantiles = [NormalDist().inv_cdf(p) for p in np.linspace(0.05, 0.95, 20)]
            # The first row is the largest second latent, so that the grid lies as the map does.
            grid = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
            manifold = self._compiled_decode(params, jnp.asarray(grid, jnp.float32))
            displays["manifold"] = Images(manifold, columns=20)
        return displays

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        num_samples: int = 64,
        temperature: float = 1.0,
    ) -> Displays:
        """Pixel means of `num_samples` decoded draws from N(0, temperature² I)."""
        latents = temperature * jax.random.normal(rng, (num_samples, self.encoder.latent_dim))
        return {"samples": Images(self._compiled_decode(params, latents))}

    @cached_property
    def _compiled_features(self) -> Callable[..., Latents]:
        return jax.jit(self.features)

    @cached_property
    def _compiled_decode(self) -> Callable[[Params, Array], ImageBatch]:
        return jax.jit(self.decode)

    def _encode(self, params: Params, images: ImageBatch) -> tuple[Latents, Latents]:
        posterior: Any = self.encoder.apply({"params": params["encoder"]}, images)
        mean, log_variance = posterior
        return mean.astype(jnp.float32), log_variance.astype(jnp.float32)

    def _pixel_logits(self, params: Params, latents: Latents) -> ImageBatch:
        logits: Any = self.decoder.apply({"params": params["decoder"]}, latents)
        return logits.astype(jnp.float32)

    def _bound(
        self,
        params: Params,
        images: ImageBatch,
        mean: Latents,
        log_variance: Latents,
        noise: Latents,
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Reconstruction error and KL divergence of each image, in nats."""
        latents = mean + jnp.exp(0.5 * log_variance) * noise
        logits = self._pixel_logits(params, latents)
        reconstruction = optax.sigmoid_binary_cross_entropy(logits, images).sum((1, 2, 3))
        kl = 0.5 * (mean**2 + jnp.exp(log_variance) - 1.0 - log_variance).sum(-1)
        return reconstruction, kl


def _latent_map(means: Float[np.ndarray, "num latent"], labels: np.ndarray) -> Scatter:
    if means.shape[1] <= 2:
        points = np.pad(means, ((0, 0), (0, 2 - means.shape[1])))
        return Scatter(points, labels, ("z₁", "z₂"))
    centred = means - means.mean(0)
    _, singular_values, components = np.linalg.svd(centred, full_matrices=False)
    shares = singular_values**2 / np.sum(singular_values**2)
    first, second = (f"principal component {i + 1} ({shares[i]:.0%} of variance)" for i in range(2))
    return Scatter(centred @ components[:2].T, labels, (first, second))
