"""Documents of text, read one after the other."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from research.data.files import find, line_of, open_bytes, wrong_byte
from research.data.json_rows import parse_row, text_of
from research.errors import UserError

CHUNK_BYTES = 1 << 24


class Document(NamedTuple):
    """A text, the place it was found at, and the share in [0, 1] of the data that lies before; and
    what is wrong with it where it is to be left out."""

    text: str
    place: str
    share: float
    flaw: str = ""


@runtime_checkable
class Documents(Protocol):
    """Where documents come from: a frozen dataclass of plain settings."""

    def files(self, data_dir: Path) -> list[Path]:
        """All files that hold them."""
        ...

    def documents(self, data_dir: Path) -> Iterator[Document]:
        """Every document in its order. Raises UserError for one that is no text, with its place."""
        ...


@dataclass(frozen=True)
class TextFiles:
    """UTF-8 text in files (or .gz, .xz), whose paths may be patterns such as "books/*.txt.gz".

    Each file is a document; with a `separator`, such as "<|endoftext|>" or a line feed, each part
    between two is one; with a `field` the files have a JSON object a line, and the text in its
    field is one. `strip` takes white space off both ends. A document is in memory as a whole, a
    file only where it is one. One that is not UTF-8, or a line without a text in its field, stops
    the run, or is left out and counted with `wrong_rows="skip"`.
    """

    paths: tuple[str, ...]
    separator: str | None = None
    field: str | None = None
    strip: bool = False
    wrong_rows: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self.paths))
        if not self.paths:
            raise UserError("TextFiles.paths must name at least one file.")
        if self.separator == "":
            raise UserError("TextFiles.separator must not be empty.")
        if self.separator is not None and self.field is not None:
            raise UserError("TextFiles takes a separator or a field, not both.")
        if self.wrong_rows not in ("stop", "skip"):
            raise UserError(
                f"TextFiles.wrong_rows must be 'stop' or 'skip', not {self.wrong_rows!r}."
            )

    def files(self, data_dir: Path) -> list[Path]:
        """Raises UserError for a path or a pattern without a file."""
        found: list[Path] = []
        for path in self.paths:
            matches = sorted(glob.glob(str(data_dir.expanduser() / path), recursive=True))
            # Without a match it may be a plain path with brackets in it.
            found += [Path(match) for match in matches] or [find(data_dir, path)]
        return found

    def documents(self, data_dir: Path) -> Iterator[Document]:
        files = self.files(data_dir)
        sizes = [path.stat().st_size for path in files]
        total, before = max(1, sum(sizes)), 0
        for path, size in zip(files, sizes, strict=True):
            with open_bytes(path) as (file, position):
                for number, part in enumerate(self._parts(file), start=1):
                    share = (before + position()) / total
                    place = str(path)
                    if self.field is not None:
                        place = f"{path}, line {number}"
                    elif self.separator is not None:
                        place = f"{path}, document {number}"
                    flaw = ""
                    try:
                        text = self._text(part, path, place)
                    except UserError as error:
                        if self.wrong_rows == "stop":
                            raise
                        # Bytes that are no UTF-8 become surrogates.
                        text, flaw = part.data.decode("utf-8", "surrogateescape"), str(error)
                    if text is not None:
                        yield Document(text.strip() if self.strip else text, place, share, flaw)
            before += size

    def _text(self, part: "_Part", path: Path, place: str) -> str | None:
        """The text of a part; None for an empty line between objects."""
        try:
            text = part.data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = part.line + line_of(error) - 1
            raise UserError(
                f"{path}, line {line} is not UTF-8 text: {wrong_byte(error, part.start)}."
            ) from error
        if self.field is None:
            return text
        return text_of(parse_row(text, place), self.field, place) if text.strip() else None

    def _parts(self, file: Any) -> Iterator["_Part"]:
        """Every document or line."""
        if self.separator is None and self.field is None:
            yield _Part(file.read(), 0, 1)
            return
        separator = (self.separator or "\n").encode()
        start, line, rest = 0, 1, b""
        while chunk := file.read(CHUNK_BYTES):
            *parts, rest = (rest + chunk).split(separator)
            for part in parts:
                yield _Part(part, start, line)
                start += len(part) + len(separator)
                line += part.count(b"\n") + separator.count(b"\n")
        if rest.strip():  # what ends with a separator has no document behind it
            yield _Part(rest, start, line)


class _Part(NamedTuple):
    """Bytes of a file, and the byte and the line they start at."""

    data: bytes
    start: int
    line: int
