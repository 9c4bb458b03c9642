"""Trains an experiment on a Slurm cluster: `python -m launch.slurm … -- --config … --workdir …`."""

import argparse
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.option_values import not_negative, positive
from launch.train_flags import read_train_flags, split_flags
from research import command_line
from research.command_line import DONE, UNEXPECTED
from research.errors import UserError

_EXAMPLES = """examples:
  python -m launch.slurm --gpus_per_node 1 --cpus_per_task 8 --time 4h -- \\
      --config experiments/sequence/gpt_shakespeare.py:gpu --workdir runs/gpt
  python -m launch.slurm --nodes 2 --gpus_per_node 8 --partition gpu --time 2d -- \\
      --config experiments/vision/lenet_mnist.py --workdir runs/lenet \\
      --config.parallelism.mode=mesh
  python -m launch.slurm --dry_run --extra exclusive --extra mail-type=END -- \\
      --config experiments/vision/lenet_digits.py --workdir runs/digits

What stands behind -- are flags of research.train, checked before anything is submitted. The job
runs where this command does, with its environment; folders must be the same on all nodes.

A task is a process of the run: one a node with all of the node's GPUs is the usual choice. Before
its time is over, or when the job is preempted, the run saves and stops, the job is requeued, and
the run goes on where it stopped. `scancel` ends it for good; the same command goes on.
"""

# What the options say, submitit needs, or requeueing rests on.
_OWN = {
    "account": "--account",
    "array": None,
    "constraint": "--constraint",
    "cpus-per-task": "--cpus_per_task",
    "error": "--log_dir",
    "gpus-per-node": "--gpus_per_node",
    "job-name": "--name",
    "mem": "--mem",
    "no-requeue": "--max_requeues 0",
    "nodes": "--nodes",
    "ntasks": "--nodes and --tasks_per_node",
    "ntasks-per-node": "--tasks_per_node",
    "open-mode": None,
    "output": "--log_dir",
    "partition": "--partition",
    "qos": "--qos",
    "requeue": "--max_requeues",
    "signal": "--signal_delay",
    "time": "--time",
    "wrap": None,
}
_LOG_LINES = 15


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, flags = split_flags(arguments)
    parser = command_line.make_parser(
        "launch.slurm", "Train an experiment as a job of a Slurm cluster.", _EXAMPLES
    )
    _add_options(parser)
    options = parser.parse_args(arguments)
    resources = read_resources(options)
    train = read_train_flags(parser, flags, num_processes=resources.tasks)

    from launch import slurm_jobs, slurm_script

    command = [sys.executable, "-u", "-m", "research.train", *train.flags]
    if resources.tasks > 1:
        command.append("--distributed")
    log_dir = options.log_dir or train.workdir / "slurm"
    name = options.name or train.workdir.absolute().name
    if options.dry_run:
        print(slurm_script.script(command, 1, resources, log_dir, name), end="")
        return DONE
    (job,) = slurm_jobs.submit(command, 1, resources, log_dir, name)
    print(f"Submitted job {job.job_id}: {shlex.join(command)}")
    print(f"follow:  tail -F {shlex.quote(str(job.log()))}")
    print(f"state:   squeue --jobs {job.job_id}")
    print(f"cancel:  scancel {job.job_id}", flush=True)
    return _wait(job) if options.wait else DONE


def add_resources(parser: command_line.Parser, title: str = "resources of a job") -> None:
    """Adds what a job asks for; `read_resources` takes it."""
    group = parser.add_argument_group(title)
    group.add_argument("--nodes", type=positive, default=1, help="default 1")
    group.add_argument("--tasks_per_node", type=positive, default=1, help="processes; default 1")
    group.add_argument(
        "--gpus_per_node", metavar="N", help="a number, or a type and a number: a100:4; default 0"
    )
    group.add_argument("--cpus_per_task", type=positive, metavar="N")
    group.add_argument("--mem", metavar="SIZE", help="a node's memory, such as 32G")
    group.add_argument(
        "--time",
        type=_minutes,
        default=240,
        metavar="TIME",
        help="until it is requeued: 90 (minutes), 90m, 4h, 2d, 4:00:00 or 2-12:00:00; default 4h",
    )
    for name in ("partition", "account", "qos", "constraint"):
        group.add_argument(f"--{name}", help=f"the cluster's {name}; default: the cluster's own")
    group.add_argument(
        "--signal_delay",
        type=positive,
        default=90,
        metavar="SECONDS",
        help="how long before the end of its time a run is told to save and stop; default 90",
    )
    group.add_argument(
        "--max_requeues",
        type=not_negative,
        default=10,
        metavar="N",
        help="how often a job may be started anew; default 10",
    )
    group.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="another option of sbatch, such as exclusive or nodelist=n1; may be repeated",
    )


