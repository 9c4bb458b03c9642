import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from research.engine import progress as module
from research.engine.progress import Progress, table

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import time
from research.engine.progress import Progress

with Progress(100, 40) as progress:
    for step in range(41, 71):
        progress.update(step, loss=1.5, data_wait=0.02, **{"test/accuracy": 0.25})
        time.sleep(0.02)
    progress.message("a message [of] the loop")
    print("a print from elsewhere")
    raise RuntimeError("something broke")
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def plain() -> Console:
    return Console(file=StringIO(), width=40)


def run_on_terminal(program: str, columns: int) -> str:
    """What a program shows on a terminal of that width."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**environment, "TERM": "xterm-256color"},
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    shown = b""
    with suppress(OSError):  # Linux's end of a terminal
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    process.wait()
    return shown.decode()


def test_plain_lines_say_everything(clock):
    console = plain()
    with Progress(2000, console=console) as progress:
        for step in range(1, 322):
            progress.update(step, loss=2.31, data_wait=0.014, **{"test/accuracy": 0.125})
            clock.now += 1 / 16

    lines = console.file.getvalue().splitlines()
    assert lines[0] == "step 1/2000  0 %  loss 2.31  test/accuracy 0.125  data wait 1 %"
    assert lines[-1] == (
        "step 321/2000  16 %  16.0 steps/s  loss 2.31  test/accuracy 0.125  data wait 1 %  "
        "time left 1:45"
    )
    assert len(lines) == 5, "20 seconds, a line every 5"


def test_the_last_step_is_always_shown(clock):
    console = plain()
    with Progress(3, console=console) as progress:
        for step in (1, 2, 3):
            progress.update(step)
    assert [line.split()[1] for line in console.file.getvalue().splitlines()] == ["1/3", "3/3"]


def test_speed_is_that_of_this_start_and_of_late(clock):
    console = plain()
    with Progress(10_000, 1000, console=console, line_seconds=0) as progress:
        clock.now += 100  # compiling
        for step in range(1010, 1100, 10):
            progress.update(step)
            clock.now += 10
        for step in range(1100, 1500, 10):
            progress.update(step)
            clock.now += 1

    lines = console.file.getvalue().splitlines()
    assert "1.0 steps/s" in lines[5], "compiling and the steps before this start do not count"
    assert lines[5].endswith("time left 2:29:00"), "nor do they for the time left"
    assert "10.0 steps/s" in lines[-1], "the last 30 seconds count"


def test_messages_and_disabled_progress():
    console = plain()
    with Progress(10, console=console) as progress:
        progress.message("a [bold] message, longer than the forty columns of the console")
    assert console.file.getvalue() == (
        "a [bold] message, longer than the forty columns of the console\n"
    )
    console = plain()
    with Progress(10, enabled=False, console=console) as progress:
        progress.update(10, loss=1.0)
        progress.message("nothing")
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("columns", [50, 120])
def test_a_terminal_shows_a_bar_and_is_restored_after_an_exception(columns):
    shown = run_on_terminal(PROGRAM, columns)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for part in ("step 70/100", "━", "70 %", "loss 1.5", "test/accuracy 0.25", "data wait 2 %"):
        assert part in text, f"{part!r} is not in {text!r}"
    assert re.search(r"time left 0:0\d", text)
    assert "a message [of] the loop\r\n" in text
    assert "a print from elsewhere\r\n" in text
    assert "RuntimeError: something broke" in text
    hidden, visible = shown.rfind("\x1b[?25l"), shown.rfind("\x1b[?25h")
    assert -1 < hidden < visible, "the cursor stays hidden"
    for line in text.replace("\r", "\n").splitlines():
        if line.startswith("step "):
            assert len(line) <= columns, line


def test_a_log_file_has_no_control_characters_though_colours_are_forced(monkeypatch, clock):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(file=StringIO())
    assert console.is_terminal, "rich believes the variable"
    with Progress(1, console=console) as progress:
        progress.update(1, loss=1.0)
    table("Results", ["name"], [["a"]], console)
    assert "\x1b" not in console.file.getvalue()


def test_a_step_costs_microseconds():
    import timeit

    with Progress(10**9, console=plain(), line_seconds=1e9) as progress:
        once = (
            min(timeit.repeat(lambda: progress.update(1, loss=1.0), number=1000, repeat=5)) / 1000
        )
    assert once < 50e-6, f"an update takes {1e6 * once:.0f} µs; it took 1.5 on 2 cores"


def test_tables_are_aligned_plain_text_off_a_terminal():
    console = plain()
    rows = [["a [b]", 0.912345, 1], ["longer name", None, 22]]
    table("Results", ["name", "accuracy", "seed"], rows, console)
    assert console.file.getvalue() == (
        "Results\n"
        "name         accuracy  seed\n"
        "a [b]          0.9123     1\n"
        "longer name         –    22\n"
    )
