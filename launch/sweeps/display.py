"""How far a sweep is: a live table on a terminal, elsewhere a line for every trial that ends."""

from collections.abc import Mapping
from typing import Any, Self, final

from rich import box, get_console
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launch.reports.values import best_first, best_of, counts_by_state, score, setting_paths
from launch.trials import Trial, Trials
from research.engine.progress import format_value

SHOWN = 12
"""Rows of the table: trials that run, then the best."""


@final
class SweepDisplay:
    """Shows a sweep while entered; `update` is told its trials now and then."""

    def __init__(self, total: int, console: Console | None = None):
        self._total = total
        self._console = console or get_console()
        self._live: Live | None = None
        self._ended: set[int] | None = None

    def __enter__(self) -> Self:
        if self._console.is_interactive and self._console.file.isatty():
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, trials: Trials) -> None:
        """Shows the trials as they are."""
        if self._live is not None:
            self._live.update(_table(trials, self._total))
            return
        ended = {trial.number: trial for trial in trials.trials if _has_ended(trial)}
        # What ended before this process began was told by another.
        told = set(ended) if self._ended is None else self._ended
        for number in sorted(set(ended) - told):
            line = f"{_summary(trials, self._total)}  {_line(ended[number], trials.metric)}"
            print(line, file=self._console.file, flush=True)
        self._ended = set(ended)


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings as one would write them on the command line."""
    return "  ".join(f"{path}={format_value(value)}" for path, value in settings.items())


def _complete(trials: Trials) -> list[Trial]:
    return [trial for trial in best_first(trials) if score(trial) is not None]


def _table(trials: Trials, total: int) -> Group:
    running = [trial for trial in trials.trials if trial.state == "running"][:SHOWN]
    rows = [*running, *_complete(trials)[: max(3, SHOWN - len(running))]]
    paths = sorted(setting_paths(rows))
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("trial", "state", "step", trials.metric, *paths):
        right = name not in ("state",)
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for trial in rows:
        values = [format_value(trial.settings.get(path)) for path in paths]
        step = "" if trial.step is None else str(trial.step)
        table.add_row(str(trial.number), trial.state, step, format_value(trial.value), *values)
    ended = sum(_has_ended(trial) for trial in trials.trials)
    bar = ProgressBar(total=total, completed=ended, width=40)
    return Group(Text(_summary(trials, total), style="bold"), bar, table)


def _summary(trials: Trials, total: int) -> str:
    counts = counts_by_state(trials)
    ended = sum(_has_ended(trial) for trial in trials.trials)
    parts = [f"{ended}/{total} trials"]
    parts += [
        f"{counts[state]} {state}"
        for state in ("running", "pruned", "diverged", "failed")
        if state in counts
    ]
    best = best_of(trials)
    if best is not None:
        parts.append(f"best {format_value(best.value)} (trial {best.number})")
    return "  ".join(parts)


def _line(trial: Trial, metric: str) -> str:
    value = "" if trial.value is None else f" {metric} {format_value(trial.value)}"
    reason = f" ({trial.reason})" if trial.reason else ""
    settings = settings_in_words(trial.settings)
    return f"trial {trial.number} {trial.state}{value}{reason}  {settings}"


def _has_ended(trial: Trial) -> bool:
    return trial.state not in ("waiting", "running")
