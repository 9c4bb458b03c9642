"""Numbers of runs over their steps, from `metrics.jsonl`, thinned to what a picture can show."""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from launch.trials import Trial
from research.engine.config import to_plain
from research.engine.files import read_json
from research.engine.record import METRICS
from research.errors import UserError

MAX_POINTS = 200
FIRST_ROWS = 20


@dataclass(frozen=True)
class Curve:
    """A metric's values and the steps at which they were measured."""

    steps: np.ndarray
    values: np.ndarray


def read_curves(trials: Iterable[Trial], name: str) -> dict[int, Curve]:
    """The curve of a metric by the number of its trial; trials that have none are left out.

    Raises UserError where a `metrics.jsonl` is damaged.
    """
    by_folder: dict[Path, list[Trial]] = {}
    for trial in trials:
        by_folder.setdefault(trial.workdir, []).append(trial)
    curves = {}
    for workdir, members in by_folder.items():
        rows = [row.read() for row in thin(rows_with(workdir, name), MAX_POINTS)]
        for trial in members if rows else ():
            curve = _curve(rows, name, place_in_program(trial))
            if len(curve.steps):
                curves[trial.number] = curve
    return curves


def training_losses(trials: Iterable[Trial]) -> list[str]:
    """The names of the losses that these runs minimise, by their first rows: `loss`, or one a
    player, as `generator_loss`."""
    names: set[str] = set()
    for workdir in dict.fromkeys(trial.workdir for trial in trials):
        with suppress(FileNotFoundError, NotADirectoryError), open(workdir / METRICS, "rb") as file:
            first = b"".join(itertools.islice(file, FIRST_ROWS)).decode(errors="replace")
            names |= set(re.findall(r'"((?:\w+_)?loss)":', first))
    return sorted(names)


def rows_with(workdir: Path, name: str) -> Sequence["Row"]:
    """The rows of a run's metrics that hold this one, none of them parsed yet; a last line that
    is not whole is left out, as are all where there is no file."""
    path = workdir / METRICS
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    whole = lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
    key = _key(name)
    return [Row(path, number, line) for number, line in enumerate(whole, 1) if key in line]


def holding(rows: Sequence["Row"], name: str) -> list["Row"]:
    """Those of the rows that hold a metric."""
    key = _key(name)
    return [row for row in rows if key in row.line]


class Row(NamedTuple):
    """A line of `metrics.jsonl`; there can be millions."""

    path: Path
    number: int
    line: bytes

    def read(self) -> dict[str, Any]:
        """Its metrics and its step; raises UserError where it is damaged."""
        try:
            row = json.loads(self.line)
            return {**row, "step": int(row["step"])}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path}, line {self.number} is damaged: remove it to go on"
            ) from None


def number_in(row: Mapping[str, Any], name: str, place: int | None) -> float | None:
    """A metric's number in a row; of a trial of a program, the one at its place."""
    value = row[name]
    if isinstance(value, list):
        value = value[place] if place is not None and place < len(value) else None
    return None if value is None else float(value)


def thin(rows: Sequence[Row], limit: int) -> Sequence[Row]:
    """At most so many rows, evenly spread, the first and the last among them."""
    if len(rows) <= limit:
        return rows
    return [rows[place] for place in np.linspace(0, len(rows) - 1, limit).round().astype(int)]


def place_in_program(trial: Trial) -> int | None:
    """Which of the trials of one program (`parallelism.trials`) this is; None for a run of its
    own."""
    file = trial.workdir / "config.json"
    if not file.is_file():
        return None
    values = read_json(file).get("parallelism", {}).get("trials", {})
    settings = {path: to_plain(value) for path, value in trial.settings.items()}
    for place in range(max(map(len, values.values()), default=0)):
        # A setting that the trial does not name can't tell it from the others.
        if all(settings.get(path, each[0]) == each[place] for path, each in values.items()):
            return place
    return None


def _key(name: str) -> bytes:
    """How a line names a metric."""
    return f"{json.dumps(name)}:".encode()


def _curve(rows: Sequence[Mapping[str, Any]], name: str, place: int | None) -> Curve:
    points = [(row["step"], number_in(row, name, place)) for row in rows]
    measured = [(step, value) for step, value in points if value is not None]
    return Curve(
        np.array([step for step, _ in measured], np.int64),
        np.array([value for _, value in measured], np.float64),
    )
