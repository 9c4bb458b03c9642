"""What every transform is: a pure function of a key and a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num, PRNGKeyArray

Batch = Mapping[str, Any]


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
    places = batch["index"] if "index" in batch else jnp.arange(len(batch["image"]))
    return jax.vmap(lambda place: jax.random.fold_in(rng, place))(places)


def map_images(
    function: Callable[[PRNGKeyArray, Num[Array, "height width channels"]], Array],
    rng: PRNGKeyArray,
    batch: Batch,
) -> Batch:
    """The batch with `function(key, image)` for each image, vectorised."""
    return {**batch, "image": jax.vmap(function)(example_keys(rng, batch), batch["image"])}


def maybe(
    rng: PRNGKeyArray, probability: float, changed: Num[Array, "..."], original: Num[Array, "..."]
) -> Num[Array, "..."]:
    """`changed` with the given probability, else `original`."""
    return jnp.where(jax.random.bernoulli(rng, probability), changed, original)
