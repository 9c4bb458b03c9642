"""What this machine computes on."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from research.errors import UserError

_ASK = (
    "import json, jax; d = jax.devices(); "
    "print(json.dumps([d[0].platform, d[0].device_kind, len(d)]))"
)


@dataclass(frozen=True)
class Machine:
    """JAX's devices, and the processor that feeds them."""

    platform: str
    device_kind: str
    device_count: int
    processor: str
    cores: int


def this_machine() -> Machine:
    """This one. Another process asks JAX: one that has seen a GPU or TPU keeps it from the runs.

    Raises UserError where JAX finds no device.
    """
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise UserError(f"JAX finds no device: {last}")
    kind, name, count = json.loads(done.stdout.splitlines()[-1])
    return Machine(kind, name, count, processor(), cores())


def processor() -> str:
    """The processor's name, as the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
