"""Bootstrap your own latent (Grill et al. 2020)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Displays, Images
from research.engine.metrics import Mean, mean_of
from research.engine.objective import (
    Aux,
    Batch,
    Collections,
    Params,
    Variables,
    example_keys,
)

ImageBatch = Float[Array, "batch height width channels"]
_DISPLAYED = 8


class ProjectedBackbone(nn.Module):
    """Backbone, projector and predictor in one tree; the teacher has no predictor."""

    backbone: nn.Module
    projector: nn.Module
    predictor: nn.Module

    def __call__(
        self, images: ImageBatch, train: bool = False
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch dim"]]:
        """Projection and prediction."""
        projection = self.project(images, train)
        return projection, self.predictor(projection, train=train)

    def project(self, images: ImageBatch, train: bool = False) -> Float[Array, "batch dim"]:
        """Projection only."""
        return self.projector(self.represent(images, train), train=train)

    def represent(self, images: ImageBatch, train: bool = False) -> Float[Array, "batch features"]:
        """The backbone's features: what is used downstream."""
        return self.backbone(images, train=train)


@dataclass(frozen=True)
class BYOL:
    """A network predicts how its own slow average, the teacher, projects another view.

    The loss is, with both views in both roles, the mean of ‖q̄(z₁) − z̄₂′‖² + ‖q̄(z₂) − z̄₁′‖²,
    where ¯ scales to length 1 and ′ is the teacher's, without gradient (eq. 2). After each
    update the teacher moves to m·teacher + (1 − m)·online, where m rises from `base_momentum`
    to 1 by a cosine over training (section 3.3).

    `backbone`, `projector` and `predictor` are called `(inputs, train)`. `views` are the
    augmentations that make a view: each is called `(rng, batch)`, in their order, once for each
    of the two. The teacher is in `collections["teacher"]`: its `params` and its own statistics.
    """

    backbone: nn.Module
    projector: nn.Module
    predictor: nn.Module
    views: tuple[Any, ...]
    base_momentum: float = 0.99

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The online network's variables and the teacher, which starts as its copy."""
        variables = dict(self._networks.init(rng, batch["image"]))
        teacher = {
            collection: jax.tree.map(jnp.copy, _without_predictor(tree))
            for collection, tree in variables.items()
        }
        return {**variables, "teacher": teacher}

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The loss of two new views of each image; each pass normalises by its own view."""
        view_rng, dropout_rng = jax.random.split(rng)
        teacher_params, teacher, online = _split(collections)
        projections, predictions, targets = [], [], []
        for i, view_key in enumerate(jax.random.split(view_rng)):
            view = self._view(view_key, batch["image"])
            rngs = {"dropout": jax.random.fold_in(dropout_rng, i)}
            (projection, prediction), online = self._apply(
                params, online, view, train=True, mutable=list(online), rngs=rngs
            )
            target, teacher = self._apply(
                teacher_params,
                teacher,
                view,
                train=True,
                method="project",
                mutable=list(teacher),
                rngs=rngs,
            )
            projections.append(projection)
            predictions.append(prediction)
            targets.append(jax.lax.stop_gradient(target))
        losses = _symmetric(predictions, targets)
        metrics = {
            "cosine": mean_of(1.0 - losses / 4.0),
            "feature_std": mean_of(jnp.stack([feature_std(p) for p in projections])),
        }
        collections = {**online, "teacher": {"params": teacher_params, **teacher}}
        return losses.mean(), Aux(metrics, collections)

    def after_update(
        self, params: Params, collections: Collections, progress: Float[Array, ""]
    ) -> Collections:
        """The collections with the teacher's parameters moved towards the online ones."""
        momentum = 1.0 - (1.0 - self.base_momentum) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        teacher = collections["teacher"]
        moved = optax.incremental_update(
            _without_predictor(params), teacher["params"], 1.0 - momentum
        )
        return {**collections, "teacher": {**teacher, "params": moved}}

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss and the mean cosine, with running statistics and each image's own two views."""
        teacher_params, teacher, online = _split(collections)
        predictions, targets = [], []
        for view in self._example_views(example_keys(rng, batch), batch["image"]):
            predictions.append(self._apply(params, online, view)[1])
            targets.append(self._apply(teacher_params, teacher, view, method="project"))
        losses, mask = _symmetric(predictions, targets), batch.get("mask")
        return {"loss": mean_of(losses, mask), "cosine": mean_of(1.0 - losses / 4.0, mask)}

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """The online backbone's output for the images as they are."""
        _, _, online = _split(collections)
        features = self._apply(params, online, batch["image"], method="represent")
        return features.astype(jnp.float32)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """A few images above two views of each."""
        images = batch["image"][:_DISPLAYED]
        views = [self._compiled_view(key, images) for key in jax.random.split(rng)]
        rows = jnp.concatenate([images, *views])
        low, high = rows.min(), rows.max()
        rows = (rows - low) / jnp.maximum(high - low, 1e-12)
        return {"views": Images(rows, columns=len(images))}

    @property
    def _networks(self) -> ProjectedBackbone:
        return ProjectedBackbone(self.backbone, self.projector, self.predictor)

    def _apply(
        self, params: Params, collections: Collections, images: ImageBatch, **options: Any
    ) -> Any:
        return self._networks.apply({"params": params, **collections}, images, **options)

    def _view(self, rng: PRNGKeyArray, images: ImageBatch) -> ImageBatch:
        batch: Batch = {"image": images}
        for place, view in enumerate(self.views):
            batch = view(jax.random.fold_in(rng, place), batch)
        return batch["image"]

    @cached_property
    def _compiled_view(self) -> Callable[[PRNGKeyArray, ImageBatch], ImageBatch]:
        return jax.jit(self._view)

    def _example_views(self, keys: PRNGKeyArray, images: ImageBatch) -> list[ImageBatch]:
        """Two views of each image that depend on its own key and on no other image."""
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        one = jax.vmap(lambda key, image: self._view(key, image[None])[0])
        return [one(first, images), one(second, images)]


def regression_losses(
    prediction: Float[Array, "batch dim"], target: Float[Array, "batch dim"]
) -> Float[Array, " batch"]:
    """‖prediction̄ − target̄‖² = 2 − 2 cos, in [0, 4], in float32 or wider."""
    prediction, target = (
        x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (prediction, target)
    )
    return 2.0 - 2.0 * optax.cosine_similarity(prediction, target)


@jax.jit
def feature_std(features: Float[Array, "batch dim"]) -> Float[Array, ""]:
    """How far features are from collapse: near 1 where they spread evenly, 0 where all are equal.

    The standard deviation over the batch of the features scaled to length 1, averaged over
    dimensions, times √dim (Chen & He 2021, figure 2). Features that are never negative have a
    mean in common and stay well below 1.
    """
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    scaled = features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
    return scaled.std(axis=0).mean() * features.shape[-1] ** 0.5


def _symmetric(
    predictions: list[Float[Array, "batch dim"]], targets: list[Float[Array, "batch dim"]]
) -> Float[Array, " batch"]:
    return regression_losses(predictions[0], targets[1]) + regression_losses(
        predictions[1], targets[0]
    )


def _without_predictor(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: subtree for name, subtree in tree.items() if name != "predictor"}


def _split(collections: Collections) -> tuple[Params, Collections, Collections]:
    """The teacher's parameters, its other collections, and the online network's."""
    teacher = dict(collections["teacher"])
    online = {name: tree for name, tree in collections.items() if name != "teacher"}
    return teacher.pop("params"), teacher, online
