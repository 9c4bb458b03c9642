"""Jobs of a Slurm cluster, through submitit: submitted, watched and cancelled."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launch import slurm_task
from launch.slurm_script import Resources, import_submitit, parameters
from research.command_line import STOPPED
from research.engine.files import cannot_write
from research.errors import UserError

FAILED = {
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "cancelled",
    "DEADLINE": "not done by its deadline",
    "FAILED": "failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted, and not requeued",
    "REVOKED": "revoked",
    "TIMEOUT": "out of time before it had saved; give it more --time or a longer --signal_delay",
}
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT")


@dataclass(frozen=True)
class Job:
    """A submitted job, or one of an array: "17", "17_3"."""

    job_id: str
    log_dir: Path

    def log(self, task: int = 0) -> Path:
        """What a task prints."""
        return self.log_dir / f"{self.job_id}_{task}_log.out"


@dataclass(frozen=True)
class JobState:
    """How a job is doing: `reason` says why it waits or failed, `code` is its exit code where it
    is known. It is `unknown` while Slurm does not answer."""

    state: Literal["waiting", "running", "complete", "failed", "unknown"]
    reason: str = ""
    code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it stays as it is."""
        return self.state in ("complete", "failed")


def submit(
    command: Sequence[str], count: int, resources: Resources, log_dir: Path, name: str
) -> tuple[Job, ...]:
    """Submits `count` jobs that run the same command, as an array where they are several.

    Raises:
      UserError: without Slurm, for what sbatch refuses, and for a folder that cannot be written.
    """
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"{program} is not on PATH: run this on a host of a Slurm cluster, or look at what "
                "would be submitted with --dry_run"
            )
    submitit = import_submitit()
    refused = (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError)
    log_dir = log_dir.absolute()
    with _clean_folder(log_dir), _outside_job():
        executor = submitit.SlurmExecutor(log_dir)
        executor.update_parameters(**parameters(count, resources, log_dir, name))
        try:
            # submitit prints what sbatch says, besides raising it.
            with contextlib.redirect_stderr(io.StringIO()):
                jobs = executor.map_array(slurm_task.run_task, [tuple(command)] * count)
        except refused as error:
            raise UserError(f"sbatch refuses: {_told(str(error), 'sbatch')}") from None
    return tuple(Job(job.job_id, log_dir) for job in jobs)


def states(jobs: Sequence[Job]) -> list[JobState]:
    """How each job is doing, from squeue, which forgets a job some minutes after its end, and from
    the exit code that a job leaves in its folder. What left neither was killed."""
    try:
        queue = _queue()
    except UserError as error:
        return [JobState("unknown", str(error))] * len(jobs)
    return [_state(queue.get(job.job_id), _exit_code(job)) for job in jobs]


def cancel(jobs: Sequence[Job]) -> None:
    """Cancels all that have not ended; they are not requeued.

    Raises:
      UserError: where Slurm does not answer.
    """
    if jobs:
        _call("scancel", "--quiet", *(job.job_id for job in jobs))


@contextlib.contextmanager
def _clean_folder(folder: Path) -> Iterator[None]:
    """Makes the folder; where nothing is submitted, what came into it goes again."""
    if "%" in str(folder):
        raise UserError(f"{folder}: Slurm reads % in a path as a pattern; choose another --log_dir")
    existed = [path for path in (folder, *folder.parents) if path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            before = set(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    except UserError:
        for path in set(folder.iterdir()) - before:
            path.unlink()
        with contextlib.suppress(OSError):
            for path in (folder, *folder.parents):
                if path not in existed:
                    path.rmdir()
        raise


@contextlib.contextmanager
def _outside_job() -> Iterator[None]:
    """Hides the job that this process may run in: what sbatch finds of it goes into the new one."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        prefixes = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
        for name in [name for name in os.environ if name.startswith(prefixes)]:
            if name != "SLURM_CONF":
                hidden[name] = os.environ.pop(name)
    try:
        yield
    finally:
        os.environ.update(hidden)


def _queue() -> dict[str, tuple[str, str]]:
    """State and reason, by job, of all of this user's jobs that Slurm still knows."""
    user = f"--user={os.getuid()}"
    output = _call("squeue", "--noheader", "--array", "--states=all", user, "--format=%i|%T|%r")
    rows = [line.split("|", 2) for line in output.splitlines() if line]
    return {job_id: (state, reason) for job_id, state, reason in rows}


def _state(found: tuple[str, str] | None, code: int | None) -> JobState:
    if found is None:
        if code == 0:
            return JobState("complete", code=0)
        killed = "killed: cancelled, out of time, or its node failed"
        return JobState("failed", killed if code is None else _meaning(code), code)
    state, reason = found
    if state == "COMPLETED":
        return JobState("complete", code=0)
    if state == "FAILED" and code is not None:
        return JobState("failed", _meaning(code), code)
    if state in FAILED:
        return JobState("failed", FAILED[state], code)
    if state in RUNNING:
        return JobState("running")
    return JobState("waiting", "" if reason == "None" else reason)


def _meaning(code: int) -> str:
    if code == STOPPED:
        return "stopped after saving; the same command goes on"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(code - 128).name}"
    return f"ended with exit code {code}"


def _exit_code(job: Job) -> int | None:
    try:
        return int((job.log_dir / f"{job.job_id}_exit_code").read_text())
    except (OSError, ValueError):
        return None


def _call(program: str, *arguments: str) -> str:
    """What a program of Slurm prints; raises UserError with what it says where it fails."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{program}: {error}") from error
    if done.returncode:
        raise UserError(f"{program}: {_told(done.stderr, program)}")
    return done.stdout


def _told(text: str, program: str) -> str:
    """A program's error in one line, without its repeated name."""
    lines = [re.sub(rf"^{program}: (error: |fatal: )?", "", line) for line in text.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "failed without a message"
