"""Several steps of data at a time, stacked and put on the devices."""

from typing import Any, final

import jax
import numpy as np

from research.data.pipeline import Feed
from research.engine.prepare import Prepared


@final
class Feeds:
    """The training data from a step on, `take`n some steps at a time.

    A feed always has `steps_per_call` steps, of which the first `count` matter: its shape, and
    with it the compiled program, is the same however a run is cut into calls.
    """

    def __init__(self, run: Prepared, start_step: int):
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

    def take(self, count: int) -> Any:
        """The data of the next `count` steps on the devices."""
        steps = [self._next() for _ in range(count)]
        steps += steps[-1:] * (self._length - count)
        stacked = jax.tree.map(lambda *items: np.stack(items), *steps)
        return self._run.parallel.put_feed(stacked, 1)

    def close(self) -> None:
        """Stops what reads ahead."""
        for feed in self._feeds:
            feed.close()

    def _next(self) -> Any:
        items = [next(feed) for feed in self._feeds]
        if self._run.on_device:
            items = [{"indices": np.asarray(item, np.int32)} for item in items]
        if not self._run.experiment.parallelism.trials:
            return items[0]
        return jax.tree.map(lambda *each: np.stack(each), *items)
