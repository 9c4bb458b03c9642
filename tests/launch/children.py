"""Small programs as children, and whether a process has ended."""

import sys
import time

import psutil
import pytest

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills orphans")


def python(code: str, *arguments: str) -> tuple[str, ...]:
    """A command that starts in no time."""
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


SLEEP = python("import time; time.sleep(60)")


def gone(pid: int, seconds: float = 30) -> bool:
    """Whether the process has ended by then, though nobody may have waited for it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False
