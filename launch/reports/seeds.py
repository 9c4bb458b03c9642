"""Means over seeds, and how sure they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from launch.reports.values import score
from launch.trials import Trial, Trials
from research.engine.files import encode_json

SEED = "seed"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A sample: `std` has n - 1 in its denominator; `interval` is the 95 % confidence interval of
    the mean by Student's t. One value has neither."""

    n: int
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    smallest: float
    largest: float

    @property
    def half_width(self) -> float | None:
        """What stands behind ±."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2


@dataclass(frozen=True)
class Configuration:
    """Trials that differ by their seed only. `summary` is over the seeds that have a value, each
    counted once; `without_value` are trials that did not end with one."""

    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]
    summary: Summary | None
    without_value: int


def summarize(values: Sequence[float]) -> Summary | None:
    """What is known of the mean from independent values; None without any."""
    if not values:
        return None
    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    std = interval = None
    if len(sample) > 1:
        std = float(sample.std(ddof=1))
        half = student_factor(len(sample)) * std
        interval = (mean - half, mean + half)
    return Summary(len(sample), mean, std, interval, float(sample.min()), float(sample.max()))


def student_factor(n: int) -> float:
    """Half the width of the interval of the mean of n > 1 values, in standard deviations."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) / math.sqrt(n)


def over_seeds(trials: Trials) -> list[Configuration]:
    """The configurations, the best mean first, those without a value last."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials.trials:
        key = encode_json(sorted(_without_seed(trial).items()))
        groups.setdefault(key, []).append(trial)
    configurations = [_configuration(members) for members in groups.values()]
    sign = -1 if trials.mode == "max" else 1

    def rank(each: Configuration) -> tuple[bool, float]:
        return each.summary is None, sign * each.summary.mean if each.summary else 0.0

    return sorted(configurations, key=rank)


def has_repeats(configurations: Sequence[Configuration]) -> bool:
    """Whether any configuration has more than one trial."""
    return any(len(each.trials) > 1 for each in configurations)


def values_by_seed(trials: Sequence[Trial]) -> dict[Any, list[float]]:
    """The values of the trials that ended with one, by their seed."""
    values: dict[Any, list[float]] = {}
    for trial in trials:
        value = score(trial)
        if value is not None:
            values.setdefault(trial.settings.get(SEED), []).append(value)
    return values


def _configuration(members: Sequence[Trial]) -> Configuration:
    # The same seed again says nothing new: two equal runs are no sample of two.
    by_seed = values_by_seed(members)
    summary = summarize([float(np.mean(values)) for values in by_seed.values()])
    missing = len(members) - sum(map(len, by_seed.values()))
    return Configuration(_without_seed(members[0]), tuple(members), summary, missing)


def _without_seed(trial: Trial) -> dict[str, Any]:
    return {path: value for path, value in trial.settings.items() if path != SEED}
