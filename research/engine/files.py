"""Files written whole or not at all, as strict JSON where they are JSON."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from research.errors import UserError, WriteError


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file by `data`, or leaves it as it was; raises UserError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Appends all of `data` or nothing; raises OSError."""
    size = os.fstat(descriptor).st_size
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def cannot_write(path: Path, error: OSError) -> WriteError:
    """The error to raise where a file of a run could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fix = "Free some space there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "Make the folder writable"
    else:
        fix = "Check the folder"
    return WriteError(
        f"cannot write {path}: {error.strerror}. {fix}, or choose another folder; a run that "
        "has checkpoints goes on from the last one."
    )


def check_space(folder: Path, size: int) -> None:
    """Raises UserError where less than `size` bytes are left on a folder's disk."""
    usage = shutil.disk_usage(folder)
    if usage.free < size and usage.total:  # some network file systems tell nothing but zeros
        told = f"no space left ({usage.free / 1e6:.1f} MB free, {size / 1e6:.1f} MB needed)"
        raise cannot_write(folder, OSError(errno.ENOSPC, told))


@final
class GrowingFile:
    """A file that is only appended to, opened by its first line.

    Every method raises UserError where it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = None

    def append(self, data: bytes) -> None:
        """Appends all of `data`, or takes back what of it was written."""
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._descriptor = os.open(self.path, flags, 0o644)
            write_all(self._descriptor, data)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Makes what was appended survive a power cut."""
        if self._descriptor is not None:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Closes the file; whatever is appended later opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def encode_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON, with NaN and infinities, for which JSON has no numbers, as strings."""
    return json.dumps(_strict(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file atomically; NaN and infinities become strings. Raises UserError."""
    write_atomically(path, encode_json(value, indent=2).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """A file that `write_json` wrote. Raises UserError where it is missing or damaged."""
    try:
        return _with_floats(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise _no_run(path) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def read_rows(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Rows of a file of JSON lines, each with its bytes; a last line that is not whole is left
    out. Raises UserError where the file is missing or another line damaged."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise _no_run(path) from None
    for number, line in enumerate(lines, 1):
        try:
            row = _with_floats(json.loads(line))
            row["step"], whole = int(row["step"]), line.endswith(b"\n")
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            yield row, line
        elif number < len(lines):
            raise UserError(f"{path}, line {number} is damaged: remove it to go on")


def _no_run(path: Path) -> UserError:
    return UserError(f"{path} does not exist: is {path.parent} the folder of a run?")


def _strict(value: Any) -> Any:
    """Plain JSON values: NaN, Infinity and -Infinity as strings."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _strict(np.asarray(value).tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _with_floats(value: Any) -> Any:
    """The inverse of `_strict` for its strings."""
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
