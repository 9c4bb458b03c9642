"""Runs `research.train` in processes that are killed with SIGKILL, one after the other.

python -m tests.kill steps:7 saving:2 -- --config …    when step 7 is under way; the same command
                                                       in the middle of its second checkpoint
"""

import os
import signal
import sys

# Imported once for all processes. None of it starts a thread or a device, which would not
# survive the fork.
import orbax.checkpoint  # noqa: F401

import research.engine.loop  # noqa: F401
from research import command_line, train
from research.engine import checkpoint, window


def main() -> None:
    places = sys.argv[1 : sys.argv.index("--")]
    sys.argv = [sys.argv[0], *sys.argv[sys.argv.index("--") + 1 :]]
    for place in places:
        child = os.fork()
        if child == 0:
            die_at(*place.split(":"))
            command_line.main(train.run)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"not killed at {place}, but ended with status {status}")


def die_at(place: str, number: str) -> None:
    """Has this process kill itself there."""
    if place == "steps":
        add = window.Window.add

        def add_or_die(self, step, count, packed):
            if step + count >= int(number):
                os.kill(os.getpid(), signal.SIGKILL)
            add(self, step, count, packed)

        window.Window.add = add_or_die
        return
    seal, calls = checkpoint.Checkpoints._seal, []

    # All arrays are written, the checkpoint is not yet whole.
    def seal_or_die(self):
        calls.append(1)
        if len(calls) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        seal(self)

    checkpoint.Checkpoints._seal = seal_or_die


if __name__ == "__main__":
    main()
