"""Keeps workers at a sweep until no trial is left, whatever runs them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launch.stop_requests import StopRequests
from launch.sweeps.study import Study
from research.command_line import MISTAKE
from research.errors import UserError

MAX_LOST = 4
"""So many workers may be lost, for each that is wanted, without any trial ending meanwhile."""


@dataclass(frozen=True)
class Ended:
    """A worker that has ended: how, in words, its exit code where that is known, and where it
    printed. It is lost where it ended otherwise than by finding nothing left to do."""

    how: str
    code: int | None
    lost: bool
    log: Path


class Workers(Protocol):
    """Processes or jobs of which each runs one trial after the other."""

    look_seconds: float
    """How often to look after them."""

    def begin(self, count: int) -> None:
        """Starts so many more."""

    def at_work(self) -> int:
        """How many there are that were not seen to have ended."""

    def ended(self) -> Sequence[Ended]:
        """Those that have ended since the last call."""

    def stop(self, stop: StopRequests) -> None:
        """Has all save and end, and waits for that until somebody asks once more."""

    def kill(self) -> None:
        """Ends those that are left."""


def keep_at_work(
    study: Study, workers: Workers, num_workers: int, show: Callable[[], None]
) -> bool:
    """Keeps so many workers until all trials have ended; False where SIGTERM or Ctrl-C stopped
    them first, after saving.

    A worker that was killed is replaced by another, which goes on with its trial.

    Raises:
      UserError: a worker met a mistake that another would meet as well, or they keep ending.
    """
    left, lost, told = study.unfinished(), 0, ""
    with StopRequests() as stop:
        try:
            # More workers than trials would find nothing to do.
            workers.begin(min(left, num_workers))
            while left:
                stop.sleep(workers.look_seconds)
                show()
                if stop.count:
                    print("\nStopping: the trials save first.", file=sys.stderr, flush=True)
                    workers.stop(stop)
                    return False
                before, left = left, study.unfinished()
                lost = lost if left == before else 0
                for end in workers.ended():
                    told = f"{end.how}; the end of {end.log}:\n{_last_lines(end.log)}"
                    if end.code == MISTAKE:
                        raise UserError(told)
                    if end.lost and left:
                        print(f"{end.how}; another takes its place.", flush=True)
                        lost += 1
                        workers.begin(1)
                if left and not workers.at_work():
                    # All found nothing to claim, before another one was killed.
                    lost += 1
                    workers.begin(1)
                if lost > MAX_LOST * num_workers:
                    raise UserError(f"workers keep ending and no trial gets on: {told}")
            show()
            return True
        finally:
            workers.kill()


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-15:])
