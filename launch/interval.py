"""The mean of a few numbers, and how well so few of them tell it."""

import math
import statistics
from collections.abc import Sequence


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % confidence interval by Student's t; None for the
    latter where there is one number only, which says nothing about the spread."""
    mean = statistics.fmean(values)
    count = len(values)
    if count < 2:
        return mean, None
    from scipy.stats import t

    error = statistics.stdev(values) / math.sqrt(count)
    return mean, float(t.ppf(0.975, count - 1)) * error
