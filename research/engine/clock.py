"""What the clock says of a run: rate, share of time spent waiting for data, compile time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final


@final
class Clock:
    """Times the steps between two log rows; the call that compiles is timed alone.

    `write(step, values)` receives steps and examples per second, the share of the time that went
    into waiting for data, and once the seconds from the start of the process to the first step.
    """

    def __init__(self, every: int, batch_size: int, write: Callable[..., None]):
        self._every, self._batch_size, self._write = every, batch_size, write
        self._start: float | None = None
        self._steps, self._waited, self._paused = 0, 0.0, 0.0
        self.data_wait = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside (evaluation, checkpoints) counts for nothing."""
        before = time.perf_counter()
        yield
        self._paused += time.perf_counter() - before

    def stepped(self, step: int, count: int) -> None:
        """Counts `count` steps up to `step`, and writes where a log row is full."""
        if self._start is None:
            self._write(step, {"seconds_to_first_step": _process_age()})
            self._restart()
            return
        self._steps += count
        if step // self._every > (step - count) // self._every:
            seconds = time.perf_counter() - self._start - self._paused
            self.data_wait = self._waited / max(seconds, 1e-9)
            rate = self._steps / max(seconds, 1e-9)
            self._write(step, self.values(rate))
            self._restart()

    def values(self, rate: float) -> dict[str, Any]:
        """A row for a rate in steps per second."""
        return {
            "steps_per_second": rate,
            "examples_per_second": rate * self._batch_size,
            "data_wait": self.data_wait,
        }

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._steps, self._waited, self._paused = 0, 0.0, 0.0


def _process_age() -> float:
    """Seconds since this process began."""
    import psutil

    return time.time() - psutil.Process().create_time()
