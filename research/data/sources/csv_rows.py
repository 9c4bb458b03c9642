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
    """What `parse_csv` gives of a file's UTF-8 text."""
    return parse_csv(read_text(path), path, delimiter, names)


def parse_csv(
    content: str, path: Path, delimiter: str, names: Sequence[str] = ()
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, in the first line unless `names` are given, and every row as the
    number of its (last) line and its values. Empty lines do not count.

    Raises UserError naming `path`, also while rows are read, for one that is none or has not as
    many values as there are names.
    """
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    columns = tuple(names) or tuple(name.strip() for name in next(lines, ()))

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for values in lines:
                if len(values) < 2 and not any(value.strip() for value in values):
                    continue
                if len(values) != len(columns):
                    raise UserError(
                        f"{path}, line {lines.line_num} has {len(values)} values for "
                        f"{len(columns)} columns."
                    )
                yield lines.line_num, values
        except csv.Error as error:
            raise UserError(f"{path}, line {lines.line_num} is no row: {error}.") from error

    return columns, rows()


def finite(value: str) -> float:
    """The finite number that is spelled; NaN for anything else."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
