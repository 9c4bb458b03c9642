"""Tables: examples that are rows of named columns."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find
from research.data.sources.csv_rows import finite, read_csv
from research.errors import UserError
from research.suggestion import did_you_mean

ROWS_A_PIECE = 10_000


@dataclass(frozen=True)
class Table:
    """Columns of a csv file (or .gz, .xz); its first line names them unless `columns` does.

    `features` are columns of numbers. `categories` gives, for columns of names, all their values
    in the order of their numbers. `label` is a class where `classes` lists its values, and
    otherwise a number. White space around values does not count.

    A batch has features float32 (N, columns); categories int32 (N, columns) where there are any,
    in the order given; label int32 (N,) for classes, else float32 (N,).
    """

    file: str
    features: tuple[str, ...]
    label: str
    classes: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    delimiter: str = ","

    def __post_init__(self) -> None:
        if not self.features and not self.categories:
            raise UserError("Table needs at least one column of features or categories.")
        if len(self.delimiter) != 1:
            raise UserError(f"Table.delimiter must be one character, not {self.delimiter!r}.")

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        keep = worth_keeping([path])
        arrays = decode_once([path], repr(self), lambda: self._decode(path), keep)
        return Dataset(len(arrays["label"]), arrays)

    def _decode(self, path: Path) -> Iterator[dict[str, np.ndarray]]:
        names, lines = read_csv(path, self.delimiter, self.columns)
        wanted = (*self.features, *self.categories, self.label)
        for name in wanted:
            if name not in names:
                raise UserError(f"{path} has no column {name!r}{did_you_mean(name, names)}")
        places = [names.index(name) for name in wanted]
        codes = {**self.categories, **({self.label: self.classes} if self.classes else {})}
        lookups = [
            {value: code for code, value in enumerate(codes[name])} if name in codes else None
            for name in wanted
        ]
        rows: list[list[float]] = []
        found = False
        for line, row in lines:
            if not any(value.strip() for value in row):
                continue
            rows.append(
                [
                    _number(row[index].strip(), lookup, f"{path}, line {line}, column {name!r}")
                    for index, lookup, name in zip(places, lookups, wanted, strict=True)
                ]
            )
            if len(rows) == ROWS_A_PIECE:
                yield self._piece(rows)
                rows, found = [], True
        if rows:
            yield self._piece(rows)
        elif not found:
            raise UserError(f"{path} holds no rows.")

    def _piece(self, rows: list[list[float]]) -> dict[str, np.ndarray]:
        values, num_features = np.asarray(rows, np.float64), len(self.features)
        piece = {"label": values[:, -1].astype(np.int32 if self.classes else np.float32)}
        if self.features:
            piece["features"] = values[:, :num_features].astype(np.float32)
        if self.categories:
            piece["categories"] = values[:, num_features:-1].astype(np.int32)
        return piece


def _number(value: str, lookup: dict[str, int] | None, place: str) -> float:
    """The code of a value where `lookup` is given, else the finite number it spells."""
    if lookup is not None:
        if value not in lookup:
            raise UserError(f"{place}: {value!r} is not one of {', '.join(map(repr, lookup))}.")
        return lookup[value]
    number = finite(value)
    if math.isnan(number):
        raise UserError(f"{place}: {value!r} is not a finite number.")
    return number
