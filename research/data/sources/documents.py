"""Documents of text, read one after the other."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from research.data.files import find, open_bytes
from research.data.json_rows import parse_row, text_of
from research.errors import UserError

CHUNK_BYTES = 1 << 24


class Document(NamedTuple):
    """A text, the place it was found at, and the share in [0, 1] of the data that lies before."""

    text: str
    place: str
    share: float


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
    file only where it is one.
    """

    paths: tuple[str, ...]
    separator: str | None = None
    field: str | None = None
    strip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self.paths))
        if not self.paths:
            raise UserError("TextFiles.paths must name at least one file.")
        if self.separator == "":
            raise UserError("TextFiles.separator must not be empty.")
        if self.separator is not None and self.field is not None:
            raise UserError("TextFiles takes a separator or a field, not both.")

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
                for number, (start, data) in enumerate(self._parts(file), start=1):
                    share = (before + position()) / total
                    try:
                        text = data.decode("utf-8")
                    except UnicodeDecodeError as error:
                        raise UserError(
                            f"{path} is not UTF-8 text: byte {start + error.start} is "
                            f"0x{data[error.start]:02x}."
                        ) from error
                    place = str(path)
                    if self.field is not None:
                        place = f"{path}, line {number}"
                        if not text.strip():
                            continue
                        text = text_of(parse_row(text, place), self.field, place)
                    elif self.separator is not None:
                        place = f"{path}, document {number}"
                    yield Document(text.strip() if self.strip else text, place, share)
            before += size

    def _parts(self, file: Any) -> Iterator[tuple[int, bytes]]:
        """The bytes of every document or line, and where they start."""
        if self.separator is None and self.field is None:
            yield 0, file.read()
            return
        separator = (self.separator or "\n").encode()
        start, rest = 0, b""
        while chunk := file.read(CHUNK_BYTES):
            *parts, rest = (rest + chunk).split(separator)
            for part in parts:
                yield start, part
                start += len(part) + len(separator)
        if rest.strip():  # what ends with a separator has no document behind it
            yield start, rest
