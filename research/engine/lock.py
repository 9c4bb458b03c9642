"""One process at a time in a run's folder."""

import errno
import fcntl
import json
import os
import socket
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, final

from research.engine.files import cannot_write, encode_json, write_all
from research.errors import UserError


class InUseError(UserError):
    """Another process holds the lock of a run's folder."""


@final
class WorkdirLock:
    """Keeps every other process out of a run's folder while entered.

    The kernel releases it when the process ends, however it ends. Raises InUseError naming the
    holder where there is one.
    """

    def __init__(self, workdir: Path):
        self._path = Path(workdir) / ".lock"
        self._descriptor: int | None = None
        # A forked data worker shares the lock and would keep it when this process is killed.
        os.register_at_fork(after_in_child=self._close)

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock(self._descriptor)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
            os.ftruncate(self._descriptor, 0)
            write_all(self._descriptor, encode_json(holder).encode())
        except OSError as error:
            self._close()
            raise cannot_write(self._path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                holder = json.loads(os.pread(descriptor, 4096, 0))
                who = f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
            except (ValueError, KeyError, TypeError):
                who = "another process"
            self._close()
            raise InUseError(
                f"{self._path.parent} is in use by {who}. Wait for it, end it, or choose another "
                "folder."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            warnings.warn(
                f"{self._path.parent}: its file system has no locks; make sure that no other run "
                "uses this folder",
                stacklevel=3,
            )

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
