"""Rows of csv files."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from research.data.files import read_text
from research.errors import UserError


def read_csv(
    path: Path, delimiter: str, names: Sequence[str] = ()
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, in the first line unless `names` are given, and every row as the
    number of its line and its values.

    White space around values and empty lines do not count. Raises UserError, also while rows are
    read, for one that has not as many values as there are names.
    """
    lines = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    columns = tuple(names) or tuple(name.strip() for name in next(lines, ()))

    def rows() -> Iterator[tuple[int, list[str]]]:
        for row in lines:
            values = [value.strip() for value in row]
            if len(values) < 2 and not any(values):
                continue
            if len(values) != len(columns):
                raise UserError(
                    f"{path}, line {lines.line_num} has {len(values)} values for "
                    f"{len(columns)} columns."
                )
            yield lines.line_num, values

    return columns, rows()


def finite(value: str) -> float:
    """The finite number that is spelled; NaN for anything else."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
