"""SIGTERM, SIGUSR2 and Ctrl-C as a request to save and stop."""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any, Self, final

import jax
import numpy as np

STOPPING = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


@final
class StopSignal:
    """While entered, SIGTERM, SIGUSR2 and the first Ctrl-C are noted; the second Ctrl-C ends the
    process.

    SIGTERM may come any number of times: schedulers send it twice within a moment, and SIGKILL to
    those who take too long.
    """

    def __init__(self) -> None:
        self._seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether any process was told to stop; all processes must ask at the same step."""
        if jax.process_count() == 1:
            return self._seen
        from jax.experimental import multihost_utils

        return bool(np.any(multihost_utils.process_allgather(np.asarray(self._seen))))

    def _note(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])
        if self._seen:
            return
        self._seen = True
        # Not print: the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, b"\nStopping after this step; Ctrl-C to stop at once.\n")
