"""Predicting by how much an image was turned (Gidaris, Singh, Komodakis 2018)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.engine.display import Displays, Images
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.suggestion import did_you_mean

_NUM_ROTATIONS = 4
_DISPLAYED = 6


@dataclass(frozen=True)
class RotationPrediction:
    """Cross-entropy of telling 0°, 90°, 180° and 270° apart; each image is seen in all four.

    `model(images, train)` has a field `num_classes`, which must be 4; with None it returns the
    features before its last layer. Images must be square.

    The last layers come to know about rotation only: the paper's representation is that of an
    inner one. `feature` names it among `model.features(images)`, of which the average over
    positions is taken; None is what the last layer sees.
    """

    model: nn.Module
    feature: str | None = None

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables; UserError where the images or the model do not fit."""
        _, height, width, _ = batch["image"].shape
        if height != width:
            raise UserError(f"RotationPrediction: images must be square, got {height}x{width}")
        logits, variables = self.model.init_with_output(rng, batch["image"], train=False)
        if logits.shape[-1] != _NUM_ROTATIONS:
            raise UserError(
                f"RotationPrediction: model returns {logits.shape[-1]} values an image, but "
                f"there are {_NUM_ROTATIONS} rotations; set model.num_classes = {_NUM_ROTATIONS}"
            )
        jax.eval_shape(self._features, variables, batch["image"])
        return variables

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean cross-entropy in nats over all images in all rotations."""
        images, labels = rotations(batch["image"])
        logits, collections = self._apply(
            params,
            collections,
            images,
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        loss = cross_entropy(logits, labels).mean()
        return loss, Aux({"accuracy": accuracy(logits, labels)}, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Cross-entropy in nats and accuracy in [0, 1], over all four rotations."""
        _, labels, logits = self._logits(params, collections, batch["image"])
        mask = jnp.tile(batch["mask"], _NUM_ROTATIONS) if "mask" in batch else None
        return {
            "loss": mean_of(cross_entropy(logits, labels), mask),
            "accuracy": accuracy(logits, labels, mask),
        }

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """The representation of the images as they are; UserError for an unknown `feature`."""
        return self._features({"params": params, **collections}, batch["image"])

    def _features(
        self, variables: Variables, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        features: Any
        if self.feature is None:
            model = self.model.clone(num_classes=None)
            features = model.apply(variables, images, train=False)
        else:
            if not hasattr(self.model, "features"):
                raise UserError(
                    f"RotationPrediction.feature = {self.feature!r}: "
                    f"{type(self.model).__name__} offers none, having no method `features`"
                )
            maps: Any = self.model.apply(variables, images, method="features")
            if self.feature not in maps:
                raise UserError(
                    f"RotationPrediction.feature = {self.feature!r}: the model has no such "
                    f"features{did_you_mean(self.feature, maps)}"
                )
            features = maps[self.feature].mean(axis=(1, 2))
        return features.astype(jnp.float32)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """A few images in all rotations, a column each, titled `true → predicted`."""
        originals = batch["image"][:_DISPLAYED]
        images, labels, logits = self._compiled_logits(params, collections, originals)
        predictions = logits.argmax(-1)
        titles = [
            f"{90 * true}° → {90 * predicted}°"
            for true, predicted in zip(np.asarray(labels), np.asarray(predictions), strict=True)
        ]
        low, high = images.min(), images.max()
        images = (images - low) / jnp.maximum(high - low, 1e-12)
        return {"rotations": Images(images, titles, columns=len(originals))}

    @cached_property
    def _compiled_logits(self) -> Callable[..., tuple[Array, Array, Array]]:
        return jax.jit(self._logits)

    def _logits(
        self,
        params: Params,
        collections: Collections,
        originals: Float[Array, "batch size size channels"],
    ) -> tuple[Array, Array, Array]:
        """All rotations of the images, which they are, and what the model makes of them."""
        images, labels = rotations(originals)
        return images, labels, self._apply(params, collections, images, train=False)

    def _apply(
        self,
        params: Params,
        collections: Collections,
        images: Float[Array, "batch height width channels"],
        **options: Any,
    ) -> Any:
        return self.model.apply({"params": params, **collections}, images, **options)


def rotations(
    images: Float[Array, "batch size size channels"],
) -> tuple[Float[Array, "4*batch size size channels"], Int[Array, " 4*batch"]]:
    """All images turned by 0°, then all by 90° anticlockwise, …; and how many quarter turns."""
    turned = [jnp.rot90(images, turns, axes=(1, 2)) for turns in range(_NUM_ROTATIONS)]
    return jnp.concatenate(turned), jnp.repeat(jnp.arange(_NUM_ROTATIONS), len(images))
