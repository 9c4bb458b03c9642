"""Image classification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal

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
from research.nn.dropout import is_off
from research.vision.labels import check_classes
from research.vision.pixels import check_finite, to_unit_range


@dataclass(frozen=True)
class Classification:
    """A model's logits against the labels of images.

    The model is called `model(images, train)`; its dropout and mutable collections are handled.
    A training batch's `label_probs` (mixed images) take the place of its labels. Evaluation
    always uses the plain labels.

    `loss_function` "softmax" is cross-entropy, "sigmoid" a binary one for each class, summed (Beyer
    et al. 2020), and "focal" the latter with easy examples weighed down by (1 - p)^`focal_gamma`
    (Lin et al. 2017). `label_smoothing` moves that share of the target to the uniform distribution
    (Szegedy et al. 2016). `class_weights`, one a class, weigh each example's loss by its label's;
    the mean is over the weights.

    `auxiliary_weight` adds the loss of a model's auxiliary classifiers (GoogLeNet: 0.3, Inception
    v3: 0.4). `top_k` also counts labels that are among the k largest logits.
    `test_time_augmentation` "flip" averages the logits of an image and its mirror image; "shift"
    also those of both moved by a pixel up and left, and down and right, which together count as
    much as those that are not moved (Jordan 2024).
    """

    model: nn.Module
    label_smoothing: float = 0.0
    loss_function: Literal["softmax", "sigmoid", "focal"] = "softmax"
    focal_gamma: float = 2.0
    class_weights: tuple[float, ...] = ()
    auxiliary_weight: float = 0.0
    top_k: tuple[int, ...] = ()
    test_time_augmentation: Literal["none", "flip", "shift"] = "none"

    def __post_init__(self) -> None:
        num_classes: int | None = getattr(self.model, "num_classes", None)
        auxiliary = getattr(self.model, "auxiliary", False)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing = {self.label_smoothing}: must be in [0, 1)")
        for name in ("focal_gamma", "auxiliary_weight"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 0, and finite")
        if not is_off(self.auxiliary_weight) and not auxiliary:
            raise UserError(
                f"auxiliary_weight = {self.auxiliary_weight}: {type(self.model).__name__} has no "
                "auxiliary classifiers; leave it 0, or set auxiliary of GoogLeNet or InceptionV3"
            )
        if auxiliary and is_off(self.auxiliary_weight):
            raise UserError(
                "auxiliary_weight = 0: the model's auxiliary classifiers would not be trained; "
                "0.3 or 0.4 is usual"
            )
        if self.class_weights and num_classes not in (None, len(self.class_weights)):
            raise UserError(
                f"class_weights has {len(self.class_weights)} entries; the model has "
                f"{num_classes} classes"
            )
        if self.class_weights and not (
            all(0 <= weight < inf for weight in self.class_weights) and any(self.class_weights)
        ):
            raise UserError(
                f"class_weights = {self.class_weights}: must be at least 0, and finite; one above 0"
            )
        for k in self.top_k:
            if k < 1 or (num_classes is not None and k >= num_classes):
                raise UserError(f"top_k: {k} must be at least 1 and below the number of classes")

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where mixed labels have another number of classes than the model.
        """
        num_classes: int | None = getattr(self.model, "num_classes", None)
        if num_classes is not None and "label_probs" in batch:
            mixed = batch["label_probs"].shape[-1]
            if mixed != num_classes:
                raise UserError(
                    f"data.transforms: they mix labels of num_classes = {mixed}, but the model has "
                    f"objective.model.num_classes = {num_classes}"
                )
        return self.model.init(rng, batch["image"], train=False, method=self._method)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a pixel is NaN or infinite, labels are not one an example, or one
        is none of the model's `num_classes`.

        Of data without an array of labels, `num_classes` of its own is compared, if it has that.
        """
        check_finite(arrays.get("image"))
        labels, num_classes = arrays.get("label"), getattr(self.model, "num_classes", None)
        if labels is not None and labels.ndim != 1:
            raise UserError(
                f"the labels have shape {labels.shape}; classification needs one an example, "
                "(examples,)"
            )
        if num_classes is None:
            return
        if labels is not None:
            check_classes(labels, num_classes)
        elif arrays.get("num_classes", 0) > num_classes:
            raise UserError(
                f"the data set has {arrays['num_classes']} classes, but the model has "
                f"objective.model.num_classes = {num_classes}"
            )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean cross-entropy in nats, with the accuracy of the logits it was computed from."""
        outputs, collections = self.model.apply(
            {"params": params, **collections},
            batch["image"],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
            method=self._method,
        )
        logits, auxiliary = outputs if self._method is not None else (outputs, [])
        logits = logits.astype(jnp.float32)
        if "label_probs" in batch:
            targets = batch["label_probs"]
        else:
            targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        weights = targets @ jnp.asarray(self.class_weights) if self.class_weights else None
        targets = optax.smooth_labels(targets, self.label_smoothing)
        losses = self.losses(logits, targets)
        for other in auxiliary:
            losses += self.auxiliary_weight * self.losses(other.astype(jnp.float32), targets)
        metrics = {"accuracy": accuracy(logits, targets.argmax(-1))}
        if weights is None:
            return losses.mean(), Aux(metrics, collections)
        # Above 0, for a batch may hold only classes of weight 0.
        total = jnp.maximum(weights.sum(), jnp.finfo(jnp.float32).tiny)
        return jnp.sum(losses * weights) / total, Aux(metrics, collections, total)

    def losses(
        self, logits: Float[Array, "batch classes"], targets: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """The loss of each example in nats; `targets` are probabilities."""
        match self.loss_function:
            case "softmax":
                return optax.softmax_cross_entropy(logits, targets)
            case "sigmoid":
                return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)
            case "focal":
                focal = optax.sigmoid_focal_loss(logits, targets, gamma=self.focal_gamma)
                return focal.sum(-1)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss without smoothing, weights and auxiliary classifiers in nats; `accuracy` and
        `top_<k>_accuracy` in [0, 1]."""
        logits, labels = self.logits(params, collections, batch), batch["label"]
        mask = batch.get("mask")
        if self.loss_function == "softmax":
            losses = cross_entropy(logits, labels)
        else:
            losses = self.losses(logits, jax.nn.one_hot(labels, logits.shape[-1]))
        own = jnp.take_along_axis(logits, labels[:, None], -1)
        # Of equal logits the first is the largest, as in argmax.
        before = (logits > own) | (
            (logits == own) & (jnp.arange(logits.shape[-1]) < labels[:, None])
        )
        rank = before.sum(-1)
        return {
            "loss": mean_of(losses, mask),
            "accuracy": accuracy(logits, labels, mask),
            **{f"top_{k}_accuracy": mean_of(rank < k, mask) for k in self.top_k},
        }

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch classes"]:
        """The model's output in evaluation mode, in float32; the weighted mean over the views of
        `test_time_augmentation`."""
        variables = {"params": params, **collections}
        logits: Any = 0.0
        for weight, view in _views(batch["image"], self.test_time_augmentation):
            output: Any = self.model.apply(variables, view, train=False)
            logits += weight * output.astype(jnp.float32)
        return logits

    def probabilities(self, logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
        """Those that the loss function makes of logits: their softmax, or each class's own, whose
        sum need not be 1, for "sigmoid" and "focal"."""
        return jax.nn.softmax(logits) if self.loss_function == "softmax" else nn.sigmoid(logits)

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
            images = to_unit_range(np.asarray(batch["image"], np.float32))
            titles = [f"{labels[i]} → {predictions[i]}" for i in wrong]
            displays["wrongly_classified"] = Images(images[wrong], titles)
        return displays

    @property
    def _method(self) -> Callable[..., Any] | None:
        """What the model is called by in training, where not by itself."""
        return None if is_off(self.auxiliary_weight) else type(self.model).with_auxiliary  # type: ignore[attr-defined]

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self.logits)


def _views(
    images: Float[Array, "batch height width channels"], augmentation: str
) -> list[tuple[float, Float[Array, "batch height width channels"]]]:
    """Images as they are evaluated, with what each view counts; 1 in all."""
    views = [(1.0, images)]
    if augmentation == "shift":
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        views = [(0.5, images), (0.25, padded[:, 2:, 2:]), (0.25, padded[:, :-2, :-2])]
    if augmentation != "none":
        halves = [(weight / 2, view) for weight, view in views]
        views = halves + [(weight, jnp.flip(view, 2)) for weight, view in halves]
    return views
