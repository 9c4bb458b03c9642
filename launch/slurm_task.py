"""What one task of a Slurm job does: it runs a command and passes on requests to stop.

Imports nothing that takes long: every task of every job does before it begins.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from research.command_line import STOPPED


def run_task(command: Sequence[str]) -> NoReturn:
    """Runs the command and exits with its code, or 128 and the signal that killed it.

    SIGTERM (preempted) and SIGUSR2 (time is nearly over) reach the command as SIGUSR2, also where
    Slurm signals this process alone. Where a signal kills the command after that, what it saved
    last is gone on from: the code is 75, as if it had stopped by itself.
    """
    process: subprocess.Popen[bytes] | None = None
    asked = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if process is not None:
            # Not SIGTERM, which JAX keeps to itself until training begins.
            process.send_signal(signal.SIGUSR2)

    # Takes the place of submitit's own handlers, which requeue without waiting for a command.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, pass_on)
    process = subprocess.Popen(command)
    if asked:
        process.send_signal(signal.SIGUSR2)
    code = process.wait()
    # Nor is this process, which has yet to tell the code, ended by a signal that comes late.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if code < 0:
        print(f"Ended by {signal.Signals(-code).name}.", file=sys.stderr, flush=True)
        code = STOPPED if asked else 128 - code
    sys.exit(code)
