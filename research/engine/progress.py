"""How far a run is: a live bar on a terminal, plain lines anywhere else."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Self, final

from rich import box, get_console
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

REFRESHES_PER_SECOND = 4
MARK_SECONDS, WINDOW_SECONDS = 0.25, 30.0


@final
class Progress:
    """Shows the steps of a run while entered: a bar on a terminal, elsewhere a line at most every
    `line_seconds` and one for the last step.

    Leaving restores the terminal, also after an exception.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        enabled: bool = True,
        *,
        line_seconds: float = 5.0,
        console: Console | None = None,
    ):
        self._total = total_steps
        self._enabled = enabled
        self._line_seconds = line_seconds
        self._console = console or get_console()
        self._live: Live | None = None
        self._values: dict[str, float] = {}
        self._data_wait: float | None = None
        self._started = self._next_line = self._next_mark = time.monotonic()
        # (time, step) of the last update, of recent ones, and of the first, which comes after
        # compiling.
        self._last = (self._started, start_step)
        self._recent: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        if self._enabled and _is_live(self._console):
            self._live = Live(
                console=self._console,
                get_renderable=self._bar,
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(
        self,
        step: int,
        loss: float | None = None,
        *,
        data_wait: float | None = None,
        **values: float,
    ) -> None:
        """Notes that `step` steps are done. Numbers stay until they are given anew; `data_wait`
        is the share of time in [0, 1] that went into waiting for data."""
        if not self._enabled:
            return
        now = time.monotonic()
        self._last = (now, step)
        if loss is not None:
            values = {"loss": loss, **values}
        if values:
            # A new dict: the thread that draws the bar may be reading the old one.
            self._values = {**self._values, **values}
        if data_wait is not None:
            self._data_wait = data_wait
        if now >= self._next_mark:
            self._mark(now, step)
        if self._live is None and (now >= self._next_line or step >= self._total):
            self._next_line = now + self._line_seconds
            self._print(self._line())

    def message(self, text: str) -> None:
        """Prints a text above the bar."""
        if not self._enabled:
            return
        if self._live is None:
            self._print(text)
        else:
            self._console.print(Text(text), soft_wrap=True)

    def _mark(self, now: float, step: int) -> None:
        self._next_mark = now + MARK_SECONDS
        self._first = self._first or (now, step)
        self._recent.append((now, step))
        while len(self._recent) > 2 and self._recent[0][0] < now - WINDOW_SECONDS:
            self._recent.popleft()

    def _print(self, text: str) -> None:
        print(text, file=self._console.file, flush=True)

    def _line(self) -> str:
        parts = [self._position(), self._percent(), *self._speed(), *self._notes()]
        return "  ".join([*parts, *self._time_left()])

    def _bar(self) -> Group:
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        bar = ProgressBar(total=max(1, self._total), completed=self._last[1])
        right = "  ".join([self._percent(), *self._time_left()])
        line.add_row(Text(self._position(), style="bold"), bar, Text(right))
        elapsed = f"elapsed {_clock(time.monotonic() - self._started)}"
        below = "  ".join([*self._notes(), *self._speed(), elapsed])
        return Group(line, Text(below, no_wrap=True, overflow="ellipsis"))

    def _position(self) -> str:
        return f"step {self._last[1]}/{self._total}"

    def _percent(self) -> str:
        return f"{100 * self._last[1] / max(1, self._total):.0f} %"

    def _speed(self) -> list[str]:
        rate = _rate(self._recent[0], self._last) if self._recent else None
        return [f"{rate:.3g} steps/s" if rate < 1 else f"{rate:.1f} steps/s"] if rate else []

    def _notes(self) -> list[str]:
        notes = [
            f"{name.replace('_', ' ')} {format_value(value)}"
            for name, value in self._values.items()
        ]
        wait = self._data_wait
        return notes if wait is None else [*notes, f"data wait {100 * wait:.0f} %"]

    def _time_left(self) -> list[str]:
        rate = _rate(self._first, self._last) if self._first else None
        left = self._total - self._last[1]
        return [f"time left {_clock(left / rate)}"] if rate and left > 0 else []


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    console: Console | None = None,
) -> None:
    """Prints a table, with lines on a terminal and as aligned plain text elsewhere; columns of
    numbers are flush right."""
    console = console or get_console()
    cells = [[format_value(cell) for cell in row] for row in rows]
    numeric = [
        all(isinstance(row[column], int | float) for row in rows if row[column] is not None)
        for column in range(len(columns))
    ]
    if _is_live(console):
        drawn = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
        for name, right in zip(columns, numeric, strict=True):
            drawn.add_column(Text(name), justify="right" if right else "left")
        for row in cells:
            drawn.add_row(*map(Text, row))
        console.print(drawn)
        return
    lines = [list(columns), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    print(title, file=console.file)
    for line in lines:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(padded).rstrip(), file=console.file)


def _is_live(console: Console) -> bool:
    # FORCE_COLOR, which continuous integration sets, makes rich take a log file for a terminal.
    return console.is_interactive and console.file.isatty()


def _rate(start: tuple[float, int], end: tuple[float, int]) -> float | None:
    """Steps per second between two (time, step); None before there was any."""
    seconds, steps = end[0] - start[0], end[1] - start[1]
    return steps / seconds if seconds > 0 and steps > 0 else None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_value(value: Any) -> str:
    """A number or text as tables and progress lines show it."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
