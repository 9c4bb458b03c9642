"""SIGTERM, SIGHUP and Ctrl-C as requests that whoever has children passes on to them."""

import signal
import time
from types import FrameType
from typing import Any, Self, final

_POLL_SECONDS = 0.05


@final
class StopRequests:
    """Counts requests to stop while entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup has SIGHUP ignored, and it stays so.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def sleep(self, seconds: float) -> bool:
        """Whether nobody asked to stop meanwhile."""
        end = time.monotonic() + seconds
        while not self.count and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
        return not self.count

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
