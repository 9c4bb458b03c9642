"""What every transform is: a pure function of a key and a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num, PRNGKeyArray

Batch = Mapping[str, Any]
Kind = Literal["image", "label", "weight"]

# How values between pixels come about: classes are never blended.
ORDER: Mapping[Kind, int] = {"image": 1, "label": 0, "weight": 1}


@runtime_checkable
class Transform(Protocol):
    """A pure function of a whole batch that runs on the device, jitted with the step."""

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """The transformed batch; each example has its own draw."""
        ...


def apply_transforms(transforms: Sequence[Transform], rng: PRNGKeyArray, batch: Batch) -> Batch:
    """The batch after all transforms in their order, each with a key of its own."""
    for place, transform in enumerate(transforms):
        batch = transform(jax.random.fold_in(rng, place), batch)
    return batch


def example_keys(rng: PRNGKeyArray, batch: Batch) -> PRNGKeyArray:
    """One key an example: by its place `batch["index"]` in the data where there is one, so that
    its draw does not depend on the batch it is in, else by its place in the batch."""
    places = batch["index"] if "index" in batch else jnp.arange(len(next(iter(batch.values()))))
    return jax.vmap(lambda place: jax.random.fold_in(rng, place))(places)


def map_images(
    function: Callable[[PRNGKeyArray, Num[Array, "height width channels"]], Array],
    rng: PRNGKeyArray,
    batch: Batch,
) -> Batch:
    """The batch with `function(key, image)` for each image, vectorised."""
    return {**batch, "image": jax.vmap(function)(example_keys(rng, batch), batch["image"])}


def move_together(
    function: Callable[[Num[Array, "batch height width channels"], Kind], Array], batch: Batch
) -> Batch:
    """The batch with `function(pixels, kind)` for the images and all that lies over them: "label"
    and "weight" where they are maps (batch, height, width), to the function with one channel.

    Raises ValueError where maps have another size than the images.
    """
    image = batch["image"]
    moved = {"image": function(image, "image")}
    kinds: tuple[Kind, ...] = ("label", "weight")
    for kind in kinds:
        if kind in batch and batch[kind].ndim == 3:
            if batch[kind].shape != image.shape[:3]:
                raise ValueError(
                    f"the maps in `{kind}` have shape {batch[kind].shape}, the images "
                    f"{image.shape}: they must be as high and as wide to be moved together"
                )
            moved[kind] = function(batch[kind][..., None], kind)[..., 0]
    return {**batch, **moved}


def move_each(
    function: Callable[[PRNGKeyArray, Num[Array, "height width channels"], Kind], Array],
    rng: PRNGKeyArray,
    batch: Batch,
) -> Batch:
    """The batch with `function(key, pixels, kind)` for each image and, by the same key, for each of
    the maps that lie over it; vectorised. As `move_together`."""
    keys = example_keys(rng, batch)
    return move_together(
        lambda pixels, kind: jax.vmap(lambda key, x: function(key, x, kind))(keys, pixels), batch
    )


def maybe(
    rng: PRNGKeyArray, probability: float, changed: Num[Array, "..."], original: Num[Array, "..."]
) -> Num[Array, "..."]:
    """`changed` with the given probability, else `original`."""
    return jnp.where(jax.random.bernoulli(rng, probability), changed, original)
