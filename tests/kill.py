"""Runs `research.train` and kills the process with SIGKILL at a chosen place.

python -m tests.kill steps 7 -- --config …      when step 7 is under way
python -m tests.kill saving 2 -- --config …     in the middle of the second checkpoint
"""

import os
import signal
import sys

from research import command_line, train
from research.engine import checkpoint, window


def main() -> None:
    place, number = sys.argv[1], int(sys.argv[2])
    sys.argv = [sys.argv[0], *sys.argv[sys.argv.index("--") + 1 :]]
    if place == "steps":
        add = window.Window.add

        def add_or_die(self, step, count, packed):
            if step + count >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            add(self, step, count, packed)

        window.Window.add = add_or_die
    elif place == "saving":
        seal, calls = checkpoint.Checkpoints._seal, []

        # All arrays are written, the checkpoint is not yet whole.
        def seal_or_die(self):
            calls.append(1)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seal(self)

        checkpoint.Checkpoints._seal = seal_or_die
    command_line.main(train.run)


if __name__ == "__main__":
    main()
