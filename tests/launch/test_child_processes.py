"""Children are started, logged and ended, with all that they started."""

import io
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from launch.child_output import PlainText
from launch.child_processes import Child, start
from research.engine.progress import Progress
from research.errors import UserError
from tests import processes
from tests.launch.children import ON_LINUX, SLEEP, gone, python

HAVE_A_CHILD = python(
    "import subprocess, sys, time\n"
    "child = subprocess.Popen(sys.argv[1:])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n",
    *SLEEP,
)


def read(log: Path, seconds: float = 30) -> str:
    """What is in the log once anything is."""
    end = time.monotonic() + seconds
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < end, f"nothing in {log}"
        time.sleep(0.01)
    return log.read_text()


def ended(child: Child) -> int:
    end = time.monotonic() + 30
    while (code := child.poll()) is None:
        assert time.monotonic() < end, "the child does not end"
        time.sleep(0.01)
    return code


@pytest.mark.parametrize("echo", [False, True])
def test_a_child_appends_to_its_log(tmp_path, capfd, echo):
    code = "import os, sys; print(os.environ['GIVEN'], len(os.environ) > 1); sys.exit('oh')"
    log = tmp_path / "logs" / "one.log"
    for _ in range(2):
        child = start(python(code), {"GIVEN": "this"}, log, echo=echo)
        assert ended(child) == 1
    printed = capfd.readouterr().out
    for text in (log.read_text(), printed) if echo else (log.read_text(),):
        assert text.count("this True\n") == text.count("oh\n") == 2
    if not echo:
        assert printed == ""


def test_a_child_is_no_part_of_what_the_terminal_interrupts(tmp_path):
    child = start(SLEEP, {}, tmp_path / "log")
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        assert child.poll() is None
        child.terminate()
        assert ended(child) == -signal.SIGTERM
    finally:
        child.kill()


@pytest.mark.parametrize("ending", ["killed", "died"])
def test_what_a_child_started_ends_with_it(tmp_path, ending):
    child = start(HAVE_A_CHILD, {}, tmp_path / "log")
    try:
        grandchild = int(read(tmp_path / "log"))
        assert not gone(grandchild, seconds=0.1)
        if ending == "died":
            os.kill(child.pid, signal.SIGKILL)
            assert ended(child) == -signal.SIGKILL
    finally:
        child.kill()
    assert gone(grandchild)
    child.kill()  # has nothing left to do


def start_one(log: str) -> None:
    start(python(f"print('here', flush=True); {SLEEP[-1]}"), {}, Path(log))
    time.sleep(60)


@ON_LINUX
def test_children_end_with_a_parent_that_was_killed(tmp_path):
    log = tmp_path / "log"
    parent = processes.start(start_one, str(log))
    try:
        read(log)
        (child,) = psutil.Process(parent.pid).children()
        assert not gone(child.pid, 0.1)
    finally:
        parent.kill()
    assert gone(child.pid), "it outlives its parent"


def test_a_log_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        start(SLEEP, {}, tmp_path / "file" / "log")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a progress bar with messages writes to a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    console = Console(file=file, force_terminal=True, width=80)
    print("before ×", file=file)
    with Progress(3, console=console) as bar:
        for step in range(1, 4):
            bar.update(step, loss=1 / step)
            bar.message(f"message {step}")
            time.sleep(0.3)
    print("after", file=file)
    return file.getvalue().encode()


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_the_log_of_a_progress_bar_is_plain_and_short(monkeypatch, size):
    data, plain = drawn(monkeypatch), PlainText()
    assert data.count(b"\x1b") > 20, "no bar was drawn"
    parts = [plain.feed(data[start : start + size]) for start in range(0, len(data), size)]
    lines = (b"".join(parts) + plain.finish()).decode().splitlines()
    assert lines[:4] == ["before ×", "message 1", "message 2", "message 3"]
    assert lines[4].startswith("step 3/3 ") and lines[4].endswith("100 %")
    assert lines[5].startswith("loss 0.3333")
    assert lines[6:] == ["after"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"one\r\ntwo", b"one\ntwo\n"),
        (b"10 %\r20 %\r\x1b[32m30 %\x1b[0m\n", b"30 %\n"),
        (b"kept\x1b[K\nold\x1b[2Knew\n", b"kept\nnew\n"),
        (b"a\nb\nc\x1b[2A\x1b[2Kd\n", b"d\n"),
        (b"a\x1b[9A\x1b", b"a\n"),
    ],
)
def test_plain_text(data, expected):
    plain = PlainText()
    assert plain.feed(data) + plain.finish() == expected
