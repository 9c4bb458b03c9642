"""Workers of a sweep as jobs of a Slurm cluster, replaced until no trial is left."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.slurm_jobs import Job, JobState, cancel, states, submit
from launch.slurm_script import Resources, script
from launch.stop_requests import StopRequests
from launch.sweeps.study import Study
from research.command_line import MISTAKE
from research.errors import UserError

MAX_LOST = 4
"""So many jobs may fail, for each worker, without any trial having ended meanwhile."""

_LOOK_SECONDS, _STOP_SECONDS = 3.0, 120.0


def jobs_script(
    folder: Path, command: Sequence[str], num_workers: int, resources: Resources
) -> str:
    """What is submitted first."""
    return script(command, num_workers, resources, folder / "slurm", _name(folder))


def run_jobs(
    study: Study,
    command: Sequence[str],
    num_workers: int,
    resources: Resources,
    show: Callable[[], None],
) -> bool:
    """Keeps an array of jobs at work until all trials have ended; False where SIGTERM or Ctrl-C
    stopped them first, after saving.

    A job that was cancelled or killed is replaced by another, which goes on with its trial.

    Raises:
      UserError: for what sbatch refuses, for a mistake that every worker would meet, and where
        jobs keep failing.
    """
    folder = study.folder / "slurm"
    left, lost = study.unfinished(), 0
    told = ""

    def begin(count: int) -> list[Job]:
        jobs = list(submit(command, count, resources, folder, _name(study.folder)))
        listed = " ".join(job.job_id for job in jobs)
        print(f"Submitted {listed}: {shlex.join(command)}", flush=True)
        return jobs

    with StopRequests() as stop:
        jobs = begin(min(left, num_workers))
        try:
            while left:
                stop.sleep(_LOOK_SECONDS)
                show()
                if stop.count:
                    _stop(jobs, stop)
                    return False
                before, left = left, study.unfinished()
                lost = lost if left == before else 0
                for job, state in zip(list(jobs), states(jobs), strict=True):
                    if not state.ended:
                        continue
                    jobs.remove(job)
                    told = _last_words(job, state)
                    if state.code == MISTAKE:
                        raise UserError(told)
                    if state.state == "failed" and left:
                        print(f"Job {job.job_id} {state.reason}; another takes its place.")
                        lost += 1
                        jobs += begin(1)
                if left and not jobs:
                    # All found nothing to claim, before another one was killed.
                    lost += 1
                    jobs = begin(1)
                if lost > MAX_LOST * num_workers:
                    raise UserError(f"jobs keep failing; {told}")
            show()
            return True
        finally:
            cancel([job for job, state in zip(jobs, states(jobs), strict=True) if not state.ended])


def _stop(jobs: Sequence[Job], stop: StopRequests) -> None:
    """Cancels the jobs, which save first, and waits for them."""
    print("\nStopping: the trials save first.", file=sys.stderr, flush=True)
    cancel(jobs)
    deadline = time.monotonic() + _STOP_SECONDS
    while stop.count < 2 and time.monotonic() < deadline:
        if all(state.ended for state in states(jobs)):
            return
        time.sleep(1)


def _name(folder: Path) -> str:
    return f"sweep-{folder.absolute().name}"


def _last_words(job: Job, state: JobState) -> str:
    log = job.log()
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    shown = "\n".join(f"  {line}" for line in lines[-15:])
    return f"job {job.job_id} {state.reason}; the end of {log}:\n{shown}"
