"""Prints the SkyPilot task of a run: `python -m launch.skypilot … -- <flags> > task.yaml`."""

import argparse
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from launch import manifest, mounts, option_values, tpu
from launch.option_values import not_negative, positive
from launch.sky_task import STRATEGIES, Machines, Options, make_task
from launch.train_flags import read_train_flags, split_flags
from research import command_line
from research.command_line import DONE, Parser
from research.errors import UserError
from research.suggestion import did_you_mean

_EXAMPLES = """examples:
  python -m launch.skypilot --name gpt --gpu H100:8 --spot --bucket gs://my-bucket/runs -- \\
      --config experiments/sequence/gpt_shakespeare.py:gpu --workdir /runs/gpt \\
      --config.parallelism.mode=mesh > task.yaml
  sky jobs launch task.yaml

  # a spot slice of 16 chips, wherever one of two regions has it
  python -m launch.skypilot --name gpt --tpu v6e-16 --spot \\
      --infra gcp/us-east5 --infra gcp/europe-west4 --bucket gs://my-bucket/runs -- \\
      --config experiments/sequence/gpt_shakespeare.py:gpu --workdir /runs/gpt \\
      --config.parallelism.mode=mesh > task.yaml

Launch the task in this folder: SkyPilot copies it to the machines, the config with it, and
installs the project there. The workdir must lie in a mounted bucket, which must exist and
outlives the machines. Several hosts write to it together, which only gs:// can.

What happens to a run as a managed job, `sky jobs launch`:
  its machines preempted or lost, or stopped by SIGTERM   starts again elsewhere, goes on from
                                                          the newest checkpoint
  anything else, mistakes too                             fails; with --max_restarts=N starts
                                                          again N times
"""

_NAME = r"[a-zA-Z0-9]+([._-]{1,2}[a-zA-Z0-9]+)*"
_STORES = ("gs", "s3", "r2", "nebius")
# What SkyPilot calls TPUs and their software.
_TPUS = {"v5e": ("tpu-v5litepod", "v2-alpha-tpuv5-lite"), "v6e": ("tpu-v6e", "v2-alpha-tpuv6e")}
_GPUS = (
    *("A10", "A100", "A100-80GB", "A10G", "A40", "B200", "B300", "GB200", "GH200", "H100"),
    *("H200", "L4", "L40", "L40S", "P100", "RTX3090", "RTX4090", "RTX5090", "RTX6000-Ada"),
    *("RTXA6000", "RTXPRO6000", "T4", "V100", "V100-32GB"),
)


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    own, flags = split_flags(arguments)
    parser = _make_parser()
    options = parser.parse_args(own)
    machines = _read_machines(parser, options)
    _check_text("--name", options.name, _NAME, "letters and digits, with . _ or - between them")
    for name in ("cpus", "memory"):
        if getattr(options, name) is not None:
            _check_text(f"--{name}", getattr(options, name), r"\d+(\.\d+)?\+?", "8 or 8+")

    train = read_train_flags(parser, flags, machines.hosts)
    _check_config(train.flags)
    buckets = [mounts.read_mount("--bucket", text, train.workdir) for text in options.bucket]
    for mount in buckets:
        mounts.split_bucket("--bucket", mount.source, _STORES)
        if machines.hosts > 1 and not mount.source.startswith("gs://"):
            raise UserError(
                f"--bucket {mount.source}: {machines.hosts} hosts write to it together; as files "
                "that works in gs:// only"
            )
    mounts.check_mounts(train.workdir, buckets, "--bucket gs://BUCKET:/PATH")
    environment = option_values.read_pairs("--env", options.env)
    option_values.check_variables("--env", list(environment))
    option_values.check_variables("--secret_env", options.secret_env)
    task = make_task(
        Options(
            name=options.name,
            buckets=tuple(buckets),
            spot=options.spot,
            infra=tuple(options.infra),
            strategy=options.strategy,
            max_restarts=options.max_restarts,
            disk_size=options.disk_size,
            cpus=options.cpus,
            memory=options.memory,
            environment=environment,
            secrets=tuple(options.secret_env),
        ),
        machines,
        train.flags,
    )
    made_by = manifest.command_line_of("launch.skypilot", arguments)
    print(manifest.to_yaml(task, [made_by]), end="")
    return DONE


