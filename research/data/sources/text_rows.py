"""Rows of named fields in a file: JSON lines or a table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.data.files import is_compressed, read_bytes
from research.data.json_rows import parse_row
from research.data.sources.csv_rows import parse_csv
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
        names, lines = parse_csv(content, path, DELIMITERS[suffix], columns)
        for number, values in lines:
            yield number, dict(zip(names, values, strict=True))


def _objects(path: Path, content: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines: a JSON string may hold line separators that are no line feed.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        yield number, parse_row(line, f"{path}, line {number}")
