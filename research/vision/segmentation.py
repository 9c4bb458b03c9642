"""Semantic segmentation: a class for every pixel."""

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
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.engine.display import Displays, Images
from research.engine.metrics import Mean, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.vision.labels import check_classes
from research.vision.pixels import check_finite, to_unit_range
from research.vision.unet import crop

_SHOWN = 6
_AXES = (1, 2)
# Rotations by 90 degrees, and whether a mirror image of what they give.
_VIEWS = {
    "none": [(0, False)],
    "flip": [(0, False), (0, True)],
    "dihedral": [(turns, mirrored) for turns in range(4) for mirrored in (False, True)],
}


@dataclass(frozen=True)
class Segmentation:
    """A model's logits of every pixel against maps of labels.

    Where the model's output is smaller than the images (a U-Net without padding), it stands for
    their middle, and only that counts. A batch's `weight` weighs the pixels' cross-entropy;
    `dice_weight` adds 1 - the Dice coefficient of the probabilities, the mean over classes
    (Milletari et al. 2016, with plain sums in the denominator as Sudre et al. 2017). Its sums
    are over the examples of one call: with `micro_batches` or pmap it is the mean of each
    micro-batch's and device's own, which is not that of the large batch.
    `test_time_augmentation` "flip" averages the logits of an image and its mirror image, turned
    back; "dihedral" those of all eight rotations by 90 degrees and mirror images.
    """

    model: nn.Module
    dice_weight: float = 0.0
    test_time_augmentation: Literal["none", "flip", "dihedral"] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.dice_weight < inf:
            raise UserError(f"dice_weight = {self.dice_weight}: must be at least 0, and finite")

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables."""
        return self.model.init(rng, batch["image"], train=False)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a pixel is NaN or infinite, or labels are no maps of the model's
        classes."""
        check_finite(arrays.get("image"))
        if "label" not in arrays:
            return
        labels, num_classes = arrays["label"], getattr(self.model, "num_classes", None)
        if labels.ndim != 3:
            raise UserError(
                f"the labels have shape {labels.shape}; segmentation needs one a pixel, "
                "(examples, height, width)"
            )
        if num_classes is not None:
            check_classes(labels, num_classes)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over pixels in nats, with the pixel error of the same logits."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["image"],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        logits = logits.astype(jnp.float32)
        labels = crop(batch["label"], logits.shape[1:3])
        # By indices its gradient would be a scatter of constants, which XLA folds for seconds.
        losses = optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
        if "weight" in batch:
            losses *= crop(batch["weight"], logits.shape[1:3])
        loss = losses.mean() + self.dice_weight * dice_loss(logits, labels)
        metrics = {"pixel_error": mean_of(logits.argmax(-1) != labels)}
        return loss, Aux(metrics, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Unweighted cross-entropy in nats, `pixel_error` and `iou_0`, `iou_1`, …, the intersection
        over the union of each class in all images together."""
        logits = self.logits(params, collections, batch)
        labels, mask = crop(batch["label"], logits.shape[1:3]), batch.get("mask")
        predictions = logits.argmax(-1)
        counted = jnp.ones(labels.shape)
        if mask is not None:
            counted *= mask[:, None, None]
        classes = range(logits.shape[-1])
        return {
            "loss": mean_of(cross_entropy(logits, labels), mask),
            "pixel_error": mean_of(predictions != labels, mask),
            **{f"iou_{k}": _overlap(predictions == k, labels == k, counted) for k in classes},
        }

    def summarize(self, metrics: Mapping[str, Any]) -> Mapping[str, Any]:
        """`mean_iou`, the mean over the classes that there are."""
        ious = np.stack([x for name, x in metrics.items() if name.startswith("iou_")])
        there = ~np.isnan(ious)
        total, count = np.where(there, ious, 0).sum(0), there.sum(0)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return {"mean_iou": mean}

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch rows columns classes"]:
        """The model's output in evaluation mode, in float32; the mean over the views of
        `test_time_augmentation`."""
        variables = {"params": params, **collections}
        outputs: list[Any] = []
        for turns, mirrored in _VIEWS[self.test_time_augmentation]:
            view = jnp.rot90(batch["image"], turns, _AXES)
            view = jnp.flip(view, 2) if mirrored else view
            seen: Any = self.model.apply(variables, view, train=False)
            seen = jnp.flip(seen, 2) if mirrored else seen
            outputs.append(jnp.rot90(seen.astype(jnp.float32), -turns, _AXES))
        return sum(outputs) / len(outputs)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Images with the classes of the labels and of the predictions as colours over them."""
        few = {name: x[:_SHOWN] for name, x in batch.items()}
        predictions = np.asarray(self._compiled_predictions(params, collections, few))
        size = predictions.shape[1:3]
        images = to_unit_range(np.asarray(crop(few["image"], size), np.float32))
        labels = np.asarray(crop(few["label"], size))
        rows, titles = [], []
        for i in range(len(images)):
            rows += [overlay(images[i], labels[i]), overlay(images[i], predictions[i])]
            error = np.mean(labels[i] != predictions[i])
            titles += ["labels", f"predicted, {error:.1%} of pixels wrong"]
        return {"segmentation": Images(np.stack(rows), titles, columns=2)}

    @cached_property
    def _compiled_predictions(self) -> Callable[..., Array]:
        return jax.jit(lambda *arguments: self.logits(*arguments).argmax(-1))


def dice_loss(
    logits: Float[Array, "batch rows columns classes"],
    labels: Int[Array, "batch rows columns"],
) -> Float[Array, ""]:
    """1 - 2 Σ p y / (Σ p + Σ y), sums over all pixels of these images, the mean over classes.

    Not a mean over images: that of a large batch is not the mean of those of its parts.
    """
    probabilities, targets = jax.nn.softmax(logits), jax.nn.one_hot(labels, logits.shape[-1])
    axes = (0, 1, 2)
    both = (probabilities * targets).sum(axes)
    total = probabilities.sum(axes) + targets.sum(axes)
    return 1 - jnp.mean(2 * both / jnp.maximum(total, 1e-6))


def overlay(
    image: Float[np.ndarray, "height width channels"], classes: Int[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width 3"]:
    """An image in [0, 1] with a colour for every class but 0 over it."""
    from matplotlib import colormaps

    colors = np.array([colormaps["tab10"](i % 10)[:3] for i in range(int(classes.max()) + 1)])
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    return np.where(classes[..., None] > 0, 0.55 * grey + 0.45 * colors[classes], grey)


def _overlap(predicted: Array, true: Array, counted: Array) -> Mean:
    return Mean(jnp.sum((predicted & true) * counted), jnp.sum((predicted | true) * counted))
