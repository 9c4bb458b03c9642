"""Values of trials and settings: which count, how they are ordered, how they are written."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.trials import Mode, Trial, Trials
from research.engine.config import to_plain
from research.engine.files import encode_json

# A loss whose largest value is so many times its smallest is seen by its logarithm.
LOGARITHMIC_FROM = 20
STATES = ("complete", "running", "waiting", "pruned", "diverged", "failed")


def score(trial: Trial) -> float | None:
    """What a trial ended with; None where it did not end, or not with a finite number."""
    ended = trial.state == "complete" and trial.value is not None and math.isfinite(trial.value)
    return trial.value if ended else None


def best_first(trials: Trials) -> list[Trial]:
    """Those that ended with a value by how good it is, then the others as they came."""
    sign = -1 if trials.mode == "max" else 1

    def rank(trial: Trial) -> tuple[bool, float]:
        value = score(trial)
        return value is None, 0.0 if value is None else sign * value

    return sorted(trials.trials, key=rank)


def best_of(trials: Trials) -> Trial | None:
    """The best trial, if any ended with a value."""
    first = best_first(trials)[:1]
    return first[0] if first and score(first[0]) is not None else None


def counts_by_state(trials: Trials) -> dict[str, int]:
    """How many trials are in each state that occurs."""
    counts: Counter[str] = Counter(trial.state for trial in trials.trials)
    return {state: counts[state] for state in STATES if counts[state]}


def setting_paths(trials: Iterable[Trial]) -> list[str]:
    """Every setting that a trial has, in the order in which they first occur."""
    return list(dict.fromkeys(path for trial in trials for path in trial.settings))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted paths that tell them apart: learning_rate, or
    generator.learning_rate where there are several."""
    names = {}
    for path in paths:
        parts = path.split(".")
        for start in range(len(parts) - 1, -1, -1):
            name = ".".join(parts[start:])
            others = [other for other in paths if other != path]
            # A bare `name`, or a place in a list, says nothing.
            telling = parts[start] != "name" and not parts[start].isdecimal()
            if telling and not any(other == name or other.endswith(f".{name}") for other in others):
                break
        names[path] = name
    return names


def shown(value: Any) -> str:
    """A value as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else encode_json(to_plain(value))


def shown_settings(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Settings on one line."""
    return ", ".join(f"{names[path]} = {shown(value)}" for path, value in settings.items())


def with_error(mean: float, half_width: float | None) -> str:
    """mean ± half_width, to the second digit of what is uncertain."""
    if half_width is None or not math.isfinite(half_width):
        return f"{mean:.4g}"
    if half_width == 0:
        return f"{mean:.4g} ± 0"
    decimals = 1 - math.floor(math.log10(half_width))
    if abs(mean) >= 1e5 or decimals > 8:
        return f"{mean:.4g} ± {half_width:.2g}"
    return f"{mean:.{max(0, decimals)}f} ± {half_width:.{max(0, decimals)}f}"


def wants_logarithm(values: Iterable[float], mode: Mode) -> bool:
    """Whether a metric is better seen by its logarithm: a loss that spans more than a decade."""
    finite = [value for value in values if math.isfinite(value)]
    wide = bool(finite) and min(finite) > 0 and max(finite) > LOGARITHMIC_FROM * min(finite)
    return wide and mode == "min"


def natural(text: str) -> list[tuple[str, int]]:
    """A key that puts run_2 before run_10."""
    return [(part, int(number or 0)) for part, number in re.findall(r"(\D*)(\d*)", text)]
