"""How far long work on data is: a bar on a terminal, plain lines anywhere else."""

import time
from typing import Any, Self, final

SHOWN_AFTER = 2.0
LINE_SECONDS = 30.0


@final
class Progress:
    """Shows the share of work that is done while entered, where it takes a while."""

    def __init__(self, what: str):
        self._what = what
        self._started = time.monotonic()
        self._next_line = self._started + SHOWN_AFTER
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, share: float) -> None:
        """Notes that this share of the work, in [0, 1], is done."""
        now = time.monotonic()
        if self._bar is None and now < self._next_line:
            return
        from rich import get_console, progress

        console = get_console()
        if not console.is_terminal:
            self._next_line = now + LINE_SECONDS
            left = (now - self._started) * (1 - share) / max(share, 1e-9)
            text = f"{self._what}: {share:.1%}, {left / 60:.0f} min left"
            print(text, file=console.file, flush=True)
            return
        if self._bar is None:
            self._bar = progress.Progress(console=console, transient=True)
            self._task = self._bar.add_task(self._what, total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=share)
