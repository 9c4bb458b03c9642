"""What a run runs on."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

# Of the whole repository. Results that are written into it while runs go on are no changes.
_CODE = (":(top)*.py", ":(top)pyproject.toml", ":(top)constraints.txt")


def environment(data_dir: Path | str) -> dict[str, Any]:
    """What this process runs on: versions, devices, code and command line."""
    devices = jax.devices()
    return {
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "hostname": socket.gethostname(),
        "git": git_revision(Path(__file__).parent),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_dir": str(data_dir),
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """The commit checked out in `folder` and whether code or what it is installed with differs from
    it, new files included; None outside a repository or without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30, text=True)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=all", "--", *_CODE)
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return None
