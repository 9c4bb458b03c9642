"""Supervises processes that work as one: where one dies, all are restarted."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launch.child_processes import Child, start
from launch.stop_requests import StopRequests
from research.command_line import DONE, MISTAKE, NON_FINITE, STOPPED, UNEXPECTED
from research.engine.files import GrowingFile

# What a restart does not mend.
_FINAL = (MISTAKE, NON_FINITE)
_POLL_SECONDS = 0.05
# How long the others may show that they have the same trouble, or the true one.
_SETTLE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_UNSAVED = "Stopped; the same command goes on from what was saved last."
_HEADING = "--- attempt "
_TAIL_LINES, _TAIL_BYTES = 20, 1 << 16


@dataclass(frozen=True)
class Command:
    """One process of several: what to run, with which additions to the environment, and where to
    append what it prints."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True)
class End:
    """How a process ended; a negative code is the signal that killed it. `asked` says whether it
    had been told to end."""

    process: int
    code: int
    asked: bool = False

    def __str__(self) -> str:
        if self.code >= 0:
            return f"Process {self.process} ended with exit code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f"signal {-self.code}"
        hint = ", by hand or because memory ran out" if name == "SIGKILL" else ""
        return f"Process {self.process} was killed ({name}{hint})"


def supervise(
    commands: Callable[[], Sequence[Command]],
    *,
    max_restarts: int = 3,
    grace: float = 30.0,
    progress: Callable[[], int] = lambda: 0,
) -> int:
    """Runs commands side by side until all have ended well; returns an exit code.

    Where one dies, the others get SIGTERM, after `grace` seconds SIGKILL, and all are started
    again, from what `commands()` then gives: at most `max_restarts` times in which `progress()`
    has not grown. What the first one prints is also printed here. SIGTERM, SIGHUP or Ctrl-C is
    passed on once, for all to save and stop; the second kills them.

    Returns:
      DONE; MISTAKE or NON_FINITE where a process ended so, for a restart does not mend it;
      STOPPED where the processes were told to stop; UNEXPECTED where restarts did not help.

    Raises:
      UserError: a log cannot be written.
    """
    reached, used, attempt = progress(), 0, 1
    with StopRequests() as stop:
        while True:
            team = commands()
            ends = _run(team, attempt, grace, stop)
            codes = {end.code for end in ends}
            first = _culprit(ends)
            if codes == {DONE}:
                return DONE
            if first.code in _FINAL:
                _show_tail(first, team, ends)
                return first.code
            if stop.count or codes <= {DONE, STOPPED}:
                if not codes <= {DONE, STOPPED}:  # else they have said so themselves
                    _say(_UNSAVED)
                return STOPPED
            _say(f"\n{first}.")
            _show_tail(first, team, ends)
            now = progress()
            if now > reached:
                reached, used = now, 0
            if used == max_restarts:
                _say(f"Given up: restarted {used} times without getting further than before.")
                return UNEXPECTED
            used, attempt = used + 1, attempt + 1
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** (used - 1), _LONGEST_PAUSE_SECONDS)
            _say(
                f"All are restarted in {pause:g} s; restart {used} of at most {max_restarts} until "
                "one gets further."
            )
            if not stop.sleep(pause):
                _say(_UNSAVED)
                return STOPPED


def _run(commands: Sequence[Command], attempt: int, grace: float, stop: StopRequests) -> list[End]:
    """Starts all and waits for all; those that ended by themselves come first, in their order."""
    children: list[Child] = []
    try:
        for index, command in enumerate(commands):
            started = datetime.now(UTC).isoformat(timespec="seconds")
            log = GrowingFile(command.log)
            log.append(f"{_HEADING}{attempt}, {started} ---\n".encode())
            log.close()
            children.append(
                start(command.arguments, command.environment, command.log, echo=index == 0)
            )
        return _watch(children, grace, stop)
    finally:
        for child in children:
            child.kill()


def _watch(children: Sequence[Child], grace: float, stop: StopRequests) -> list[End]:
    """Waits for all; once one has died it has the others end."""
    ends: list[End] = []
    died: float | None = None
    terminated = False
    while True:
        ends += _new_ends(children, ends, terminated)
        if len(ends) == len(children):
            return ends
        now = time.monotonic()
        if died is None and any(end.code not in (DONE, STOPPED) for end in ends):
            died = now
        late = died is not None and now - died > _SETTLE_SECONDS + grace
        if late or stop.count > 1:
            if stop.count > 1:
                _say("Killing all.")
            for child in children:
                child.kill()
            return ends + _new_ends(children, ends, asked=True)
        if not terminated and (stop.count or (died and now - died > _SETTLE_SECONDS)):
            terminated = True
            if stop.count:
                _say("Stopping: the processes save first; once more to kill them.")
            for child in children:
                child.terminate()
        time.sleep(_POLL_SECONDS)


def _new_ends(children: Sequence[Child], known: Sequence[End], asked: bool) -> list[End]:
    seen = {end.process for end in known}
    codes = [(index, child.poll()) for index, child in enumerate(children) if index not in seen]
    found = [End(index, code, asked) for index, code in codes if code is not None]
    # Of several at once, those that fail because another is gone come last.
    return sorted(found, key=lambda end: (end.code == -signal.SIGABRT, end.code == UNEXPECTED))


def _culprit(ends: Sequence[End]) -> End:
    """The one to blame: the first to die by itself. Its trouble may come from another that says
    what a restart does not mend; but where it was killed, it is the others' that comes from it."""
    died = [end for end in ends if end.code not in (DONE, STOPPED)]
    own = [end for end in died if not end.asked] or died or list(ends)
    if own[0].code < 0 and own[0].code != -signal.SIGABRT:
        return own[0]
    return next((end for end in own if end.code in _FINAL), own[0])


def _show_tail(end: End, commands: Sequence[Command], ends: Sequence[End]) -> None:
    """Prints the end of its log, where the first process has not printed the same."""
    told = any(other.process == 0 and other.code == end.code for other in ends)
    if end.process == 0 or (end.code in _FINAL and told):
        return
    log = commands[end.process].log
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
        lines = text.rpartition(_HEADING)[2].splitlines()[1:]
        _say(f"The end of {log}:\n" + "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]))


def _say(text: str) -> None:
    # The terminal may be gone, and this goes on.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
