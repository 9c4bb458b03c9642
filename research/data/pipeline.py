"""From a data set to the batches of a run: order, shares of processes, prefetch, position.

The batch of a step is a pure function of the order's settings and the step, so a run can be
taken up at any step, and prefetching or other workers change nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from research.data.dataset import Dataset
from research.data.order import Order
from research.errors import UserError


def process_share(
    indices: Int[np.ndarray, " batch"], process_index: int, process_count: int
) -> Int[np.ndarray, " share"]:
    """The contiguous part of a global batch that one process of several loads.

    Raises UserError when the batch does not divide evenly.
    """
    if len(indices) % process_count:
        raise UserError(
            f"A batch of {len(indices)} does not divide evenly over {process_count} processes."
        )
    share = len(indices) // process_count
    return indices[process_index * share : (process_index + 1) * share]


def evaluation_batches(
    size: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[tuple[Int[np.ndarray, " share"], Float[np.ndarray, " share"]]]:
    """This process's shares (indices int64, mask float32) of batches with every example once.

    `batch_size` is that of the global batch. The last batch is filled up with index 0 and mask 0,
    so that all processes have equally many batches of equal size.
    """
    for start in range(0, size, batch_size):
        positions = process_share(
            np.arange(start, start + batch_size), process_index, process_count
        )
        mask = positions < size
        yield np.where(mask, positions, 0), mask.astype(np.float32)


class Feed:
    """The data of the steps from `start_step` up to `stop_step`, one after the other.

    An item is this process's share of the step's indices where `as_indices` is on, which is what a
    data set that lives on the device needs, and otherwise the gathered batch.
    Up to `prefetch` batches are gathered ahead: by threads, or by `workers` processes where the
    data set decodes files (gathering rows of arrays is never worth a process).
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Order,
        start_step: int,
        stop_step: int,
        process_index: int = 0,
        process_count: int = 1,
        as_indices: bool = False,
        prefetch: int = 2,
        workers: int = 0,
    ):
        if order.size != dataset.size:
            raise ValueError(f"The order is of {order.size} examples, the data has {dataset.size}.")
        self._order = order
        self._step = start_step
        share = _Share(order, process_index, process_count)
        if as_indices:
            self._items: Iterator[Any] = map(share, range(start_step, stop_step))
        else:
            if dataset.on_device:
                workers = 0
            read = _Gather(dataset, share)
            self._items = _prefetched(read, start_step, stop_step, prefetch, workers)

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self._step += 1
        return item

    def position(self) -> dict[str, Any]:
        """Where the next item is, as JSON: step, epoch, and the order it counts in."""
        return {
            "step": self._step,
            "epoch": self._step // self._order.steps_per_epoch,
            "order": self._order.settings(),
        }

    def close(self) -> None:
        """Stops threads and processes; there are no items afterwards."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
        self._items = iter(())


@dataclass(frozen=True)
class _Share:
    order: Order
    process_index: int
    process_count: int

    def __call__(self, step: int) -> Int[np.ndarray, " share"]:
        return process_share(self.order.indices(step), self.process_index, self.process_count)


@dataclass(frozen=True)
class _Gather:
    dataset: Dataset
    share: _Share

    def __call__(self, step: int) -> dict[str, Any]:
        batch = self.dataset.gather(self.dataset.arrays, self.share(step))
        width = self.share.order.width(step)
        return batch if width is None else cut(batch, width)


def cut(batch: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The first `width` places of each example, in all arrays that have an axis of places."""
    return {name: x[:, :width] if np.ndim(x) > 1 else x for name, x in batch.items()}


def _prefetched(
    read: _Gather, start_step: int, stop_step: int, prefetch: int, workers: int
) -> Iterator[Any]:
    import grain

    steps = grain.MapDataset.range(start_step, stop_step).map(read)
    threads = 0 if workers or not prefetch else min(prefetch, 4)
    buffer = 0 if not threads else prefetch
    batches = steps.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    )
    if workers:
        from absl import flags

        # grain's workers read absl's flags, which only absl.app parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        buffer = max(1, prefetch // workers)
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(workers, buffer))
    return iter(batches)
