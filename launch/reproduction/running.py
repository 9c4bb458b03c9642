"""Makes planned runs one after another, and notes why any of them was not."""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.reproduction.child import Ended
from launch.reproduction.machine import Machine
from launch.reproduction.plan import Run, state_of
from research.command_line import MISTAKE, NON_FINITE, STOPPED
from research.engine.checkpoint_folder import list_steps
from research.engine.files import read_json, write_json

SIDECAR = "reproduce.json"
"""In a run's folder: what the run itself does not know, its seconds and its processor."""


@dataclass(frozen=True)
class Made:
    """What came of the runs: `reasons` says by folder why a run is not at its end, `failed`
    lists those that ended for no reason a user could mend."""

    runs: tuple[Run, ...]
    reasons: dict[Path, str]
    failed: tuple[str, ...]


def make_runs(
    runs: Sequence[Run],
    machine: Machine,
    start: Callable[[Run], Ended],
    over: Callable[[], str],
    say: Callable[[str], None],
    data_dir: Path,
) -> Made:
    """Makes all that are neither finished nor diverged, by `start`, until `over()` says why not.

    A config that one run was refused for is refused for its other seeds, too. Trials that
    diverge together are run again by themselves.
    """
    reasons: dict[Path, str] = {}
    refused: dict[str, str] = {}
    failed: list[str] = []
    all_runs = list(runs)
    todo = [run for run in runs if state_of(run.folder) in ("waiting", "begun")]
    reasons |= {run.folder: run.blocked for run in todo if run.blocked}
    queue = deque(run for run in todo if not run.blocked)
    total, number = len(queue), 0
    while queue:
        run = queue.popleft()
        number += 1
        reason = refused.get(run.target.name) or _lacking(run, runs, reasons) or over()
        if reason:
            reasons[run.folder] = reason
            continue
        say(f"[{number} of {total}] {run.title}: {run.command}")
        ended = start(run)
        _note_time(run.folder, ended, machine)
        state = state_of(run.folder)
        if ended.code == NON_FINITE and state == "diverged" and run.vmapped:
            place = all_runs.index(run)
            all_runs[place : place + 1] = run.apart()
            queue.extendleft(reversed(run.apart()))
            total += len(run.seeds)
        elif state not in ("finished", "diverged") or ended.code not in (0, NON_FINITE):
            reasons[run.folder] = reason_for(ended, data_dir)
            if ended.code == MISTAKE:
                refused[run.target.name] = reasons[run.folder]
            elif not ended.stopped and ended.code != STOPPED:
                failed.append(f"{run.title}: {reasons[run.folder]}")
        told = _told(run.folder, reasons.get(run.folder, ""))
        say(f"[{number} of {total}] {run.title}: {told} after {clock(ended.seconds)}")
    return Made(tuple(all_runs), reasons, tuple(failed))


def reason_for(ended: Ended, data_dir: Path) -> str:
    """Why a run did not come to its end, in a line that holds no path of this machine's data."""
    if ended.stopped:
        return ended.stopped
    lines = [line for line in ended.output.strip().splitlines() if line.strip()]
    if ended.code == MISTAKE:
        told = [line for line in lines if line.startswith("Error: ")] or lines[-1:] or ["Error"]
        message = told[-1].removeprefix("Error: ")
        missing = re.match(r"(.+?) does not exist.*data sets are looked for below", message)
        if missing:
            return f"data not found: {missing[1].removeprefix(f'{data_dir}/')}"
        return message.replace(str(data_dir), "$RESEARCH_DATA_DIR")
    if ended.code == STOPPED:
        return "stopped by somebody else"
    if ended.code < 0:
        return f"killed by signal {-ended.code}" + (" (memory?)" if ended.code == -9 else "")
    return f"failed with exit code {ended.code}: {lines[-1] if lines else 'nothing was said'}"


def clock(seconds: float) -> str:
    """Seconds as people read them: 8 s, 2:05 min, 1:02:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def progress_of(folder: Path) -> tuple[int | None, int | None]:
    """The step that a run goes on from, and its last one."""
    data = folder / "data.json"
    total = read_json(data)["total_steps"] if data.is_file() else None
    saved = list_steps(folder / "checkpoints")
    return (saved[0] if saved else 0 if total is not None else None), total


def _lacking(run: Run, runs: Sequence[Run], reasons: Mapping[Path, str]) -> str:
    """Which of the runs it needs is not finished, and why."""
    for other in runs:
        state = state_of(other.folder)
        if other.folder in dict(run.needs).values() and state != "finished":
            return f"needs {other.title}: {reasons.get(other.folder, state)}"
    return ""


def _told(folder: Path, reason: str) -> str:
    """How far a run came."""
    if not reason:
        return state_of(folder)
    step, total = progress_of(folder)
    return reason if total is None else f"{reason} at step {step} of {total}"


def _note_time(folder: Path, ended: Ended, machine: Machine) -> None:
    if not (folder / "config.json").is_file():
        return
    file = folder / SIDECAR
    before = read_json(file)["seconds"] if file.is_file() else 0.0
    note = {
        "seconds": before + ended.seconds,
        "processor": machine.processor,
        "cores": machine.cores,
    }
    write_json(file, note)
