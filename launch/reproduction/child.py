"""Commands run one at a time, which end when they are told to or when their time is up."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any, Self, final

GRACE_SECONDS = 300.0
_LOOK_SECONDS = 0.25
_KEPT_LINES = 100
_PASSED_ON = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` is negative where a signal killed it, `errors` is the end of
    what it wrote to stderr, `stopped` why it was told to stop."""

    code: int
    errors: str
    seconds: float
    stopped: str = ""


@final
class Commands:
    """Runs commands while entered, and passes Ctrl-C and SIGTERM on to the one that runs.

    A command is in a process group of its own, so that Ctrl-C reaches it once: `research.train`
    saves at the first and ends at once at the second. After `grace` seconds it is killed.
    """

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.interrupted = False
        self._grace = grace
        self._told = False
        self._process: subprocess.Popen[str] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], over: Callable[[], str]) -> Ended:
        """Runs a command to its end, or until `over()` says why it must stop."""
        started = time.monotonic()
        self._told = False
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", process_group=0
        )
        self._process = process
        errors: deque[str] = deque(maxlen=_KEPT_LINES)
        reader = threading.Thread(target=_pass_through, args=(process.stderr, errors), daemon=True)
        reader.start()
        reason = ""
        try:
            while not reason and not _ends(process, _LOOK_SECONDS):
                reason = over()
            if self._told:  # it may have ended by that before it was looked at
                reason = reason or over()
            elif reason:
                process.terminate()
            _ends(process, self._grace)
        finally:
            if process.poll() is None:
                process.kill()
            code = process.wait()
            self._process = None
            # Whoever it left behind may hold the pipe open.
            reader.join(5)
        return Ended(code, "".join(errors), time.monotonic() - started, reason)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        if self._process is not None:
            self._told = True
            self._process.send_signal(_PASSED_ON[signal.Signals(number)])


def _pass_through(stream: IO[str], kept: deque[str]) -> None:
    """Copies what comes to stderr, and keeps the end of it."""
    with stream:
        for line in stream:
            kept.append(line)
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(line)
                sys.stderr.flush()


def _ends(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it ends before the seconds are over."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None