def read_resources(options: argparse.Namespace) -> Any:
    """The `Resources` that the options of `add_resources` ask for.

    Raises:
      UserError: for options that contradict each other.
    """
    from launch.slurm_script import Resources

    gpus = options.gpus_per_node
    if gpus is not None and not re.fullmatch(r"([\w.-]+:)?\d+", gpus):
        raise UserError(f"--gpus_per_node={gpus}: write a number, or a type and a number: a100:4")
    if options.signal_delay >= 60 * options.time:
        raise UserError(
            f"--signal_delay={options.signal_delay}: must be shorter than --time, which is "
            f"{60 * options.time} seconds"
        )
    return Resources(
        nodes=options.nodes,
        tasks_per_node=options.tasks_per_node,
        # A cluster without GPUs does not know the option.
        gpus_per_node=None if gpus in (None, "0") else gpus,
        cpus_per_task=options.cpus_per_task,
        minutes=options.time,
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        mem=options.mem,
        constraint=options.constraint,
        signal_delay=options.signal_delay,
        max_requeues=options.max_requeues,
        extra=dict(_extra(text) for text in options.extra),
    )


def _add_options(parser: command_line.Parser) -> None:
    add_resources(parser)
    parser.add_argument("--name", help="the job's; default: the last part of --workdir")
    parser.add_argument(
        "--log_dir",
        type=Path,
        metavar="DIR",
        help="for what the job prints and how it ended; default: WORKDIR/slurm",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for the end; the exit code is then the run's"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="print the sbatch script and submit nothing"
    )


def _wait(job: Any) -> int:
    """Shows how the job is doing until it ends; returns the run's exit code."""
    from rich import get_console
    from rich.text import Text

    from launch import slurm_jobs

    console = get_console()
    started, before = time.monotonic(), None
    try:
        with console.status(Text(f"Job {job.job_id}")) as status:
            while True:
                (state,) = slurm_jobs.states([job])
                told = f"Job {job.job_id} is {state.state}"
                told += f": {state.reason}" if state.reason else ""
                if state.ended:
                    break
                if not console.is_terminal and told != before:
                    print(told, flush=True)
                before = told
                *_, line = ["", *_last_lines(job.log(), 1)]
                status.update(Text(f"{told}  {line}", no_wrap=True, overflow="ellipsis"))
                # Whoever polls a cluster's scheduler often slows it down.
                time.sleep(min(15, 1 + (time.monotonic() - started) / 10))
    except KeyboardInterrupt:
        print(f"Not waited for any more: job {job.job_id} goes on.", file=sys.stderr)
        raise
    if state.state == "complete":
        print(told)
        return DONE
    print("\n".join(_last_lines(job.log(), _LOG_LINES)))
    print(f"{told}. All that it printed is in {job.log_dir}", file=sys.stderr)
    return state.code or UNEXPECTED


def _last_lines(path: Path, number: int) -> list[str]:
    """The last lines of a file that are not empty, where there is one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 10_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in lines if line.strip()][-number:]


def _extra(text: str) -> tuple[str, str | bool]:
    key, equals, value = text.lstrip("-").partition("=")
    key = key.replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or "\n" in value:
        raise UserError(f"--extra={text}: write KEY=VALUE, or KEY for an option without a value")
    if key in _OWN:
        instead = f"write {_OWN[key]} instead" if _OWN[key] else "the launcher sets it"
        raise UserError(f"--extra={text}: {instead}")
    return key, value if equals else True


def _minutes(text: str) -> int:
    """A duration in minutes, rounded up."""
    units = {"": 1, "m": 1, "h": 60, "d": 1440}
    simple = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd]?)", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if simple:
        seconds = round(60 * float(simple[1]) * units[simple[2]])
    elif clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: write 90 (minutes), 90m, 4h, 2d, 4:00:00 or 2-12:00:00"
        )
    if seconds == 0:
        raise argparse.ArgumentTypeError("a job needs some time")
    return -(-seconds // 60)


if __name__ == "__main__":
    command_line.main(run)
