"""The sbatch script of a job, as submitit writes it.

A command is told to stop by SIGUSR2. Where it then ends with code 75 its job is requeued, and the
same command goes on.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.command_line import STOPPED

# Tasks of one job end together, but for what the first still writes; Slurm ends those that hang.
LAST_TASK_SECONDS = 60


@dataclass(frozen=True)
class Resources:
    """What a job asks for. `minutes` is its time limit, `signal_delay` how many seconds before it
    the command is told to stop, `max_requeues` how often it is started anew; `extra` holds
    options of sbatch, True for those without a value."""

    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: str | None = None
    cpus_per_task: int | None = None
    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    mem: str | None = None
    constraint: str | None = None
    signal_delay: int = 90
    max_requeues: int = 10
    extra: Mapping[str, str | bool] = field(default_factory=dict)

    @property
    def tasks(self) -> int:
        """Processes of one job."""
        return self.nodes * self.tasks_per_node


def script(
    command: Sequence[str], count: int, resources: Resources, log_dir: Path, name: str
) -> str:
    """The script that `slurm_jobs.submit` submits; needs no Slurm."""
    submitit = import_submitit()
    log_dir = log_dir.absolute()
    task = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(log_dir))}"
    return submitit.slurm.slurm._make_sbatch_string(
        command=task,
        folder=log_dir,
        map_count=count if count > 1 else None,
        **parameters(count, resources, log_dir, name),
    )


def parameters(count: int, resources: Resources, log_dir: Path, name: str) -> dict[str, Any]:
    """Those of submitit's executor. A site's own defaults hold for all that is None."""
    srun = [f"--cpus-per-task={resources.cpus_per_task}"] if resources.cpus_per_task else []
    if resources.tasks > 1:
        # One that has saved before the others must not have them killed.
        srun += ["--kill-on-bad-exit=0", f"--wait={LAST_TASK_SECONDS}"]
    return {
        "job_name": name,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks_per_node,
        "gpus_per_node": resources.gpus_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "time": resources.minutes,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "mem": resources.mem,
        "constraint": resources.constraint,
        "signal_delay_s": resources.signal_delay,
        "wckey": None,
        "stderr_to_stdout": True,
        "srun_args": srun,
        "setup": [
            f"ended={_exit_code_file(count, log_dir)}",
            'rm -f "$ended"',
            "export SUBMITIT_LOG_LEVEL=WARNING",
            "trap : TERM  # what follows srun is to run",
        ],
        "teardown": _teardown(resources.max_requeues),
        "additional_parameters": {
            "requeue" if resources.max_requeues else "no-requeue": True,
            **resources.extra,
        },
    }


def _exit_code_file(count: int, log_dir: Path) -> str:
    """The shell's word for it."""
    job_id = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if count > 1 else "${SLURM_JOB_ID}"
    return f'{shlex.quote(str(log_dir))}/"{job_id}_exit_code"'


def _teardown(max_requeues: int) -> list[str]:
    """Lines of shell that requeue the job, once and after all of its tasks have ended, unless Slurm
    itself is cancelling or requeueing it; else they leave its exit code in its folder."""
    return [
        "code=$?",
        'state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)',
        f'if [ $code = {STOPPED} ] && [ "$state" = RUNNING ]; then',
        f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {max_requeues} ]; then',
        f'    echo "Not requeued: it was {max_requeues} times already."',
        '  elif scontrol requeue "$SLURM_JOB_ID"; then',
        '    echo "Requeued."',
        "    exit $code",
        "  fi",
        "fi",
        'echo $code > "$ended"',
        "exit $code",
    ]


def import_submitit() -> Any:
    """The library, which unless told not to closes every logging handler of the process."""
    name = "SUBMITIT_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ[name] = "NOCONFIG"
    try:
        import submitit

        return submitit
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
