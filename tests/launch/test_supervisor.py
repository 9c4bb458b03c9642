"""Real processes that really die; what they do takes no time."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from launch.supervisor import Command, supervise
from tests import processes
from tests.launch.children import ON_LINUX, gone

# Each begins by noting that it was started.
START = """
import os, signal, sys, time
from pathlib import Path

with open(f"{__file__}.starts", "a") as file:
    print(os.getpid(), file=file)
starts = len(Path(f"{__file__}.starts").read_text().split())
"""
WAIT = "time.sleep(60)"
SAVE = """
def save(*_):
    print("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
Path(f"{__file__}.ready").touch()
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nPath(f'{__file__}.ready').touch()\n" + WAIT


def team(folder: Path, *programs: str) -> Callable[[], Sequence[Command]]:
    """A process of each program."""
    for index, program in enumerate(programs):
        (folder / f"{index}.py").write_text(START + program)
    return lambda: [
        Command(
            (sys.executable, "-I", "-S", str(folder / f"{index}.py")), {}, folder / f"{index}.log"
        )
        for index in range(len(programs))
    ]


def pids(folder: Path, index: int) -> list[int]:
    """The process of every attempt."""
    return [int(line) for line in (folder / f"{index}.py.starts").read_text().split()]


def test_output_of_the_first_is_shown_and_that_of_all_is_kept(tmp_path, capfd):
    programs = ["print('zero')", "print('one', file=sys.stderr)"]
    assert supervise(team(tmp_path, *programs)) == 0
    assert capfd.readouterr() == ("zero\n", "")
    for index, said in enumerate(["zero", "one"]):
        heading, text = (tmp_path / f"{index}.log").read_text().splitlines()
        assert heading.startswith("--- attempt 1, 2") and text == said


def test_one_is_killed_and_all_begin_again(tmp_path, capfd):
    kill_itself = "print('farewell', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    dies = f"if starts == 1: {kill_itself}"
    deaf = "if starts == 1:\n  " + DEAF.replace("\n", "\n  ")
    asked = f"if starts == 1: {WAIT}"
    assert supervise(team(tmp_path, deaf, asked, dies), grace=0.5) == 0
    said = capfd.readouterr().err
    assert "Process 2 was killed (SIGKILL" in said
    assert f"The end of {tmp_path / '2.log'}:\n  farewell\n" in said
    assert said.count("Process") == said.count("restarted") == 1
    for index in range(3):
        first, second = pids(tmp_path, index)
        assert gone(first, 0.1) and gone(second, 0.1)
        assert "--- attempt 2, " in (tmp_path / f"{index}.log").read_text()


def test_a_crash_that_comes_again_ends_soon(tmp_path, capfd):
    began = time.monotonic()
    assert supervise(team(tmp_path, "sys.exit(7)"), max_restarts=2) == 1
    assert len(pids(tmp_path, 0)) == 3
    assert time.monotonic() - began > 0.5 + 1, "pauses double"
    said = capfd.readouterr().err
    assert "Process 0 ended with exit code 7." in said
    assert "Given up: restarted 2 times" in said
    assert supervise(team(tmp_path, "sys.exit(7)"), max_restarts=0) == 1
    assert len(pids(tmp_path, 0)) == 4


def test_getting_further_renews_the_restarts(tmp_path):
    def progress() -> int:
        """Grows by one at each of the first three attempts."""
        path = tmp_path / "0.py.starts"
        return min(3, len(path.read_text().split())) if path.exists() else 0

    failing = team(tmp_path, "sys.exit(1)")
    assert supervise(failing, max_restarts=1, progress=progress) == 1
    assert len(pids(tmp_path, 0)) == 4


@pytest.mark.parametrize("code", [2, 3])
@pytest.mark.parametrize("who", ["first", "second", "both"])
def test_what_a_restart_does_not_mend_is_said_once(tmp_path, capfd, code, who):
    fails = f"print('Error: amiss', file=sys.stderr); sys.exit({code})"
    programs = {"first": (fails, WAIT), "second": (WAIT, fails), "both": (fails, fails)}[who]
    assert supervise(team(tmp_path, *programs)) == code
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count("Error: amiss") == 1
    assert all(len(pids(tmp_path, index)) == 1 for index in range(2))


def test_a_mistake_comes_before_what_it_causes(tmp_path):
    programs = ["time.sleep(0.4); sys.exit(2)", "sys.exit(1)"]
    assert supervise(team(tmp_path, *programs)) == 2


@pytest.mark.parametrize(
    "follows",
    [
        "time.sleep(0.4); sys.exit(2)",  # as a checkpoint fails that the other was writing, too
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(2)); {WAIT}",
    ],
)
def test_a_mistake_that_comes_of_another_being_killed_is_none(tmp_path, follows):
    killed = "if starts == 1: time.sleep(0.2); os.kill(os.getpid(), signal.SIGKILL)"
    assert supervise(team(tmp_path, f"if starts == 1: {follows}", killed)) == 0
    assert all(len(pids(tmp_path, index)) == 2 for index in range(2))


