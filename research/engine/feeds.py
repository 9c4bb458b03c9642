"""Several steps of data at a time, stacked and put on the devices."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final

import jax
import numpy as np

from research.data.pipeline import Feed
from research.engine.prepare import Prepared


@final
class Feeds:
    """The training data from a step on, `take`n some steps at a time, made one call ahead.

    `count_at(step)` says how many steps the call at a step makes. A feed always has
    `steps_per_call` steps, of which the first `count` matter: its shape, and with it the compiled
    program, is the same however a run is cut into calls.
    """

    def __init__(self, run: Prepared, start_step: int, count_at: Callable[[int], int]):
        self._run = run
        self._length = run.experiment.steps_per_call
        data = run.experiment.data
        rows = run.parallel.local_rows(data.batch_size)
        share = rows.stop - rows.start
        self._feeds = [
            Feed(
                run.dataset,
                order,
                start_step,
                run.steps.total,
                process_index=rows.start // share,
                process_count=data.batch_size // share,
                as_indices=run.on_device,
                prefetch=data.prefetch,
                workers=data.workers,
            )
            for order in run.orders
        ]
        self._step, self._count_at = start_step, count_at
        self._ahead: Future[tuple[int, Any]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feeds")
        self.look_ahead()

    def take(self) -> tuple[int, Any]:
        """How many steps come next, and their data on the devices; waits for it."""
        assert self._ahead is not None, "look_ahead() comes first, and there must be steps left"
        count, feed = self._ahead.result()
        self._step += count
        self._ahead = None
        return count, feed

    def look_ahead(self) -> None:
        """Begins with the next call's data, in the background."""
        if self._step < self._run.steps.total:
            self._ahead = self._thread.submit(self._make, self._count_at(self._step))

    def close(self) -> None:
        """Stops what reads ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        for feed in self._feeds:
            feed.close()

    def _make(self, count: int) -> tuple[int, Any]:
        steps = [self._next() for _ in range(count)]
        steps += steps[-1:] * (self._length - count)
        stacked = jax.tree.map(lambda *items: np.stack(items), *steps)
        return count, self._run.parallel.put_feed(stacked, 1)

    def _next(self) -> Any:
        items = [next(feed) for feed in self._feeds]
        if self._run.on_device:
            items = [{"indices": np.asarray(item, np.int32)} for item in items]
        if not self._run.experiment.parallelism.trials:
            return items[0]
        return jax.tree.map(lambda *each: np.stack(each), *items)
