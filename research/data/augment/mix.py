"""Transforms that mix examples of a batch and their labels, and the choice between them.

Mixup and CutMix write `batch["label_probs"]` (batch, num_classes) in float32 and leave
`batch["label"]`; where an earlier transform wrote `label_probs`, they mix those. Both raise
ValueError for maps of labels.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from research.data.augment.checks import (
    check_positive,
    check_range,
    require_class_labels,
    require_float,
    require_images,
)
from research.data.augment.transform import Batch, Transform, example_keys


@dataclass(frozen=True)
class Mixup:
    """x = λ x₁ + (1 - λ) x₂ with λ from Beta(alpha, alpha), and so the labels (Zhang et al., 2018).

    Each example is mixed with another of a random permutation of the batch, by its own λ.
    """

    alpha: float
    num_classes: int

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        check_range("num_classes", self.num_classes, 2)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        image = batch["image"]
        require_float(self, image)
        require_class_labels(self, batch["label"])
        partner_rng, weight_rng = jax.random.split(rng)
        partner = jax.random.permutation(partner_rng, len(image))
        weight = _beta(weight_rng, self.alpha, batch)
        pixel_weight = weight[:, None, None, None].astype(image.dtype)
        mixed = pixel_weight * image + (1 - pixel_weight) * image[partner]
        probs = _mix_labels(batch, partner, weight, self.num_classes)
        return {**batch, "image": mixed, "label_probs": probs}


@dataclass(frozen=True)
class CutMix:
    """Pastes a box of another example, labels weighted by area (Yun et al., 2019).

    The box has the image's proportions and a share 1 - λ of its area, λ from Beta(alpha, alpha);
    its centre is uniform over the pixels, and what reaches beyond the border does not count.
    """

    alpha: float
    num_classes: int

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        check_range("num_classes", self.num_classes, 2)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        image = batch["image"]
        require_images(self, image)
        require_class_labels(self, batch["label"])
        partner_rng, box_rng, weight_rng = jax.random.split(rng, 3)
        partner = jax.random.permutation(partner_rng, len(image))
        side = jnp.sqrt(1 - _beta(weight_rng, self.alpha, batch))

        def box(key: PRNGKeyArray, side: Float[Array, ""]) -> Array:
            row_key, column_key = jax.random.split(key)
            rows = _interval(row_key, image.shape[1], side)
            columns = _interval(column_key, image.shape[2], side)
            return rows[:, None] & columns[None, :]

        pasted = jax.vmap(box)(example_keys(box_rng, batch), side)
        weight = 1 - pasted.mean((1, 2), dtype=jnp.float32)
        probs = _mix_labels(batch, partner, weight, self.num_classes)
        mixed = jnp.where(pasted[..., None], image[partner], image)
        return {**batch, "image": mixed, "label_probs": probs}


@dataclass(frozen=True)
class RandomChoice:
    """One of several transforms for the whole batch, each as likely as the others.

    Such as Mixup or CutMix, as ConvNeXt and DeiT have them. All must write the same arrays.
    """

    transforms: tuple[Transform, ...]

    def __post_init__(self) -> None:
        check_range("the number of transforms", len(self.transforms), 1)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises TypeError where the transforms write arrays of different shapes or types."""
        choice_rng, rng = jax.random.split(rng)
        choice = jax.random.randint(choice_rng, (), 0, len(self.transforms))
        return lax.switch(choice, self.transforms, rng, dict(batch))


def _beta(rng: PRNGKeyArray, alpha: float, batch: Batch) -> Float[Array, " batch"]:
    """Beta(alpha, alpha) as the share of one of two gammas, drawn by one sampler for both:
    `jax.random.beta` has two, and their compilation is most of a mixing transform's."""

    def draw(key: PRNGKeyArray) -> Float[Array, ""]:
        first, second = jax.random.loggamma(key, alpha, (2,), jnp.float32)
        return jax.nn.sigmoid(first - second)

    return jax.vmap(draw)(example_keys(rng, batch))


def _interval(rng: PRNGKeyArray, length: int, share: Float[Array, ""]) -> Array:
    """Which of `length` pixels lie in an interval of that share around a uniform centre."""
    size = jnp.floor(length * share).astype(jnp.int32)
    start = jax.random.randint(rng, (), 0, length) - size // 2
    places = jnp.arange(length)
    return (places >= start) & (places < start + size)


def _mix_labels(
    batch: Batch, partner: Array, weight: Float[Array, " batch"], num_classes: int
) -> Float[Array, "batch num_classes"]:
    """`weight` of each example's own label, the rest of its partner's."""
    if "label_probs" in batch:
        probs = batch["label_probs"]
    else:
        probs = jax.nn.one_hot(batch["label"], num_classes, dtype=jnp.float32)
    return weight[:, None] * probs + (1 - weight[:, None]) * probs[partner]
