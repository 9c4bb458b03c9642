"""How a run stands, by what is in its folder."""

import errno
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from launch.trials import TrialState
from research.engine.files import read_json, read_rows
from research.engine.record import RESULT, TIMING


@dataclass(frozen=True)
class RunState:
    """A trial's state, and why it is not complete."""

    state: TrialState
    reason: str = ""


def run_state(workdir: Path, newest_step: int | None, place: int | None) -> RunState:
    """How the run stands whose metrics go up to `newest_step`; of a program of several trials,
    how the one at its place does."""
    if (workdir / RESULT).is_file():
        return RunState("complete")
    if is_locked(workdir):
        return RunState("running")
    failure = workdir / "failure" / "report.json"
    report = read_json(failure) if failure.is_file() else None
    # One that went on since has left it behind.
    if report is not None and report["step"] >= (newest_step or 0):
        return _failed(report, place)
    if newest_step is None:
        return RunState("failed", "ended before its first metrics")
    data = workdir / "data.json"
    total = f" of {read_json(data)['total_steps']}" if data.is_file() else ""
    return RunState("failed", f"stopped after step {newest_step}{total}; the same command goes on")


def is_locked(workdir: Path) -> bool:
    """Whether a process trains in a run's folder just now."""
    try:
        descriptor = os.open(workdir / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, and given back at once: two reports do not take each other for a run.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def run_seconds(workdir: Path) -> float | None:
    """Seconds that the run has trained: starts and steps, without evaluations and checkpoints."""
    if not (workdir / TIMING).is_file():
        return None
    seconds, before = 0.0, 0
    for row, _ in read_rows(workdir / TIMING):
        if "seconds_to_first_step" in row:
            seconds += row["seconds_to_first_step"]
        elif row.get("steps_per_second"):
            seconds += max(0, row["step"] - before) / row["steps_per_second"]
        before = row["step"]
    return seconds


def _failed(report: Mapping[str, Any], place: int | None) -> RunState:
    metrics = {name: str(text) for name, text in report["metrics"].items()}
    if place is not None:
        # Written by numpy: "[nan 0.3]"; where it left some out, all count as diverged.
        each = {name: text.strip("[]").split() for name, text in metrics.items()}
        if all(place < len(numbers) for numbers in each.values()) and "..." not in str(each):
            metrics = {
                name: numbers[place]
                for name, numbers in each.items()
                if not np.isfinite(float(numbers[place]))
            }
            if not metrics:
                return RunState(
                    "failed", f"stopped at step {report['step']}: a trial beside it diverged"
                )
    # The loss, or whatever is named first, says enough.
    name = next((name for name in metrics if name.endswith("loss")), next(iter(metrics), ""))
    what = f": {name} = {metrics[name]}" if name else ""
    return RunState("diverged", f"not finite at step {report['step']}{what}")
