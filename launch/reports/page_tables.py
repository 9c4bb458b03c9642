"""The tables of the page, which sort by a click on a heading."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from launch.reports.charts import COLOURS
from launch.reports.seeds import Configuration
from launch.reports.tables import relative_to
from launch.reports.values import best_first, best_of, setting_paths, short_names, shown, with_error
from launch.trials import Trial, Trials


@dataclass(frozen=True)
class Cell:
    """A cell: its HTML, what it is sorted by ("" comes last), and its classes."""

    html: str
    key: str
    style: str = ""


def trials_table(trials: Trials, folder: Path) -> str:
    """Every trial, the best first; folders are linked from `folder`."""
    rows, paths = best_first(trials), setting_paths(trials.trials)
    names, best = short_names(paths), best_of(trials)
    heads = [("trial", "number of the trial"), ("state", ""), (trials.metric, trials.metric)]
    heads += [(names[path], path) for path in paths]
    heads += [("step", "newest step"), ("time", "of training"), ("folder", "")]
    cells = [
        [
            number_cell(trial.number),
            state_cell(trial.state),
            number_cell(trial.value),
            *(setting_cell(trial.settings, path) for path in paths),
            number_cell(trial.step),
            Cell(duration(trial.seconds), _key(trial.seconds), "number"),
            folder_cell(trial.workdir, folder),
        ]
        for trial in rows
    ]
    marked = {0} if best is not None else set()
    return table(heads, cells, marked)


def configurations_table(
    configurations: Sequence[Configuration], metric: str, coloured: int
) -> str:
    """A configuration a row with its mean over seeds; the first ones have their curves' colour."""
    paths = list(dict.fromkeys(path for each in configurations for path in each.settings))
    names = short_names(paths)
    heads = [
        ("rank", "with the colour of its curve"),
        (f"mean {metric}", "± half the 95 % confidence interval of the mean"),
        ("seeds", "with a value"),
        *((names[path], path) for path in paths),
        ("95 % interval", "of the mean, by Student's t"),
        ("std", "standard deviation over seeds"),
        ("min", ""),
        ("max", ""),
        ("without value", "trials that failed, diverged, were pruned or have not ended"),
    ]
    rows = []
    for place, each in enumerate(configurations):
        own, found = place < coloured, each.summary
        mean = interval = "–"
        if found is not None:
            mean = with_error(found.mean, found.half_width)
        if found is not None and found.interval is not None:
            interval = f"{found.interval[0]:.4g} to {found.interval[1]:.4g}"
        rows.append(
            [
                Cell(f"{swatch(place) if own else ''}{place + 1}", str(place)),
                Cell(mean, _key(found.mean if found else None), "number"),
                number_cell(found.n if found else 0),
                *(setting_cell(each.settings, path) for path in paths),
                Cell(interval, _key(found.half_width if found else None), "number"),
                number_cell(found.std if found else None, ".2g"),
                number_cell(found.smallest if found else None),
                number_cell(found.largest if found else None),
                number_cell(each.without_value),
            ]
        )
    return table(heads, rows, {0} if configurations[0].summary else set())


def failures_table(failed: Sequence[Trial], folder: Path) -> str:
    """The trials that did not end well, and why."""
    names = short_names(setting_paths(failed))
    heads = [("trial", ""), ("state", ""), ("reason", ""), ("settings", ""), ("folder", "")]
    rows = []
    for trial in failed:
        told = ", ".join(f"{names[path]} {shown(v)}" for path, v in trial.settings.items())
        rows.append(
            [
                number_cell(trial.number),
                state_cell(trial.state),
                Cell(escape(trial.reason or "not known"), escape(trial.reason), "reason"),
                Cell(escape(told), escape(told), "long"),
                folder_cell(trial.workdir, folder),
            ]
        )
    return table(heads, rows)


def table(
    heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]], marked: Collection[int] = ()
) -> str:
    """A table of headings, each with a hint, and rows of cells, of which some are marked."""
    numeric = [all(row[column].style == "number" for row in rows) for column in range(len(heads))]
    head = "".join(
        f'<th title="{escape(hint)}"{" class=number" if right else ""}>{escape(name)}</th>'
        for (name, hint), right in zip(heads, numeric, strict=True)
    )
    body = "\n".join(
        f"<tr{' class=best' if place in marked else ''}>"
        + "".join(
            f'<td data-key="{cell.key}"'
            + (f' class="{cell.style}"' if cell.style else "")
            + (f' title="{cell.html}"' if cell.style == "long" else "")
            + f">{cell.html}</td>"
            for cell in row
        )
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def number_cell(value: float | None, form: str = ".4g") -> Cell:
    """A number, or a dash where there is none."""
    if value is None:
        return Cell("–", "", "number")
    told = str(value) if isinstance(value, int) else format(value, form)
    return Cell(told, _key(value), "number")


def setting_cell(settings: Mapping[str, Any], path: str) -> Cell:
    """A setting's value."""
    if path not in settings:
        return Cell("–", "")
    value = settings[path]
    told = escape(shown(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(told, _key(value), "number")
    return Cell(told, told, "long" if len(told) > 40 else "")


def state_cell(state: str) -> Cell:
    """A trial's state in its colour."""
    return Cell(f'<span class="state {escape(state)}">{escape(state)}</span>', escape(state))


def folder_cell(workdir: Path, folder: Path) -> Cell:
    """A run's folder, linked where it lies near the page."""
    told = relative_to(workdir, folder)
    if Path(told).is_absolute():
        return Cell(escape(told), escape(told))
    return Cell(f'<a href="{quote(told)}/">{escape(told)}</a>', escape(told))


def swatch(place: int) -> str:
    """The colour of the curves of the configuration at a place."""
    return f'<span class="swatch" style="background:{COLOURS[place]}"></span>'


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _key(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(value)
