"""What is known of a set of runs: the trials of a sweep, or any runs that are to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TrialState = Literal["waiting", "running", "complete", "pruned", "diverged", "failed"]
Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Trial:
    """One run. `settings` are those in which the trials differ, by path, the seed among them;
    `value` is the newest value of the metric; `reason` says why a trial failed."""

    number: int
    state: TrialState
    settings: Mapping[str, Any]
    workdir: Path
    value: float | None = None
    step: int | None = None
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Trials:
    """Runs that are compared by one metric, such as "test/accuracy"."""

    title: str
    metric: str
    mode: Mode
    trials: tuple[Trial, ...]
