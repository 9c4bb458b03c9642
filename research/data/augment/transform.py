"""What every transform is: a pure function of a key and a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import PRNGKeyArray

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
