"""Optuna's journal file, for processes that may be killed and disks that may be full."""

import fcntl
import os
from pathlib import Path
from typing import Any, final

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from research.engine.files import cannot_write


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file, which is made where there is none. Raises WriteError."""
    lock: Any = _KernelLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path), lock))
    except OSError as error:
        raise cannot_write(path, error) from error


@final
class _KernelLock:
    """Keeps a journal to one writer, as Optuna's own locks do. The kernel releases it with the
    process that has it; Optuna's would keep the others waiting for half a minute.

    A line that is not whole, of a writer that was killed or had no space left, is taken back
    before another is written behind it, which would make the journal unreadable.
    """

    def __init__(self, path: Path):
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        _take_back_half_a_line(descriptor)
        return True

    def release(self) -> None:
        """Lets another writer have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _take_back_half_a_line(descriptor: int) -> None:
    end = os.fstat(descriptor).st_size
    if end == 0 or os.pread(descriptor, 1, end - 1) == b"\n":
        return
    block = 1 << 12
    start = end
    while start > 0:
        start = max(0, start - block)
        newline = os.pread(descriptor, min(block, end - start), start).rfind(b"\n")
        if newline >= 0:
            os.ftruncate(descriptor, start + newline + 1)
            return
    os.ftruncate(descriptor, 0)
