"""Rows of named fields in a file: JSON lines or a table."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.data.files import is_compressed, read_bytes
from research.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}

Row = Mapping[str, Any]


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Every row, with the number of its (last) line: the objects of a .jsonl file, or the fields of
    a .csv or .tsv file by the names in its first line or by `columns`; or of any of them .gz or
    .xz. Bytes that are no UTF-8 become surrogates, which no text has.

    Raises UserError for another file, and for a row that is none, with its line.
    """
    suffix = Path(path.stem).suffix if is_compressed(path) else path.suffix
    if suffix != ".jsonl" and suffix not in DELIMITERS:
        raise UserError(f"{path} is no .jsonl, .csv or .tsv file, nor one of them .gz or .xz.")
    content = read_bytes(path).decode("utf-8", "surrogateescape")
    if suffix == ".jsonl":
        yield from _objects(path, content)
    else:
        yield from _fields(path, content, columns, DELIMITERS[suffix])


def _objects(path: Path, content: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines: a JSON string may hold line separators that are no line feed.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not valid JSON: {error}.") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is {type(row).__name__}, not a JSON object.")
        yield number, row


def _fields(
    path: Path, content: str, columns: Sequence[str], delimiter: str
) -> Iterator[tuple[int, Row]]:
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in columns or next(lines, ())]
        for values in lines:
            if not values:
                continue
            if len(values) != len(names):
                raise UserError(
                    f"{path}, line {lines.line_num} has {len(values)} fields for {len(names)} "
                    "columns."
                )
            yield lines.line_num, dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num} is no row: {error}.") from error
