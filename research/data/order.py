"""Which examples the batch of each step has."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from research.errors import UserError


@dataclass(frozen=True)
class Order:
    """Which examples the global batch of each step has.

    Every epoch is a new permutation of all `size` examples when `shuffle` is on, and the order
    of the data otherwise; the last size % batch_size examples of an epoch's order are left out.
    A permutation takes 8 bytes an example while its epoch lasts.

    With `buckets`, a shuffled epoch is cut into batches by length, so that a batch is as wide as
    its longest example needs, and the batches come in an order of their own; nothing else changes
    which examples an epoch has.
    Raises UserError when there are fewer examples than a batch has.
    """

    size: int
    batch_size: int
    seed: int
    shuffle: bool = True
    buckets: "LengthBuckets | None" = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seed < 0:
            raise UserError(
                f"The batch size must be at least 1 and the seed at least 0; "
                f"got {self.batch_size} and {self.seed}."
            )
        if self.size < self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} is larger than the data set of {self.size} examples."
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.batch_size

    def indices(self, step: int) -> Int[np.ndarray, " batch"]:
        """The examples of a step's global batch, int64."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        if not self.shuffle:
            return np.arange(rows.start, rows.stop)
        return _epoch(self, epoch)[rows]

    def width(self, step: int) -> int | None:
        """How many places the examples of a step's global batch are cut to; None for all."""
        return None if self.buckets is None else self.buckets.width(self.indices(step))

    def settings(self) -> dict[str, Any]:
        """What the order depends on beside the data, as JSON."""
        return {
            "size": self.size,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "length_buckets": [] if self.buckets is None else list(self.buckets.widths),
        }


@dataclass(frozen=True)
class LengthBuckets:
    """Which of `widths`, ascending, each example is padded to; `places` has a byte an example."""

    widths: tuple[int, ...]
    places: bytes = field(repr=False)

    @classmethod
    def of(cls, widths: tuple[int, ...], lengths: Int[np.ndarray, " size"]) -> "LengthBuckets":
        """The narrowest width for each length.

        Raises UserError where widths do not ascend, or where an example is longer than the last.
        """
        if list(widths) != sorted(set(widths)) or min(widths) < 1 or len(widths) > 256:
            raise UserError(f"{widths} are not at most 256 ascending widths of at least 1")
        if lengths.max() > widths[-1]:
            raise UserError(f"an example has length {lengths.max()}; the last must hold it")
        return cls(widths, np.searchsorted(widths, lengths).astype(np.uint8).tobytes())

    def of_examples(self, indices: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
        """The place in `widths` of each of these examples."""
        return np.frombuffer(self.places, np.uint8)[indices]

    def width(self, indices: Int[np.ndarray, " batch"]) -> int:
        """The width that holds all of these examples."""
        return self.widths[int(self.of_examples(indices).max())]


# Two, because prefetching reads on both sides of an epoch's end.
@functools.lru_cache(maxsize=2)
def _epoch(order: Order, epoch: int) -> Int[np.ndarray, " size"]:
    """All examples in the order of one epoch."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([order.seed, epoch])))
    permutation = generator.permutation(order.size)
    if order.buckets is not None:
        kept = permutation[: order.steps_per_epoch * order.batch_size]
        kept = kept[np.argsort(order.buckets.of_examples(kept), kind="stable")]
        batches = kept.reshape(order.steps_per_epoch, order.batch_size)
        permutation = generator.permutation(batches).reshape(-1)
    permutation.setflags(write=False)
    return permutation


def check_position(position: Mapping[str, Any], order: Order) -> None:
    """Raises UserError where a saved position belongs to another order of the data.

    The steps before it would have seen other examples than they are taken to have seen.
    """
    saved, current = position["order"], order.settings()
    changed = [
        f"{name} was {saved.get(name)} and is {value}"
        for name, value in current.items()
        if saved.get(name) != value
    ]
    if changed:
        raise UserError(
            f"The checkpoint at step {position['step']} belongs to another order of the data: "
            f"{'; '.join(changed)}. Go on with the run's own settings, or start a new run."
        )
