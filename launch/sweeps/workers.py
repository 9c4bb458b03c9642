"""Workers of a sweep as processes of this machine."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from launch.child_processes import Child, start
from launch.stop_requests import StopRequests
from launch.sweeps.crew import Ended
from research.command_line import DONE

_STOP_LOOK_SECONDS = 0.05


def worker_command(folder: Path, trials_per_program: int) -> tuple[str, ...]:
    """What every worker runs."""
    together = () if trials_per_program == 1 else (f"--trials_per_program={trials_per_program}",)
    return (sys.executable, "-m", "launch.sweep_worker", f"--sweepdir={folder}", *together)


def worker_environments(num_workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """What is added to each worker's environment: GPUs are shared out, and their memory where
    there are fewer of them than workers."""
    added = [{"PYTHONUNBUFFERED": "1"} for _ in range(num_workers)]
    if not gpus:
        return added
    sharing = -(-num_workers // len(gpus))
    for index, environment in enumerate(added):
        if sharing > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
        else:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index::num_workers])
    return added


@final
class LocalWorkers:
    """A process for each environment; see `crew.Workers`."""

    look_seconds = 0.5

    def __init__(
        self, command: Sequence[str], environments: Sequence[Mapping[str, str]], log_dir: Path
    ):
        self._command, self._environments, self._log_dir = command, environments, log_dir
        self._children: dict[int, Child] = {}

    def begin(self, count: int) -> None:
        """Starts so many more, each in an environment that nobody has."""
        free = [i for i in range(len(self._environments)) if i not in self._children]
        for index in free[:count]:
            environment = self._environments[index]
            self._children[index] = start(self._command, environment, self._log(index))

    def at_work(self) -> int:
        """How many there are that were not seen to have ended."""
        return len(self._children)

    def ended(self) -> list[Ended]:
        """Those that have ended since the last call."""
        codes = {index: child.poll() for index, child in self._children.items()}
        ends = []
        for index, code in codes.items():
            if code is not None:
                del self._children[index]
                how = f"Worker {index} ended with exit code {code}"
                ends.append(Ended(how, code, code != DONE, self._log(index)))
        return ends

    def stop(self, stop: StopRequests) -> None:
        """Has all save and end, and waits for that until somebody asks once more."""
        for child in self._children.values():
            child.terminate()
        while stop.count < 2 and any(child.poll() is None for child in self._children.values()):
            time.sleep(_STOP_LOOK_SECONDS)

    def kill(self) -> None:
        """Ends those that are left."""
        for child in self._children.values():
            child.kill()

    def _log(self, index: int) -> Path:
        return self._log_dir / f"worker_{index}.log"
