"""Image classification by cross-entropy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import ConfusionMatrix, Display, Displays, Images
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError


@dataclass(frozen=True)
class Classification:
    """Cross-entropy between a model's logits and the labels of images.

    The model is called `model(images, train)`; its dropout and mutable collections are handled.
    A training batch's `label_probs` (mixed images) take the place of its labels, and
    `label_smoothing` moves that share of the target to the uniform distribution
    (Szegedy et al. 2016). Evaluation always uses the plain labels.
    """

    model: nn.Module
    label_smoothing: float = 0.0

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables."""
        return self.model.init(rng, batch["image"], train=False)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a label is none of the model's `num_classes`."""
        num_classes: int | None = getattr(self.model, "num_classes", None)
        if num_classes is None or "label" not in arrays:
            return
        low, high = int(np.min(arrays["label"])), int(np.max(arrays["label"]))
        if low < 0 or high >= num_classes:
            raise UserError(
                f"the labels go from {low} to {high}, but the model has "
                f"objective.model.num_classes = {num_classes}"
            )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean cross-entropy in nats, with the accuracy of the logits it was computed from."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["image"],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        logits = logits.astype(jnp.float32)
        if "label_probs" in batch:
            targets = batch["label_probs"]
        else:
            targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        targets = optax.smooth_labels(targets, self.label_smoothing)
        losses = optax.softmax_cross_entropy(logits, targets)
        metrics = {"accuracy": accuracy(logits, targets.argmax(-1))}
        return losses.mean(), Aux(metrics, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Cross-entropy in nats and accuracy in [0, 1]."""
        logits = self.logits(params, collections, batch)
        mask = batch.get("mask")
        return {
            "loss": mean_of(cross_entropy(logits, batch["label"]), mask),
            "accuracy": accuracy(logits, batch["label"], mask),
        }

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch classes"]:
        """The model's output in evaluation mode, in float32."""
        variables = {"params": params, **collections}
        logits: Any = self.model.apply(variables, batch["image"], train=False)
        return logits.astype(jnp.float32)

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """What the last layer sees: the output of the same model with `num_classes=None`."""
        backbone = self.model.clone(num_classes=None)
        variables = {"params": params, **collections}
        features: Any = backbone.apply(variables, batch["image"], train=False)
        return features.astype(jnp.float32)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """The confusion matrix, and up to 36 wrongly classified images, `true → predicted`."""
        labels = np.asarray(batch["label"])
        logits = self._compiled_logits(params, collections, batch)
        predictions = np.asarray(logits.argmax(-1))
        counts = np.zeros((logits.shape[-1], logits.shape[-1]), int)
        np.add.at(counts, (labels, predictions), 1)
        displays: dict[str, Display] = {"confusion_matrix": ConfusionMatrix(counts)}
        wrong = np.flatnonzero(predictions != labels)[:36]
        if len(wrong):
            images = _to_unit_range(np.asarray(batch["image"], np.float32))
            titles = [f"{labels[i]} → {predictions[i]}" for i in wrong]
            displays["wrongly_classified"] = Images(images[wrong], titles)
        return displays

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self.logits)


def _to_unit_range(images: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Undoes whatever affine normalisation the images went through, up to contrast."""
    low, high = images.min(), images.max()
    return (images - low) / max(high - low, 1e-12)
