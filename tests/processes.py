"""Processes for tests, forked from one that has imported everything: importing takes longer than
what most of them do. Each starts its own JAX, with its own devices."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from research import command_line, train

_FORKS = multiprocessing.get_context("forkserver")
# None of it starts a thread or a device, which would not survive the fork.
_FORKS.set_forkserver_preload(
    [
        *("grain", "orbax.checkpoint", "sklearn.datasets", "tensorboardX", "tests.processes"),
        *("research.engine.loop", "research.generative", "research.selfsupervised"),
        *("research.sequence", "research.vision"),
    ]
)


@dataclass(frozen=True)
class Process:
    """A process and the file that takes what it prints."""

    process: ForkServerProcess
    log: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 280) -> tuple[int, str]:
        """How it ended and all that it printed; a negative code is the signal that killed it."""
        self.process.join(timeout)
        code = self.process.exitcode
        assert code is not None, f"not ended after {timeout} s:\n{self.log.read_text()}"
        return code, self.log.read_text()

    def kill(self) -> None:
        """Ends it, where it has not ended."""
        if self.running:
            self.send_signal(signal.SIGKILL)
            self.process.join()


def start(function: Callable[..., Any], *arguments: Any, num_devices: int = 1) -> Process:
    """Starts a process that calls the function, which must be importable."""
    # Goes when the session's caches go.
    descriptor, log = tempfile.mkstemp(dir=os.environ["RESEARCH_CACHE_DIR"], suffix=".log")
    os.close(descriptor)
    environment = dict(os.environ)
    if num_devices > 1:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
    process = _FORKS.Process(target=_run, args=(function, arguments, environment, log), daemon=True)
    process.start()
    return Process(process, Path(log))


def finish(*started: Process, timeout: float = 280) -> None:
    """Waits for all of one job, and fails where one did; the others never outlive it."""
    try:
        for process in started:
            code, output = process.wait(timeout)
            assert code == 0, output
    finally:
        for process in started:
            process.kill()


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """They take longer than training does here."""
    patch.setattr("research.engine.figures.learning_curves", lambda rows, path: None)
    patch.setattr("research.engine.actions.Show.__call__", lambda action, moment: None)


def run_train(arguments: Sequence[str]) -> None:
    """`python -m research.train` with these arguments, but without pictures."""
    leave_out_pictures(pytest.MonkeyPatch())
    sys.argv = ["research.train", *arguments]
    command_line.main(train.run)


def _run(
    function: Callable[..., Any], arguments: Sequence[Any], environment: dict[str, str], log: str
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # Where the server had no terminal, Python's own streams may be buffered or closed.
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    function(*arguments)
