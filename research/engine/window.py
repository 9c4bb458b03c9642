"""Training metrics on their way from the device to the record, without stalling the device."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from research.engine.metrics import Mean, Packed, compute
from research.errors import NonFiniteError


@final
class Window:
    """Means over the steps between two log rows.

    Metrics of a call are read when the next call is under way, so the device never waits for
    the host. `write(step, values)` receives every full window.
    """

    def __init__(self, every: int, to_host: Callable[[Any], Any], write: Callable[..., None]):
        self._every, self._to_host, self._write = every, to_host, write
        self._pending: deque[tuple[int, int, Packed]] = deque()
        self._means: dict[str, Mean] = {}
        self.loss: float | None = None

    def add(self, step: int, count: int, packed: Packed) -> None:
        """Takes the metrics of the `count` steps after `step`; reads those of the call before."""
        self._pending.append((step, count, packed))
        while len(self._pending) > 1:
            self._read(*self._pending.popleft())

    def drain(self) -> None:
        """Reads all metrics; waits for the device."""
        while self._pending:
            self._read(*self._pending.popleft())

    def flush(self, step: int) -> None:
        """Writes the window that the end of training cuts short."""
        if self._means:
            self._emit(step)

    def memory(self) -> dict[str, Any]:
        """The window under way, as JSON; floats come back exactly."""
        return {
            name: [np.asarray(mean.total).tolist(), np.asarray(mean.weight).tolist(), mean.finish]
            for name, mean in self._means.items()
        }

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Takes back what `memory` gave."""
        for name, (total, weight, finish) in memory.items():
            sums: Any = np.asarray([total, weight], np.float64)
            self._means[name] = Mean(sums[0], sums[1], finish)

    def _read(self, step: int, count: int, packed: Packed) -> None:
        history = self._to_host(packed).means()
        _check_finite(step, count, history)
        start = 0
        while start < count:
            end = min(count, start + self._every - (step + start) % self._every)
            for name, mean in history.items():
                self._means[name] = _extend(self._means.get(name), mean, slice(start, end))
            if (step + end) % self._every == 0:
                self._emit(step + end)
            start = end
        losses = [mean for name, mean in history.items() if name.endswith("loss")]
        self.loss = float(np.mean(losses[0].compute()[count - 1])) if losses else None

    def _emit(self, step: int) -> None:
        self._write(step, compute(self._means))
        self._means = {}


def _extend(past: Mean | None, history: Mean, steps: slice) -> Mean:
    """The mean so far and some steps, added one after the other: rounding, too, must not depend
    on how the steps were cut into calls."""

    def add(before: Any, values: Any) -> np.ndarray:
        parts = values[steps] if before is None else np.concatenate([before[None], values[steps]])
        return np.add.accumulate(parts)[-1]

    total: Any = add(None if past is None else past.total, history.total)
    weight: Any = add(None if past is None else past.weight, history.weight)
    return Mean(total, weight, history.finish)


def is_watched(name: str) -> bool:
    """Whether a metric of training ends the run where it is NaN or infinite."""
    return name.endswith("loss") or name.startswith("grad_norm")


def _check_finite(step: int, count: int, history: Mapping[str, Mean]) -> None:
    """Raises NonFiniteError naming the first step whose loss or gradient is NaN or infinite, in
    all trials where there are several."""
    watched = {name: mean.compute()[:count] for name, mean in history.items() if is_watched(name)}
    finite = {
        name: np.isfinite(values).reshape(count, -1).any(1) for name, values in watched.items()
    }
    bad_steps = np.flatnonzero(~np.logical_and.reduce(list(finite.values())))
    if len(bad_steps):
        first = int(bad_steps[0])
        bad = {name: str(watched[name][first]) for name, ok in finite.items() if not ok[first]}
        raise NonFiniteError(step + first + 1, bad)