def _make_parser() -> Parser:
    parser = command_line.make_parser(
        "launch.skypilot",
        "Print the SkyPilot task of a run. What stands behind -- are flags of research.train.",
        _EXAMPLES,
    )
    parser.add_argument("--name", required=True, help="of the task")

    group = parser.add_argument_group("machines, --gpu or --tpu")
    group.add_argument("--gpu", metavar="MODEL[:COUNT]", help="of each node, such as H100:8")
    group.add_argument("--nodes", type=positive, help="machines with GPUs; default 1")
    group.add_argument("--tpu", metavar="GENERATION-CHIPS", help="such as v5e-8 or v6e-16")
    group.add_argument("--runtime_version", help="of a TPU's software; default: the generation's")
    group.add_argument(
        "--extra",
        choices=("cuda12", "cuda13"),
        help="how JAX is installed on GPUs; default cuda13, which needs drivers from 580 on, and "
        "cuda12 on P100 and V100",
    )
    group.add_argument("--spot", action="store_true", help="spot machines")
    group.add_argument(
        "--infra",
        action="append",
        default=[],
        metavar="CLOUD[/REGION[/ZONE]]",
        help="where; given several times, whichever is available",
    )
    group.add_argument("--cpus", help="of a node: 16, or 16+ for at least so many")
    group.add_argument("--memory", help="of a node in GB: 64, or 64+")
    group.add_argument("--disk_size", type=positive, help="in GB")

    group = parser.add_argument_group("files and environment")
    group.add_argument(
        "--bucket",
        action="append",
        default=[],
        metavar="STORE://BUCKET[/FOLDER][:/PATH]",
        help=f"mounts a bucket, of {', '.join(_STORES)}; default path: the workdir's parent",
    )
    group.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable"
    )
    group.add_argument(
        "--secret_env",
        action="append",
        default=[],
        metavar="NAME",
        help="an environment variable whose value is given by `sky jobs launch --secret NAME`",
    )

    group = parser.add_argument_group("recovery")
    group.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default=STRATEGIES[0],
        help="after a preemption, look in another region at once (the default), or first in the "
        "same",
    )
    group.add_argument(
        "--max_restarts", type=not_negative, default=0, help="after errors; default 0"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="accepted; this command only ever prints"
    )
    return parser


def _read_machines(parser: Parser, options: Any) -> Machines:
    """The machines that --gpu or --tpu means. Raises UserError."""
    if (options.gpu is None) == (options.tpu is None):
        parser.error("give either --gpu or --tpu")
    for name in ("runtime_version",) if options.gpu else ("nodes", "extra"):
        if getattr(options, name) is not None:
            parser.error(f"--{name}: goes with {'--tpu' if options.gpu else '--gpu'}")
    for infra in options.infra:
        _check_text("--infra", infra, r"[\w.*-]+(/[\w.*-]+){0,2}", "CLOUD, CLOUD/REGION or so")
        if options.tpu and infra.split("/")[0].lower() != "gcp":
            raise UserError(f"--infra {infra}: TPUs are at gcp")
    return _read_gpus(options) if options.gpu else _read_tpus(options)


def _read_tpus(options: Any) -> Machines:
    text = options.tpu.removeprefix("tpu-").replace("v5litepod", "v5e")
    generation, hyphen, size = text.partition("-")
    if generation not in _TPUS:
        raise UserError(
            f"--tpu {options.tpu}: no such TPU{did_you_mean(generation, _TPUS)}; write "
            "v5e-CHIPS or v6e-CHIPS"
        )
    if not hyphen or not size.isdecimal():
        raise UserError(f"--tpu {options.tpu}: write {generation}-CHIPS, such as {generation}-16")
    found = tpu.find_slice_by_chips(tpu.find_tpu(generation), int(size))
    prefix, runtime_version = _TPUS[generation]
    return Machines(
        accelerators=f"{prefix}-{size}",
        nodes=1,
        hosts=found.hosts,
        extra="tpu",
        runtime_version=options.runtime_version or runtime_version,
    )


def _read_gpus(options: Any) -> Machines:
    model, colon, text = options.gpu.partition(":")
    names = {name.lower(): name for name in _GPUS}
    if model.lower() not in names:
        meant = did_you_mean(model.upper(), _GPUS)
        raise UserError(f"--gpu {options.gpu}: no such GPU{meant}")
    if colon and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"--gpu {options.gpu}: write {names[model.lower()]}:COUNT")
    name, count, nodes = names[model.lower()], int(text or 1), options.nodes or 1
    # CUDA 13 knows these no more.
    extra = "cuda12" if name.startswith(("P100", "V100")) else "cuda13"
    return Machines(f"{name}:{count}", nodes, nodes, options.extra or extra)


def _check_config(flags: Sequence[str]) -> None:
    """Raises UserError where the config would not be copied to the machines."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    config = parser.parse_known_args(list(flags))[0].config
    path = PurePath(config.partition(":")[0])
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"--config {config}: write a path below this folder, which is copied to the machines"
        )


def _check_text(option: str, text: str, pattern: str, form: str) -> None:
    if not re.fullmatch(pattern, text):
        raise UserError(f"{option} {text}: write {form}")


if __name__ == "__main__":
    command_line.main(run)
