"""Time series: windows of a table whose rows follow each other in time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find
from research.data.sources.csv_rows import finite, read_csv
from research.errors import UserError
from research.suggestion import did_you_mean

ROWS_A_PIECE = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimeSeries:
    """Every window of `input_length` rows and the `horizon` rows behind them in a csv file (or .gz,
    .xz), whose rows are taken to be evenly spaced in time.

    The rows to be forecast are those from `start` up to `stop`; negative places count from the end.
    The inputs of the first windows lie before `start` where there are rows. `columns` hold numbers;
    by default they are all but `time_column`, which is not read.

    `normalize_by` says from which row up to which, those of training, the mean and the standard
    deviation are taken (over n, not n - 1) that standardise each column.

    A cell that is not a finite number stops the run. With `missing` "skip" windows with such cells
    are left out; "interpolate" draws a line between the neighbours in the column, which for inputs
    looks ahead, and repeats the nearest at the ends of what is read. Either is counted in the log.

    A batch has inputs float32 (N, input_length, columns) and targets float32 (N, horizon, columns).
    """

    file: str
    input_length: int
    horizon: int
    columns: tuple[str, ...] = ()
    time_column: str = "date"
    start: int = 0
    stop: int | None = None
    normalize_by: tuple[int, int] | None = None
    missing: Literal["stop", "skip", "interpolate"] = "stop"
    delimiter: str = ","

    def __post_init__(self) -> None:
        if self.input_length < 1 or self.horizon < 1:
            raise UserError(
                f"TimeSeries.input_length and TimeSeries.horizon must be at least 1; "
                f"got {self.input_length} and {self.horizon}."
            )
        if self.missing not in ("stop", "skip", "interpolate"):
            raise UserError(
                f"TimeSeries.missing must be 'stop', 'skip' or 'interpolate', not {self.missing!r}."
            )
        if len(self.delimiter) != 1:
            raise UserError(f"TimeSeries.delimiter must be one character, not {self.delimiter!r}.")

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        # Not repr(self): which rows are taken, and how, changes nothing in what they hold.
        settings = f"TimeSeries {self.columns} {self.time_column} {self.missing} {self.delimiter}"
        keep = worth_keeping([path])
        values = decode_once([path], settings, lambda: self._decode(path), keep)["values"]
        forecast = _rows(path, "start and stop", self.start, self.stop, len(values))
        # Nothing behind `stop` is in what is kept.
        first = max(0, forecast.start - self.input_length)
        series, length = values[first : forecast.stop], self.input_length + self.horizon
        if len(series) < length:
            raise UserError(
                f"{path}: from row {first} up to {forecast.stop} there are {len(series)} rows; one "
                f"window of input_length {self.input_length} and horizon {self.horizon} has "
                f"{length}."
            )
        if self.normalize_by is not None:
            training = values[_rows(path, "normalize_by", *self.normalize_by, len(values))]
            series = self._normalized(series, training, path)
        starts = np.arange(len(series) - length + 1, dtype=np.int32)
        missing = np.isnan(series)
        if missing.any() and self.missing == "skip":
            before = np.concatenate([[0], np.cumsum(missing.any(1))])
            starts = starts[before[starts + length] == before[starts]]
            logger.warning(
                "%s: %d of %d windows have a missing value and are left out.",
                path,
                len(series) - length + 1 - len(starts),
                len(series) - length + 1,
            )
            if not len(starts):
                raise UserError(f"{path}: no window of {length} rows is without a missing value.")
        elif missing.any():
            series = _interpolated(series, path)
        arrays = {"series": series.astype(np.float32), "starts": starts}
        return Dataset(len(starts), arrays, Windows(self.input_length, self.horizon))

    def _decode(self, path: Path) -> Iterator[Mapping[str, np.ndarray]]:
        names, lines = read_csv(path, self.delimiter)
        columns = self._columns(path, names)
        places = [names.index(name) for name in columns]
        rows: list[np.ndarray] = []
        first, num_missing = "", 0
        for line, cells in lines:
            rows.append(np.array([finite(cells[place]) for place in places]))
            for i in np.flatnonzero(np.isnan(rows[-1])).tolist():
                cell = f"{path}, line {line}, column {columns[i]!r}: {cells[places[i]]!r}"
                if self.missing == "stop":
                    raise UserError(
                        f"{cell} is not a finite number; name the columns that hold numbers in "
                        'TimeSeries.columns, or set TimeSeries.missing to "skip" or "interpolate".'
                    )
                first, num_missing = first or cell, num_missing + 1
            if len(rows) == ROWS_A_PIECE:
                yield {"values": np.stack(rows)}
                rows = []
        # Without any row, too: what it lacks is told where windows are cut.
        yield {"values": np.reshape(rows, (-1, len(places)))}
        if num_missing:
            logger.warning("%d cells are not finite numbers, the first %s.", num_missing, first)

    def _columns(self, path: Path, names: Sequence[str]) -> Sequence[str]:
        """Those that are taken of the file's."""
        for name in self.columns:
            if name not in names:
                raise UserError(f"{path} has no column {name!r}{did_you_mean(name, names)}")
        columns = self.columns or [name for name in names if name != self.time_column]
        if not columns:
            raise UserError(f"{path} has no column but {self.time_column!r}.")
        return columns

    def _normalized(
        self,
        series: Float[np.ndarray, "rows columns"],
        training: Float[np.ndarray, "training_rows columns"],
        path: Path,
    ) -> Float[np.ndarray, "rows columns"]:
        # Not by the deviation: that of equal numbers need not be 0.
        varies = np.nanmax(training, 0) > np.nanmin(training, 0)
        for place in np.flatnonzero(~varies).tolist():
            name = self._columns(path, read_csv(path, self.delimiter)[0])[place]
            raise UserError(
                f"{path}: column {name!r} has no two different values in the rows of "
                f"TimeSeries.normalize_by = {self.normalize_by}; leave it out of "
                "TimeSeries.columns."
            )
        return (series - np.nanmean(training, 0)) / np.nanstd(training, 0)


@dataclass(frozen=True)
class Windows:
    """Gathers windows of a series, each from its start."""

    input_length: int
    horizon: int

    def __call__(self, arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
        rows = arrays["starts"][indices][:, None] + np.arange(self.input_length + self.horizon)
        values = arrays["series"][rows]
        return {
            "inputs": values[:, : self.input_length],
            "targets": values[:, self.input_length :],
        }


def _rows(path: Path, setting: str, start: int, stop: int | None, num_rows: int) -> slice:
    """From `start` up to `stop`, where negative places count from the end."""
    first, last = (
        place + num_rows if place < 0 else place
        for place in (start, num_rows if stop is None else stop)
    )
    if not 0 <= first < last <= num_rows:
        raise UserError(
            f"TimeSeries.{setting}: {path} has {num_rows} rows, of which none, or not all, are "
            f"from {start} up to {stop}."
        )
    return slice(first, last)


def _interpolated(
    series: Float[np.ndarray, "rows columns"], path: Path
) -> Float[np.ndarray, "rows columns"]:
    """NaNs of each column on the line between their neighbours; at the ends as the nearest."""
    if np.isnan(series).all(0).any():
        raise UserError(f"{path}: a column of TimeSeries.columns has no number in these rows.")
    places = np.arange(len(series))
    filled = series.copy()
    for column in filled.T:
        there = ~np.isnan(column)
        column[~there] = np.interp(places[~there], places[there], column[there])
    return filled
