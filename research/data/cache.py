"""Decode once: arrays kept as memory-mapped files between runs.

An entry is a folder of .npy files and a manifest of their sizes, written beside its final place
and renamed as the last act, so a half-written or truncated entry is never used. The cache may be
deleted at any time. Files are written rather than mapped for writing: a full disk is then an error
that can be handled, not a bus error.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from research.errors import UserError

VERSION = 1
# Smaller files are decoded anew each time.
CACHE_FROM_BYTES = 1_000_000
MANIFEST = "manifest.json"
STALE_SECONDS = 24 * 3600.0

# Rows of every array, in order; all pieces of a name have one dtype and one shape after the first
# axis.
Pieces = Iterable[Mapping[str, np.ndarray]]

logger = logging.getLogger(__name__)


def worth_keeping(files: Iterable[Path]) -> bool:
    """Whether files are so large that what is decoded from them should be kept."""
    return sum(file.stat().st_size for file in files) > CACHE_FROM_BYTES


def cache_dir() -> Path:
    """Where decoded data is kept: RESEARCH_CACHE_DIR, else ~/.cache/research."""
    return Path(os.environ.get("RESEARCH_CACHE_DIR") or "~/.cache/research").expanduser()


def decode_once(
    files: Sequence[Path],
    settings: str,
    decode: Callable[[], Pieces],
    keep: bool = True,
    in_memory: bool = True,
) -> dict[str, np.ndarray]:
    """The arrays that `decode` makes of the files, memory-mapped from the cache if they are there.

    `decode` yields pieces that follow each other along the first axis; only one piece at a time
    need be in memory. `settings` says all that the arrays depend on beside the files' content;
    a file counts as changed when its path, size or modification time does. Where the cache cannot
    be written, the arrays are decoded into memory, with a warning; with `keep` off, always. With
    `in_memory` off they may be too large for that: raises UserError instead.
    """
    if not keep:
        return _in_memory(decode())
    folder = cache_dir() / "decoded" / _key(files, settings)
    arrays = _load(folder)
    if arrays is not None:
        return arrays
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex}")
    logger.info("Decoding %s once into %s.", files[0] if files else settings, folder)
    try:
        _remove_stale(folder)
        try:
            _write(partial, decode())
            arrays = _load(partial)
            _publish(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = f"Cannot keep decoded data in {folder.parent} ({error})"
        remedy = "Set RESEARCH_CACHE_DIR to a folder with space to spare."
        if arrays is None and not in_memory:
            raise UserError(f"{reason}. {remedy}") from error
        logger.warning("%s; decoding into memory. %s", reason, remedy)
    return arrays if arrays is not None else _in_memory(decode())


def _key(files: Sequence[Path], settings: str) -> str:
    def identity(path: Path) -> tuple[str, int, int]:
        stat = path.stat()
        return str(path.resolve()), stat.st_size, stat.st_mtime_ns

    content = json.dumps([VERSION, settings, [identity(path) for path in files]])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _in_memory(pieces: Pieces) -> dict[str, np.ndarray]:
    """The pieces joined along the first axis."""
    by_name: dict[str, list[np.ndarray]] = {}
    for piece in pieces:
        for name, rows in piece.items():
            by_name.setdefault(name, []).append(rows)
    return {
        name: rows[0] if len(rows) == 1 else np.concatenate(rows) for name, rows in by_name.items()
    }


def _load(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a complete entry; None where it is missing, half-written or truncated."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
        arrays = {}
        for name, size in sizes.items():
            path = folder / f"{name}.npy"
            if path.stat().st_size != size:
                return None
            # A plain view: indexing a np.memmap costs more, and the view keeps the map alive.
            arrays[name] = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, AttributeError):
        return None
    return arrays


def _write(folder: Path, pieces: Pieces) -> None:
    folder.mkdir(parents=True)
    files: dict[str, BinaryIO] = {}
    dtypes: dict[str, np.dtype] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as stack:
        for piece in pieces:
            for name, rows in piece.items():
                if name not in files:
                    files[name] = stack.enter_context(open(folder / f"{name}.npy", "wb"))
                    dtypes[name], shapes[name] = rows.dtype, (0, *rows.shape[1:])
                    _write_header(files[name], dtypes[name], shapes[name])
                if rows.dtype != dtypes[name] or rows.shape[1:] != shapes[name][1:]:
                    raise ValueError(
                        f"Pieces of {name!r} differ: {dtypes[name]} {shapes[name][1:]} and "
                        f"{rows.dtype} {rows.shape[1:]}."
                    )
                files[name].write(np.ascontiguousarray(rows).data)
                shapes[name] = (shapes[name][0] + len(rows), *rows.shape[1:])
        sizes = {}
        for name, file in files.items():
            sizes[name] = file.tell()
            file.seek(0)
            _write_header(file, dtypes[name], shapes[name])
            file.flush()
            os.fsync(file.fileno())
    (folder / MANIFEST).write_text(json.dumps(sizes))


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    # NumPy pads the header so that it keeps its length while the first axis grows.
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _publish(partial: Path, folder: Path) -> None:
    """Renames a written entry into its place, unless a good one has come there meanwhile.

    The arrays loaded from `partial` stay valid whatever becomes of its name.
    """
    if folder.exists() and _load(folder) is None:
        broken = partial.with_name(f"{partial.name}-broken")
        with suppress(FileNotFoundError):
            os.rename(folder, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(partial, folder)
    except OSError:
        if _load(folder) is None:
            raise


def _remove_stale(folder: Path) -> None:
    """Removes what processes that were killed while making this entry left behind."""
    for partial in folder.parent.glob(f"{folder.name}.partial-*"):
        with suppress(FileNotFoundError):
            newest = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
            if time.time() - newest > STALE_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
