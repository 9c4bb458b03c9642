"""How a setting's values lie on an axis."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from launch.reports.values import natural, setting_paths, short_names, shown
from launch.trials import Trial

# Ratios of the largest to the smallest: where a logarithmic axis is thought of, and where there
# is no doubt.
LOG_FROM, LOG_CERTAINLY = 10, 1e4
FEW = 5
# Numbers with a zero that otherwise span decades are categories where they are this few.
CATEGORIES_UP_TO = 8
MAX_TICKS = 7
TEXT_UP_TO = 22


@dataclass(frozen=True)
class Axis:
    """A setting as an axis. `places` has one number a trial: the setting's own, or the place of
    its text in `categories`."""

    path: str
    label: str
    kind: Literal["linear", "log", "category"]
    places: tuple[float, ...]
    categories: tuple[str, ...] = ()
    whole: bool = False

    @property
    def varies(self) -> bool:
        """Whether trials differ in it."""
        return len(set(self.places)) > 1

    def told(self, place: float) -> str:
        """The value at a place, as text."""
        return self.categories[int(place)] if self.categories else shown(place)


def axes_of(trials: Sequence[Trial], leave_out: Sequence[str] = ()) -> list[Axis]:
    """The axes of the settings in which these trials differ."""
    names = short_names(setting_paths(trials))
    axes = [axis_of(path, names[path], trials) for path in names if path not in leave_out]
    return [axis for axis in axes if axis.varies]


def axis_of(path: str, label: str, trials: Sequence[Trial]) -> Axis:
    """The axis of a setting: logarithmic for numbers that span a decade, of categories for what
    is not a number in every trial."""
    values = [trial.settings.get(path, _MISSING) for trial in trials]
    numbers = [value for value in values if _is_number(value)]
    if len(numbers) == len(values):
        positive = [number for number in numbers if number > 0]
        spread = bool(positive) and _spans_decades(positive)
        whole = all(isinstance(number, int) for number in numbers)
        if spread and len(positive) == len(numbers):
            return Axis(path, label, "log", (*map(float, numbers),), whole=whole)
        if not spread or min(numbers) < 0 or len(set(numbers)) > CATEGORIES_UP_TO:
            return Axis(path, label, "linear", (*map(float, numbers),), whole=whole)
    told = _shortened([_told(value) for value in values])
    rank = {text: _rank(value) for text, value in zip(told, values, strict=True)}
    categories = sorted(rank, key=rank.__getitem__)
    places = tuple(float(categories.index(text)) for text in told)
    return Axis(path, label, "category", places, tuple(categories))


def log_ticks(smallest: float, largest: float, limit: int = MAX_TICKS) -> list[float]:
    """A few round numbers within two positive ones for a logarithmic axis, or these two."""
    decades = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
        ticks = [factor * 10.0**decade for decade in decades[::every] for factor in factors]
        inside = [tick for tick in ticks if smallest * 0.999 <= tick <= largest * 1.001]
        if len(inside) <= limit:
            break
    return inside if len(inside) > 1 else [smallest, largest]


def with_ends(marks: Sequence[float], low: float, high: float) -> list[float]:
    """Marks of an axis with its ends among them, without those too close to an end."""
    if high <= low:
        return [low]
    room = 0.06 * (high - low)
    return [low, *(mark for mark in marks if low + room <= mark <= high - room), high]


def ticks(smallest: float, largest: float) -> list[float]:
    """A few round numbers within two for a linear axis, or these two."""
    if largest <= smallest:
        return [smallest]
    unit = 10.0 ** math.floor(math.log10((largest - smallest) / (MAX_TICKS - 1)))
    for factor in (1, 2, 5, 10, 20):
        step = factor * unit
        first, last = math.ceil(smallest / step - 1e-6), math.floor(largest / step + 1e-6)
        if last - first < MAX_TICKS:
            break
    # Dividing gives 0.3 where multiplying gives 0.30000000000000004.
    inside = [place / (1 / step) if step < 1 else place * step for place in range(first, last + 1)]
    return inside if len(inside) > 1 else [smallest, largest]


_MISSING = object()


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


def _spans_decades(positive: Sequence[float]) -> bool:
    """Whether these numbers want a logarithmic axis: they span a decade, and where they are more
    than a few that someone chose, their median is nearer the middle there."""
    distinct = sorted(set(positive))
    low, high = distinct[0], distinct[-1]
    if high < LOG_FROM * low:
        return False
    if high >= LOG_CERTAINLY * low or len(distinct) <= FEW:
        return True
    median = statistics.median(distinct)
    linear = abs((median - low) / (high - low) - 0.5)
    return abs(math.log(median / low) / math.log(high / low) - 0.5) < linear


def _told(value: Any) -> str:
    return "–" if value is _MISSING else shown(value)


def _shortened(texts: Sequence[str]) -> list[str]:
    """Texts that fit an axis, where they still tell the values apart. Both ends of a text tell
    more than its beginning alone."""
    half = TEXT_UP_TO // 2
    short = {
        text: text if len(text) <= TEXT_UP_TO else f"{text[:half]}…{text[1 - half :]}"
        for text in texts
    }
    return [short[text] for text in texts] if len(set(short.values())) == len(short) else [*texts]


def _rank(value: Any) -> tuple[int, float, list[tuple[str, int]]]:
    """Missing, None, numbers by size, texts."""
    if value is _MISSING:
        return 0, 0, []
    if value is None:
        return 1, 0, []
    return (2, value, []) if _is_number(value) else (3, 0, natural(_told(value)))
