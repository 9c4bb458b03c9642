"""Files of a data set: where they are, and what is in them whatever they are compressed with."""

import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.suggestion import did_you_mean

Place = Path | zipfile.Path
"""A file or folder on disk or in an archive."""

_OPEN: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


def default_data_dir() -> Path:
    """Where data sets are unless told otherwise: RESEARCH_DATA_DIR, else ~/research_data."""
    return Path(os.environ.get("RESEARCH_DATA_DIR") or "~/research_data").expanduser()


def find(data_dir: Path, path: str) -> Path:
    """The existing file or folder `path`, below `data_dir` where it is relative.

    Raises UserError with the full path, and a suggestion from what is there, where it is missing.
    """
    full = data_dir.expanduser() / Path(path).expanduser()
    if full.exists():
        return full
    missing = full
    while not missing.parent.exists():
        missing = missing.parent
    if missing.parent.is_dir():
        there = [entry.name for entry in missing.parent.iterdir()]
        hint = did_you_mean(missing.name, there, listed=True)
    else:
        hint = f"; {missing.parent} is not a folder"
    where = "" if missing == full else f"; there is no {missing}"
    raise UserError(
        f"{full} does not exist{where} (data sets are looked for below --data_dir, or the "
        f"environment variable RESEARCH_DATA_DIR, here {data_dir}){hint}"
    )


def find_folder(data_dir: Path, path: str) -> Place:
    """The existing folder `path`, as of `find`; "archive.zip:folder" is one in an archive, and
    "archive.zip" all of it. Raises UserError where it is no folder, or the archive is none."""
    file, suffix, inside = f"{path}:".partition(".zip:")
    folder: Place
    if suffix:
        archive = find(data_dir, f"{file}.zip")
        inside = inside.strip("/:")
        try:
            folder = zipfile.Path(archive, f"{inside}/" if inside else "")
        except zipfile.BadZipFile as error:
            raise UserError(f"{archive} is no zip archive, or a corrupt one: {error}.") from error
    else:
        folder = find(data_dir, path)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder.")
    return folder


def file_of(place: Place) -> Path:
    """The file on disk: the archive, or the place itself."""
    return place if isinstance(place, Path) else Path(str(place.root.filename))


def natural_order(name: str) -> list[tuple[int, str]]:
    """What to sort names by so that 2 is before 10: digits by their value, the rest as text."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that it is compressed in a way `read_bytes` undoes."""
    return path.suffix in _OPEN


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[Any, Callable[[], int]]]:
    """A file opened to be read, decompressed where its name ends in .gz or .xz, and what says how
    many of the bytes on disk have been read.

    Raises UserError where it cannot be read or is truncated or corrupt.
    """
    try:
        with open(path, "rb") as raw, _OPEN.get(path.suffix, _plain)(raw, "rb") as file:
            yield file, raw.tell
    except EOFError as error:
        raise UserError(
            f"{path} is truncated: its {path.stat().st_size} bytes of {path.suffix} data end "
            "early. Fetch it again."
        ) from error
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise UserError(
            f"{path} is not valid {path.suffix} data: {error}. Fetch it again."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file. Decompresses and raises as `open_bytes`."""
    with open_bytes(path) as (file, _):
        return file.read()


def read_text(path: Path) -> str:
    """The content of a UTF-8 text file, line ends as they are; compressed files as in `read_bytes`.

    Raises UserError where it is not UTF-8, with the line and the place of the first wrong byte.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {line_of(error)} is not UTF-8 text: {wrong_byte(error)}."
        ) from error


def line_of(error: UnicodeDecodeError, encoding: str = "utf-8") -> int:
    """The line, from 1 on, in which bytes are no text in this encoding."""
    return 1 + error.object[: error.start].decode(encoding, "replace").count("\n")


def wrong_byte(error: UnicodeDecodeError, start: int = 0) -> str:
    """Which byte of a file is no text, where `start` bytes are before those that were decoded."""
    return f"byte {start + error.start} of the file is 0x{error.object[error.start]:02x}"


def _plain(file: Any, mode: str) -> Any:
    return file
