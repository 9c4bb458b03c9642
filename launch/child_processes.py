"""Child processes that end when their parent does, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

from launch.child_output import Copier, open_log, open_output

# Runs in the child before its command and as the same process: a function that subprocess calls
# after forking could deadlock where the parent has threads.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
parent, *command = sys.argv[1:]
if os.getppid() == int(parent):
    os.execvp(command[0], command)
"""


@final
class Child:
    """A command that was started; see `start`."""

    def __init__(self, process: subprocess.Popen[bytes], copier: Copier | None):
        self._process = process
        self._copier = copier
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """The command's own process, which leads a group of all that it starts."""
        return self._process.pid

    def poll(self) -> int | None:
        """How it ended, the number of a signal that killed it as a negative; None if it has not.

        Once it has, whatever it started and left behind is killed, and its log is complete.
        """
        if self._code is None:
            code = self._process.poll()
            if code is not None:
                self._kill_group()
                if self._copier is not None:
                    self._copier.finish()
                self._code = code
        return self._code

    def terminate(self) -> None:
        """Asks it to end (SIGTERM); what it started is its own to end."""
        if self.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """Ends it and all that it started (SIGKILL), and waits for it."""
        if self.poll() is None:
            self._kill_group()
            self._process.wait()
            self.poll()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, echo: bool = False
) -> Child:
    """Starts a command, with additions to this process's environment.

    What it prints is appended to the log and, with `echo`, goes to this process's output, too; on
    a terminal it takes that for its own and may draw a progress bar. It is in a session of its
    own, so that a terminal's Ctrl-C does not reach it. On Linux it is killed when the thread that
    called this ends, be it by SIGKILL; elsewhere it outlives a parent that was killed.

    Raises:
      UserError: the log cannot be written.
    """
    if sys.platform == "linux":
        alone = (sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid()))
        command = (*alone, *command)
    with open_log(log) as file:
        output, copier = open_output(file) if echo else (os.dup(file.fileno()), None)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            # The copier reads until nobody has the other end open.
            os.close(output)
    return Child(process, copier)
