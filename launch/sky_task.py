"""The SkyPilot task of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launch.mounts import Mount
from launch.run_script import joining_flags, train_script
from research.command_line import STOPPED

STRATEGIES = ("EAGER_NEXT_REGION", "FAILOVER")
_ENVIRONMENT = "~/research_environment"


@dataclass(frozen=True)
class Machines:
    """Accelerators by SkyPilot's name, of one node, and how many hosts join into a run.

    A TPU slice of several hosts is one node.
    """

    accelerators: str
    nodes: int
    hosts: int
    extra: str
    runtime_version: str | None = None

    @property
    def is_tpu(self) -> bool:
        return self.runtime_version is not None


@dataclass(frozen=True)
class Options:
    """What a task has besides its machines."""

    name: str
    buckets: tuple[Mount, ...]
    spot: bool = False
    infra: tuple[str, ...] = ()
    strategy: str = STRATEGIES[0]
    max_restarts: int = 0
    disk_size: int | None = None
    cpus: str | None = None
    memory: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


def make_task(options: Options, machines: Machines, flags: Sequence[str]) -> dict[str, Any]:
    """The task as SkyPilot reads it."""
    # Cached files reach the bucket late: other hosts would not find them there.
    mode = "MOUNT" if machines.hosts > 1 else "MOUNT_CACHED"
    task: dict[str, Any] = {
        "name": options.name,
        "resources": _resources(options, machines),
        "num_nodes": machines.nodes,
        "workdir": ".",
        "file_mounts": {
            str(mount.path): {"source": mount.source, "mode": mode} for mount in options.buckets
        },
        "envs": {"PYTHONUNBUFFERED": "1", **options.environment},
    }
    if options.secrets:
        # Their values come with the launch, by --secret NAME.
        task["secrets"] = dict.fromkeys(options.secrets)
    return task | {"setup": _setup(machines), "run": _run_script(machines, flags)}


def _resources(options: Options, machines: Machines) -> dict[str, Any]:
    resources: dict[str, Any] = {"accelerators": machines.accelerators}
    if machines.is_tpu:
        resources["accelerator_args"] = {"runtime_version": machines.runtime_version}
    if len(options.infra) == 1:
        resources["infra"] = options.infra[0]
    elif options.infra:
        resources["any_of"] = [{"infra": infra} for infra in options.infra]
    resources["use_spot"] = options.spot
    sizes = {"cpus": options.cpus, "memory": options.memory, "disk_size": options.disk_size}
    resources |= {name: size for name, size in sizes.items() if size}
    resources["job_recovery"] = {
        "strategy": options.strategy,
        "max_restarts_on_errors": options.max_restarts,
        "recover_on_exit_codes": [STOPPED],
    }
    return resources


def _setup(machines: Machines) -> str:
    """Installs the project; the machines' own Python may be too old."""
    return (
        "set -e\n"
        'export PATH="$HOME/.local/bin:$PATH"\n'
        "command -v uv > /dev/null || python3 -m pip install --user uv\n"
        f"uv venv --python 3.12 --allow-existing {_ENVIRONMENT}\n"
        f"uv pip install --python {_ENVIRONMENT}/bin/python -c constraints.txt "
        f"-e '.[{machines.extra}]'\n"
    )


def _run_script(machines: Machines, flags: Sequence[str]) -> str:
    """Runs on every host. Not `exec`: SkyPilot has something to do afterwards."""
    joining: list[str] = []
    if machines.hosts > 1 and machines.is_tpu:
        joining = ["--distributed"]
    elif machines.hosts > 1:
        first = '"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"'
        joining = joining_flags(first, '"$SKYPILOT_NUM_NODES"', '"$SKYPILOT_NODE_RANK"')
    return f"source {_ENVIRONMENT}/bin/activate\n{train_script(flags, joining)}\n"
