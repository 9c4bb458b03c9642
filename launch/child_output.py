"""What a child prints: to this process's output as it is, and to a log as plain text."""

import os
import pty
import re
import termios
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import final

from research.engine.files import cannot_write

_SHOW_CURSOR, _ERASE_LINE = b"\x1b[?25h", b"\x1b[2K"
_OUTPUT_MODES = 1  # in the list of tcgetattr
# A control sequence, the begin of one at the end of what was read so far, or what is none.
_PIECE = re.compile(rb"\x1b\[[0-9;?]*([@-~])|\x1b\[?[0-9;?]*\Z|\r|\n|[^\x1b\r\n]+|\x1b")


def open_log(path: Path) -> FileIO:
    """A log to append to. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(path, "a")
    except OSError as error:
        raise cannot_write(path, error) from error


def open_output(log: FileIO) -> "tuple[int, Copier]":
    """A descriptor for a child to print to, and what copies from there to standard output and
    into the log. It is a terminal where standard output is one."""
    if not os.isatty(1):
        reading, writing = os.pipe()
        return writing, Copier(reading, os.dup(log.fileno()), is_terminal=False)
    reading, writing = pty.openpty()
    modes = termios.tcgetattr(writing)
    modes[_OUTPUT_MODES] &= ~termios.OPOST  # the terminal itself turns \n into \r\n
    termios.tcsetattr(writing, termios.TCSANOW, modes)
    return writing, Copier(reading, os.dup(log.fileno()), is_terminal=True)


@final
class Copier:
    """Copies until every process that has the other end closes it; owns both descriptors."""

    def __init__(self, reading: int, log: int, *, is_terminal: bool):
        self._reading = reading
        self._log = log
        self._plain = PlainText() if is_terminal else None
        self._fit()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until all is copied, once those who print have ended."""
        self._thread.join(timeout=10)

    def _copy(self) -> None:
        last = b"\n"
        # The other end of a terminal is not closed but gone.
        with suppress(OSError):
            while data := os.read(self._reading, 1 << 16):
                last = data[-1:]
                self._fit()
                _write(1, data)
                _write(self._log, self._plain.feed(data) if self._plain else data)
        if self._plain:
            # Killed while it drew a bar, it leaves the cursor hidden and in the middle of a line.
            _write(1, _SHOW_CURSOR + (b"" if last == b"\n" else b"\n"))
            _write(self._log, self._plain.finish())
        os.close(self._reading)
        os.close(self._log)

    def _fit(self) -> None:
        """Gives the child's terminal the size of this one, which may change at any time."""
        if self._plain:
            with suppress(OSError, termios.error):
                size = termios.tcgetwinsize(1)
                if termios.tcgetwinsize(self._reading) != size:
                    termios.tcsetwinsize(self._reading, size)


@final
class PlainText:
    """Turns what is drawn on a terminal into the lines that stay there: no colours, and of a
    progress bar its last state."""

    _HEIGHT = 4  # of what may be drawn anew; older lines are given away

    def __init__(self) -> None:
        self._lines = [b""]
        self._returned = False
        self._cut = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that are certain by now."""
        data, self._cut = self._cut + data, b""
        for match in _PIECE.finditer(data):
            piece, command = match[0], match[1]
            if command == b"A":
                up = int(piece[2:-1] or b"1")
                del self._lines[max(1, len(self._lines) - up) :]
            elif command == b"K" and (self._returned or piece == _ERASE_LINE):
                self._lines[-1] = b""
            elif piece[:1] == b"\x1b":
                self._cut = piece if command is None and match.end() == len(data) else b""
            elif piece == b"\r":
                self._returned = True
            else:
                if piece == b"\n":
                    self._lines.append(b"")
                else:
                    self._lines[-1] = piece if self._returned else self._lines[-1] + piece
                self._returned = False
        ready, self._lines = self._lines[: -self._HEIGHT], self._lines[-self._HEIGHT :]
        return b"".join(line + b"\n" for line in ready)

    def finish(self) -> bytes:
        """The lines that are left."""
        lines, self._lines = self._lines, [b""]
        text = b"\n".join(lines)
        return text if not text or text.endswith(b"\n") else text + b"\n"


def _write(descriptor: int, data: bytes) -> None:
    """Writes all; a reader that is gone or a full disk must not stop the one who prints."""
    with suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
