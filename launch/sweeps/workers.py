"""Worker processes on this machine, kept at work until no trial is left."""

from collections.abc import Callable
from pathlib import Path

from launch.child_processes import Child
from research.command_line import DONE, MISTAKE
from research.errors import UserError

MAX_DEATHS = 4
"""So often a worker may end without any trial having ended meanwhile."""


def keep_working(
    start: Callable[[int], Child],
    logs: list[Path],
    ended: Callable[[], int],
    total: int,
    tick: Callable[[], bool],
) -> bool:
    """Keeps one worker a log running until `ended()` trials are `total`; False where `tick()`,
    called now and then, asked to stop, and the workers have saved and stopped.

    A worker that was killed is started anew: it goes on with what the other left.

    Raises:
      UserError: a worker met a mistake that another would meet as well, or they keep dying.
    """
    children = {index: start(index) for index in range(len(logs))}
    deaths, before = 0, ended()
    try:
        while True:
            if tick():
                for child in children.values():
                    child.terminate()
                while any(child.poll() is None for child in children.values()):
                    if tick():
                        ...
                return ended() >= total
            done = ended()
            if done > before:
                deaths, before = 0, done
            for index, child in list(children.items()):
                code = child.poll()
                if code is None:
                    continue
                del children[index]
                if code == MISTAKE:
                    raise UserError(_last_words(logs[index]))
                if code != DONE:
                    deaths += 1
                    if deaths > MAX_DEATHS * len(logs):
                        raise UserError(
                            f"workers keep ending (the last with {code}) and no trial gets on; "
                            f"see {logs[index]}:\n{_last_words(logs[index])}"
                        )
                    if done < total:
                        children[index] = start(index)
            if children:
                continue
            if ended() >= total:
                return True
            # All found nothing to claim, and yet something is left: of one that was killed since.
            children[0] = start(0)
            deaths += 1
    finally:
        for child in children.values():
            child.kill()


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-15:])
