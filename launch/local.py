"""Trains with several processes on this host: `python -m launch.local --processes 2 -- …`."""

import argparse
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from launch.option_values import not_negative, positive
from launch.train_flags import TrainFlags, read_train_flags, split_flags
from research import command_line
from research.command_line import DONE
from research.errors import UserError

_EXAMPLES = """examples:
  python -m launch.local --processes 2 -- --config experiments/vision/lenet_mnist.py \\
      --workdir runs/lenet --config.parallelism.mode=pmap
  python -m launch.local --processes 2 --devices_per_process 4 --dry_run -- \\
      --config experiments/sequence/gpt_shakespeare.py --workdir runs/gpt \\
      --config.parallelism.mode=mesh --config.parallelism.fsdp=8
  CUDA_VISIBLE_DEVICES=4,5,6,7 python -m launch.local --processes 4 -- …

Behind -- stand the flags of research.train. GPUs are shared out evenly. What process 0 prints is
shown; WORKDIR/processes/process_I.log keeps what each one prints.

Where a process dies, all are restarted from the last checkpoint, and the run ends with the bits of
one to which nothing happened. Ctrl-C or SIGTERM lets them save and stop, a second one kills them.
Mistakes (exit code 2) and losses that are not finite (3) are not retried.
"""

_CPU_DEVICES = "--xla_force_host_platform_device_count"


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    own, flags = split_flags(arguments)
    parser = command_line.make_parser(
        "launch.local",
        "Train with several processes on this host, restarted if one dies.",
        _EXAMPLES,
    )
    parser.usage = f"{parser.prog} --processes N [OPTIONS] -- FLAGS_OF_RESEARCH_TRAIN"
    parser.add_argument("--processes", type=positive, required=True, metavar="N", help="how many")
    parser.add_argument(
        "--devices_per_process", type=positive, metavar="N", help="CPU devices; default 1"
    )
    parser.add_argument(
        "--max_restarts",
        type=not_negative,
        default=3,
        metavar="N",
        help="restarts in a row without a newer checkpoint; default 3",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="from SIGTERM to SIGKILL for the processes beside one that died; default 30",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="check all and print the commands, one a process"
    )
    options = parser.parse_args(own)
    checked = read_train_flags(parser, flags, options.processes)
    environments = process_environments(os.environ, options.processes, options.devices_per_process)
    if options.dry_run:
        for command, environment in zip(
            process_commands(checked.flags, options.processes), environments, strict=True
        ):
            additions = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
            print(" ".join([*additions, shlex.join(command)]))
        return DONE
    return _supervise(checked, environments, options)


def _supervise(
    checked: TrainFlags, environments: Sequence[Mapping[str, str]], options: argparse.Namespace
) -> int:
    from launch.supervisor import Command, supervise
    from research.engine.checkpoint_folder import list_steps
    from research.engine.lock import WorkdirLock

    folder = checked.workdir / "processes"

    def commands() -> list[Command]:
        started = process_commands(checked.flags, options.processes)
        return [
            Command(command, environment, folder / f"process_{index}.log")
            for index, (command, environment) in enumerate(zip(started, environments, strict=True))
        ]

    # The run's own lock is free while its processes are restarted.
    with WorkdirLock(folder):
        # Refused now rather than by process 0, for which the others would wait.
        with WorkdirLock(checked.workdir):
            pass
        return supervise(
            commands,
            max_restarts=options.max_restarts,
            grace=options.grace,
            progress=lambda: max(list_steps(checked.workdir / "checkpoints"), default=-1),
        )


def process_commands(flags: Sequence[str], num_processes: int) -> list[tuple[str, ...]]:
    """The command of every process, with a port that is free now."""
    command = (sys.executable, "-m", "research.train", *flags)
    if num_processes == 1:
        return [command]
    joined = (f"--coordinator=127.0.0.1:{_free_port()}", f"--num_processes={num_processes}")
    return [(*command, *joined, f"--process_id={index}") for index in range(num_processes)]


def process_environments(
    environment: Mapping[str, str], num_processes: int, cpu_devices: int | None
) -> list[dict[str, str]]:
    """What is added to the environment of every process: its GPUs, or its number of CPU devices.

    Raises:
      UserError: the GPUs can't be shared out evenly, or CPU devices are asked for beside GPUs.
    """
    # What a process printed last is in its log, however it ended.
    added = {"PYTHONUNBUFFERED": "1"}
    gpus = visible_gpus(environment)
    if cpu_devices is not None:
        if gpus:
            raise UserError(
                f"--devices_per_process={cpu_devices}: counts CPU devices, but here are "
                f"{len(gpus)} GPUs; leave it out, or set JAX_PLATFORMS=cpu to train on the CPU"
            )
        given = environment.get("XLA_FLAGS", "")
        added["XLA_FLAGS"] = f"{given} {_CPU_DEVICES}={cpu_devices}".lstrip()
    if len(gpus) % num_processes:
        raise UserError(
            f"--processes={num_processes}: {len(gpus)} GPUs can't be shared out evenly; name those "
            "to use, CUDA_VISIBLE_DEVICES=0,1,…, or set JAX_PLATFORMS=cpu to train on the CPU"
        )
    share = len(gpus) // num_processes
    shares = [gpus[index * share : (index + 1) * share] for index in range(num_processes)]
    return [{**added, **({"CUDA_VISIBLE_DEVICES": ",".join(own)} if own else {})} for own in shares]


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The NVIDIA GPUs that JAX would take, as CUDA_VISIBLE_DEVICES names them; JAX, which would
    take their memory, is not asked."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        # As CUDA does: what is no device ends the list.
        return names[: next((i for i, name in enumerate(names) if name in ("", "-1")), None)]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds")
    return number


if __name__ == "__main__":
    command_line.main(run)
