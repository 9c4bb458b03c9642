"""What an error means for the trials that met it."""

import errno
import traceback
from pathlib import Path

from research.engine.files import cannot_write, write_atomically
from research.errors import UserError, WriteError


def reason_of(error: Exception, folder: Path) -> str:
    """Why trials failed, in a line; the traceback of what is not a user's mistake goes to
    `error.txt` in their folder.

    Raises:
      WriteError: nothing can be written: another trial would fare no better, and these can go on.
    """
    if isinstance(error, WriteError):
        raise error
    # Also orbax and Optuna meet a full disk.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise cannot_write(folder, error) from error
    if isinstance(error, UserError):
        return str(error)
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "error.txt", text.encode())
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first} (traceback in {folder / 'error.txt'})"
