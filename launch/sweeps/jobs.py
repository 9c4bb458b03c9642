"""Workers of a sweep as jobs of a Slurm cluster."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

from launch.slurm_jobs import Job, cancel, states, submit
from launch.slurm_script import Resources, script
from launch.stop_requests import StopRequests
from launch.sweeps.crew import Ended

_STOP_LOOK_SECONDS, _STOP_SECONDS = 1.0, 120.0


def jobs_script(
    folder: Path, command: Sequence[str], num_workers: int, resources: Resources
) -> str:
    """What is submitted first."""
    return script(command, num_workers, resources, folder / "slurm", _name(folder))


@final
class SlurmWorkers:
    """An array of jobs, and those that replace its lost ones; see `crew.Workers`."""

    look_seconds = 3.0

    def __init__(self, folder: Path, command: Sequence[str], resources: Resources):
        self._folder, self._command, self._resources = folder, command, resources
        self._jobs: list[Job] = []

    def begin(self, count: int) -> None:
        """Submits so many more; UserError for what sbatch refuses."""
        log_dir, name = self._folder / "slurm", _name(self._folder)
        jobs = submit(self._command, count, self._resources, log_dir, name)
        listed = " ".join(job.job_id for job in jobs)
        print(f"Submitted {listed}: {shlex.join(self._command)}", flush=True)
        self._jobs += jobs

    def at_work(self) -> int:
        """How many there are that were not seen to have ended."""
        return len(self._jobs)

    def ended(self) -> list[Ended]:
        """Those that have ended since the last call."""
        ends = []
        for job, state in zip(list(self._jobs), states(self._jobs), strict=True):
            if state.ended:
                self._jobs.remove(job)
                how = f"Job {job.job_id} {state.reason}"
                ends.append(Ended(how, state.code, state.state == "failed", job.log()))
        return ends

    def stop(self, stop: StopRequests) -> None:
        """Cancels all, which has them save and end, and waits for that until somebody asks once
        more or two minutes are over."""
        cancel(self._jobs)
        deadline = time.monotonic() + _STOP_SECONDS
        while stop.count < 2 and time.monotonic() < deadline:
            if all(state.ended for state in states(self._jobs)):
                return
            time.sleep(_STOP_LOOK_SECONDS)

    def kill(self) -> None:
        """Cancels those that are left."""
        left = zip(self._jobs, states(self._jobs), strict=True)
        cancel([job for job, state in left if not state.ended])


def _name(folder: Path) -> str:
    return f"sweep-{folder.absolute().name}"
