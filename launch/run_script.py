"""The shell line that runs training in a pod or on a cluster's node."""

import shlex
from collections.abc import Sequence

# The same as JAX's own for TPUs.
COORDINATOR_PORT = 8482


def train_script(flags: Sequence[str], joining: Sequence[str] = ()) -> str:
    """`python -m research.train` with these very flags, an option a line.

    `joining` is shell text that comes last and is not quoted: the values in it are known only
    where it runs.
    """
    lines = ["python -m research.train"]
    for flag in flags:
        if flag.startswith("--"):
            lines.append(shlex.quote(flag))
        else:
            lines[-1] += f" {shlex.quote(flag)}"
    return " \\\n  ".join([*lines, *joining])


def joining_flags(coordinator: str, num_processes: str, process_id: str) -> list[str]:
    """The flags that join processes into one run, from shell text for their values."""
    return [
        f"--coordinator {coordinator}:{COORDINATOR_PORT}",
        f"--num_processes {num_processes}",
        f"--process_id {process_id}",
    ]
