"""Generative adversarial networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Displays, Images
from research.engine.metrics import Mean, mean_of
from research.engine.objective import (
    Aux,
    Batch,
    Collections,
    Params,
    Player,
    Variables,
    example_keys,
)

ImageBatch = Float[Array, "batch height width channels"]


class Adversaries(nn.Module):
    """Both networks in one tree: variables are under `generator` and `discriminator`."""

    generator: nn.Module
    discriminator: nn.Module

    def __call__(self, latents: Float[Array, "batch latent"]) -> Float[Array, " batch"]:
        return self.discriminate(self.generate(latents))

    def generate(self, latents: Float[Array, "batch latent"], train: bool = False) -> ImageBatch:
        return self.generator(latents, train=train)

    def discriminate(self, images: ImageBatch, train: bool = False) -> Float[Array, " batch"]:
        return self.discriminator(images, train=train)


@dataclass(frozen=True)
class GAN:
    """Two players in turns (Goodfellow et al. 2014), the generator's loss non-saturating.

        discriminator:  −E log D(x) − E log(1 − D(G(z)))
        generator:      −E log D(G(z)),   z ~ N(0, I)

    `generator(latents, train)` returns images in the data's range and has a field `latent_dim`;
    `discriminator(images, train)` returns logits. `label_smoothing` lowers the discriminator's
    target for real images to 1 − label_smoothing (one-sided: Salimans et al. 2016).

    Batch statistics are of one kind of image a pass: real images and samples pass the
    discriminator apart. Each player's turn moves its own running statistics only.
    """

    generator: nn.Module
    discriminator: nn.Module
    label_smoothing: float = 0.0

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """Variables of both networks; each collection has the entries of the two modules."""
        networks = Adversaries(self.generator, self.discriminator)
        return networks.init(rng, jnp.zeros((1, self.generator.latent_dim)))

    def players(self) -> tuple[Player, ...]:
        """The discriminator's turn, then the generator's against the updated discriminator."""
        return (
            Player("discriminator", ("discriminator",), self.discriminator_loss),
            Player("generator", ("generator",), self.generator_loss),
        )

    def discriminator_loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """Cross-entropy of telling the batch's images from as many samples."""
        sample_rng, real_rng, fake_rng = jax.random.split(rng, 3)
        samples, _ = self._sample(params, collections, sample_rng, len(batch["image"]))
        samples = jax.lax.stop_gradient(samples)
        real, collections = self._discriminate(params, collections, batch["image"], real_rng)
        fake, collections = self._discriminate(params, collections, samples, fake_rng)
        losses = discriminator_losses(real, fake, self.label_smoothing)
        metrics = {
            "probability_real": mean_of(jax.nn.sigmoid(real)),
            "probability_fake": mean_of(jax.nn.sigmoid(fake)),
        }
        return losses.mean(), Aux(metrics, collections)

    def generator_loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """Negative log-probability that samples, as many as the batch has images, are real."""
        sample_rng, fake_rng = jax.random.split(rng)
        samples, collections = self._sample(params, collections, sample_rng, len(batch["image"]))
        fake, _ = self._discriminate(params, collections, samples, fake_rng)
        return generator_losses(fake).mean(), Aux({}, collections)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The generator's loss: the objective's one number; players train by their own."""
        return self.generator_loss(params, collections, batch, rng)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Both losses and the discriminator's beliefs, with running statistics throughout."""
        mask = batch.get("mask")
        draw = jax.vmap(lambda key: jax.random.normal(key, (self.generator.latent_dim,)))
        latents = draw(example_keys(rng, batch))
        samples = self._apply(params, collections, latents, method="generate")
        real = self._apply(params, collections, batch["image"], method="discriminate")
        fake = self._apply(params, collections, samples, method="discriminate")
        return {
            "discriminator_loss": mean_of(discriminator_losses(real, fake), mask),
            "generator_loss": mean_of(generator_losses(fake), mask),
            "probability_real": mean_of(jax.nn.sigmoid(real), mask),
            "probability_fake": mean_of(jax.nn.sigmoid(fake), mask),
        }

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Samples of the same 64 latents every time, so that training can be watched."""
        return self.generate(params, collections, jax.random.key(0))

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        num_samples: int = 64,
        temperature: float = 1.0,
    ) -> Displays:
        """`num_samples` images from latents drawn from N(0, temperature² I)."""
        latents = temperature * jax.random.normal(rng, (num_samples, self.generator.latent_dim))
        return {"samples": Images(self._compiled_images(params, collections, latents))}

    @cached_property
    def _compiled_images(self) -> Callable[[Params, Collections, Array], ImageBatch]:
        return jax.jit(partial(self._apply, method="generate"))

    def _apply(
        self, params: Params, collections: Collections, inputs: Array, **options: Any
    ) -> Any:
        networks = Adversaries(self.generator, self.discriminator)
        return networks.apply({"params": params, **collections}, inputs, **options)

    def _sample(
        self, params: Params, collections: Collections, rng: PRNGKeyArray, num_samples: int
    ) -> tuple[ImageBatch, Collections]:
        """Training-mode samples, and the collections with the generator's statistics moved."""
        latent_rng, dropout_rng = jax.random.split(rng)
        return self._apply(
            params,
            collections,
            jax.random.normal(latent_rng, (num_samples, self.generator.latent_dim)),
            train=True,
            method="generate",
            mutable=list(collections),
            rngs={"dropout": dropout_rng},
        )

    def _discriminate(
        self, params: Params, collections: Collections, images: ImageBatch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, " batch"], Collections]:
        """Training-mode logits, and the collections with the discriminator's statistics moved."""
        return self._apply(
            params,
            collections,
            images,
            train=True,
            method="discriminate",
            mutable=list(collections),
            rngs={"dropout": rng},
        )


def discriminator_losses(
    real: Float[Array, " batch"], fake: Float[Array, " batch"], label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Cross-entropies in nats of a real image's logit and a sample's."""
    target = 1.0 - label_smoothing
    real_losses = target * jax.nn.softplus(-real) + label_smoothing * jax.nn.softplus(real)
    return real_losses + jax.nn.softplus(fake)


def generator_losses(fake: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """−log D(G(z)), from the logits of D."""
    return jax.nn.softplus(-fake)