def test_the_first_to_die_is_to_blame(tmp_path, capfd):
    follows = f"""
while not Path("{tmp_path}/1.py.starts").exists() or not Path("{tmp_path}/died").exists():
    time.sleep(0.001)
os.abort()
"""
    # Both may be gone when the supervisor next looks.
    leads = f"Path('{tmp_path}/died').touch(); os._exit(9)"
    assert supervise(team(tmp_path, follows, leads), max_restarts=0) == 1
    said = capfd.readouterr().err
    assert "Process 1 ended with exit code 9" in said and "Process 0" not in said


def test_stopped_by_somebody_else(tmp_path, capfd):
    programs = ["sys.exit(75)", "time.sleep(0.3); sys.exit(75)", "pass"]
    assert supervise(team(tmp_path, *programs)) == 75
    assert all(len(pids(tmp_path, index)) == 1 for index in range(3))
    assert "restart" not in capfd.readouterr().err


def supervise_alone(folder: str, programs: Sequence[str], grace: float) -> None:
    sys.exit(supervise(team(Path(folder), *programs), grace=grace))


def supervised(folder: Path, *programs: str, grace: float = 30) -> processes.Process:
    """A supervisor in a process of its own, whose processes are ready."""
    started = processes.start(supervise_alone, str(folder), programs, grace)
    end = time.monotonic() + 60
    while len(list(folder.glob("*.ready"))) < len(programs):
        assert started.running and time.monotonic() < end, "the processes don't start"
        time.sleep(0.01)
    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_all_save_and_stop(tmp_path, number):
    supervisor = supervised(tmp_path, *[SAVE + WAIT] * 2)
    try:
        supervisor.send_signal(number)
        code, text = supervisor.wait()
    finally:
        supervisor.kill()
    assert code == 75, text
    assert "Stopping" in text and "restart" not in text
    for index in range(2):
        assert (tmp_path / f"{index}.log").read_text().count("saved") == 1
        assert len(pids(tmp_path, index)) == 1


def test_a_second_signal_kills(tmp_path):
    supervisor = supervised(tmp_path, DEAF, DEAF)
    try:
        children = [pid for index in range(2) for pid in pids(tmp_path, index)]
        supervisor.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert not any(gone(pid, 0.01) for pid in children)
        supervisor.send_signal(signal.SIGINT)
        code, text = supervisor.wait(10)
    finally:
        supervisor.kill()
    assert code == 75 and "goes on from what was saved last" in text
    assert all(gone(pid) for pid in children)


def test_one_that_dies_while_stopping_takes_the_others_along(tmp_path):
    crashes = SAVE.replace("sys.exit(75)", "sys.exit(1)") + WAIT
    supervisor = supervised(tmp_path, crashes, DEAF, grace=0.2)
    try:
        supervisor.send_signal(signal.SIGTERM)
        code, text = supervisor.wait(20)
    finally:
        supervisor.kill()
    assert code == 75 and "restart" not in text, text


def test_stop_while_waiting_to_restart(tmp_path):
    program = "Path(f'{__file__}.ready').touch(); sys.exit(1)"
    supervisor = supervised(tmp_path, program)
    try:
        while "restart 2" not in supervisor.log.read_text():  # which begins in a second
            assert supervisor.running
            time.sleep(0.01)
        supervisor.send_signal(signal.SIGTERM)
        code, text = supervisor.wait()
    finally:
        supervisor.kill()
    assert code == 75, text
    assert len(pids(tmp_path, 0)) == 2


@ON_LINUX
def test_a_supervisor_that_is_killed_leaves_nothing_behind(tmp_path):
    supervisor = supervised(tmp_path, DEAF, DEAF)
    children = [child.pid for child in psutil.Process(supervisor.pid).children(recursive=True)]
    supervisor.kill()
    assert sorted(children) == sorted(pid for index in range(2) for pid in pids(tmp_path, index))
    assert all(gone(pid) for pid in children), "processes outlive their supervisor"
