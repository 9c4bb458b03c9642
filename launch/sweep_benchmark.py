"""How long a sweep takes as processes and as one program, and how far the two agree."""

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch.sweeps.results import read_sweep
from launch.trials import Trials
from research.engine.record import METRICS, read_metrics
from research.errors import UserError

_EQUAL = 1e-5


def measure_sweep(
    command: Sequence[str], trials: int, workers: int, folder: Path
) -> dict[str, float | int | None]:
    """Seconds of whole sweeps, their start included, and the largest differences between trials.

    `command` holds the flags that all of them share.
    """
    one = _seconds(command, folder / "one", 1, "--backend=local")
    local = _seconds(command, folder / "local", trials, f"--workers={workers}")
    vmap = _seconds(command, folder / "vmap", trials, "--backend=vmap")
    sweeps = [read_sweep(folder / name) for name in ("local", "vmap")]
    return {
        "trials": trials,
        "workers": workers,
        "one_trial_seconds": one,
        "local_seconds": local,
        "vmap_seconds": vmap,
        "vmap_over_one_trial": vmap / one,
        "local_over_vmap": local / vmap,
        **_agreement(*sweeps),
    }


def _seconds(command: Sequence[str], folder: Path, trials: int, backend: str) -> float:
    started = time.perf_counter()
    arguments = [*command, f"--sweepdir={folder}", f"--trials={trials}", backend]
    done = subprocess.run(
        [sys.executable, "-m", "launch.sweep", *arguments], stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise UserError(f"the sweep to be measured ended with exit code {done.returncode}")
    return time.perf_counter() - started


def _agreement(first: Trials, second: Trials) -> dict[str, float | int | None]:
    """How far the trials of two sweeps are from each other, relative to 1 or the number itself.

    Rounding differs between a trial alone and one of several, and training carries that on: the
    step until which all are equal says how soon.
    """
    pairs = list(zip(first.trials, second.trials, strict=True))
    differences = [
        _differences(one.workdir, other.workdir)
        for one, other in pairs
        if one.state == other.state == "complete"
    ]
    largest = [max(by_step.values(), default=0.0) for by_step in differences]
    apart = min(
        (step for by_step in differences for step, x in by_step.items() if x >= _EQUAL),
        default=math.inf,
    )
    values = [
        abs(one.value - other.value)
        for one, other in pairs
        if one.value is not None and other.value is not None
    ]
    return {
        "equal_states": sum(one.state == other.state for one, other in pairs),
        "equal_to_1e-5": sum(difference < _EQUAL for difference in largest),
        "all_equal_to_1e-5_until_step": max(
            (step for by_step in differences for step in by_step if step < apart), default=0
        ),
        "largest_difference": max(largest, default=None),
        f"largest_difference_of_{first.metric}": max(values, default=None),
    }


def _differences(one: Path, other: Path) -> dict[int, float]:
    """The largest difference of any metric by step."""
    if not (one / METRICS).exists():
        return {}
    return {
        row["step"]: max(abs(row[name] - again[name]) / max(1.0, abs(row[name])) for name in row)
        for row, again in zip(read_metrics(one), read_metrics(other), strict=True)
    }
