"""Durations as people say them: "200 epochs", "64000 steps", "2M examples", "10%"."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

_Unit = Literal["steps", "epochs", "examples", "percent"]
_PATTERN = re.compile(
    r"\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([kMB]?)\s*(%|[A-Za-z]+)\s*", re.ASCII
)
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000, "B": 1_000_000_000}
_UNITS: Mapping[str, Any] = {"%": "percent"} | {
    word: unit for unit in get_args(_Unit) for word in (unit, unit.removesuffix("s"))
}


@dataclass(frozen=True)
class Duration:
    """A length of training, or a place in it, counted in one of four units."""

    value: float
    unit: _Unit

    def __post_init__(self) -> None:
        if self.unit not in get_args(_Unit):
            raise ValueError(f"{self.unit!r} is no unit; units are {', '.join(get_args(_Unit))}")
        if not 0 <= self.value < math.inf:
            wrong = "must be finite" if self.value >= 0 else "can't be negative"
            raise ValueError(f"{self.value:g} {self.unit} is no duration: it {wrong}")

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Reads "200 epochs", "64k steps", "2M examples" or "10%"; ValueError for anything else."""
        match = _PATTERN.fullmatch(text)
        if not match or match[3] not in _UNITS:
            raise ValueError(
                f"{text!r} is no duration; write a number and a unit, such as "
                '"200 epochs", "64000 steps", "2M examples" or "10%"'
            )
        return cls(float(match[1]) * _SCALE[match[2]], _UNITS[match[3]])

    def __str__(self) -> str:
        # The shortest text that is read back as the same number.
        value = repr(float(self.value)).removesuffix(".0")
        return f"{value}%" if self.unit == "percent" else f"{value} {self.unit}"

    def steps(self, batch_size: int, steps_per_epoch: int, total_steps: int | None = None) -> int:
        """The nearest whole number of steps; at least 1 unless the duration is zero, or a share
        of no training.

        A percentage is of `total_steps`; ValueError where there is nothing to take it of.
        """
        if self.value == 0 or (self.unit == "percent" and total_steps == 0):
            return 0
        match self.unit:
            case "steps":
                steps = self.value
            case "epochs":
                steps = self.value * steps_per_epoch
            case "examples":
                steps = self.value / batch_size
            case "percent":
                if total_steps is None:
                    raise ValueError(f"{self} is a share of the training it should itself define")
                steps = self.value / 100 * total_steps
        return max(1, round(steps))


@dataclass(frozen=True)
class Steps:
    """How durations become steps in one run."""

    total: int
    per_epoch: int
    batch_size: int

    def __call__(self, duration: Duration) -> int:
        """The whole number of steps nearest to `duration`."""
        return duration.steps(self.batch_size, self.per_epoch, self.total)
