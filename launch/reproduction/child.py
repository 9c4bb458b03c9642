"""Commands run one at a time, which end when they are told to or when their time is up."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from launch.child_processes import start
from launch.stop_requests import StopRequests

GRACE_SECONDS = 300.0
_LOOK_SECONDS = 0.25
_KEPT_LINES = 100


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` is negative where a signal killed it, `output` is the end of
    what it printed, `stopped` why it was told to stop."""

    code: int
    output: str
    seconds: float
    stopped: str = ""


@final
class Commands:
    """Runs commands while entered. Ctrl-C or SIGTERM has the one that runs save and stop, a
    second one kills it; what was told to stop is killed after `grace` seconds."""

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self._grace = grace
        self._stop = StopRequests()

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM came."""
        return self._stop.count > 0

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.__exit__(*error)

    def run(self, command: Sequence[str], log: Path, over: Callable[[], str]) -> Ended:
        """Runs a command to its end, or until `over()` says why it must stop; what it prints is
        shown and appended to the log."""
        started, reason, deadline = time.monotonic(), "", math.inf
        before = log.stat().st_size if log.exists() else 0
        child = start(command, {"PYTHONUNBUFFERED": "1"}, log, echo=True)
        try:
            while (code := child.poll()) is None:
                if not reason and (reason := over()):
                    child.terminate()
                    deadline = time.monotonic() + self._grace
                if self._stop.count > 1 or time.monotonic() > deadline:
                    child.kill()
                time.sleep(_LOOK_SECONDS)
        finally:
            child.kill()
        return Ended(code, _end_of(log, before), time.monotonic() - started, reason)


def _end_of(log: Path, start: int) -> str:
    """The last lines behind a place in a log."""
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines(keepends=True)
    return "".join(lines[-_KEPT_LINES:])
