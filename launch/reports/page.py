"""One page that says what came out of a set of runs; it works without a network."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from launch.reports import charts, curve_charts, setting_charts
from launch.reports.axes import Axis
from launch.reports.curves import read_curves, training_losses
from launch.reports.importance import EVALUATOR, Importance, axes_by_importance, importance_of
from launch.reports.page_tables import (
    configurations_table,
    failures_table,
    swatch,
    trials_table,
)
from launch.reports.seeds import SEED, Configuration, has_repeats, over_seeds
from launch.reports.style import CSS, SORTING
from launch.reports.tables import CSV, PARQUET
from launch.reports.values import (
    best_of,
    counts_by_state,
    score,
    setting_paths,
    short_names,
    shown,
    shown_settings,
    with_error,
)
from launch.trials import Mode, Trials


def page(trials: Trials, folder: Path) -> str:
    """The whole page, as it is seen from `folder`. Raises UserError where metrics of a run are
    damaged."""
    from plotly.offline import get_plotlyjs

    configurations = over_seeds(trials)
    repeats = has_repeats(configurations)
    failed = [trial for trial in trials.trials if trial.state in ("diverged", "failed")]
    sections = [
        _header(trials, configurations if repeats else []),
        _seeds_section(trials, configurations) if repeats else "",
        _section("Trials", trials_table(trials, folder), "Best first; a click on a heading sorts."),
        _curves_section(trials, configurations if repeats else []),
        _settings_sections(trials),
        _section("Failures", failures_table(failed, folder)) if failed else "",
    ]
    body = "\n".join(section for section in sections if section)
    # Only a page that has charts pays for the library.
    library = f"<script>{get_plotlyjs()}</script>" if "Plotly.newPlot" in body else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(trials.title)}</title><style>{CSS}</style>\n{library}</head>\n"
        f"<body><main>\n{body}\n</main><script>{SORTING}</script></body></html>\n"
    )


def _header(trials: Trials, configurations: Sequence[Configuration]) -> str:
    names = short_names(setting_paths(trials.trials))
    better = "higher" if trials.mode == "max" else "lower"
    best = best_of(trials)
    cards = []
    if best is None:
        cards.append(
            _card(
                f"Best {trials.metric}", '<div class="big">–</div>No trial has ended with a value.'
            )
        )
    else:
        value = f'<div class="big">{shown(best.value)} <small>trial {best.number}</small></div>'
        cards.append(_card(f"Best {trials.metric}", value + _listed(best.settings, names)))
    if configurations and (top := configurations[0].summary):
        seeds = "one seed" if top.n == 1 else f"{top.n} seeds"
        mean = with_error(top.mean, top.half_width)
        value = f'<div class="big">{mean} <small>{seeds}</small></div>'
        cards.append(
            _card("Best mean over seeds", value + _listed(configurations[0].settings, names))
        )
    counts = "".join(
        f'<span class="state {state}">{count} {state}</span>'
        for state, count in counts_by_state(trials).items()
    )
    num = len(trials.trials)
    files = f'<a href="{CSV}">{CSV}</a>, <a href="{PARQUET}">{PARQUET}</a>'
    cards.append(
        _card(
            "Trials",
            f'<div class="big">{num}</div><div class="states">{counts}</div>'
            f"<dl><dt>as a table</dt><dd>{files}</dd></dl>",
        )
    )
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<h1>{escape(trials.title)}</h1>"
        f'<div class="under">compared by <b>{escape(trials.metric)}</b>, {better} is better · '
        f'{when}</div><div class="cards">{"".join(cards)}</div>'
    )


def _seeds_section(trials: Trials, configurations: Sequence[Configuration]) -> str:
    coloured = min(
        curve_charts.SHOWN_CONFIGURATIONS, sum(each.summary is not None for each in configurations)
    )
    return _section(
        "Configurations over seeds",
        configurations_table(configurations, trials.metric, coloured),
        "Mean ± half the 95 % confidence interval of the mean (Student's t over seeds; one seed "
        "has none).",
    )


def _curves_section(trials: Trials, configurations: Sequence[Configuration]) -> str:
    shown_ones = [each for each in configurations if each.summary is not None]
    shown_ones = shown_ones[: curve_charts.SHOWN_CONFIGURATIONS]
    losses = training_losses(trials.trials)
    names = list(dict.fromkeys((trials.metric, *losses)))
    means, single = [], []
    for place, name in enumerate(names):
        mode: Mode = trials.mode if name == trials.metric else "min"
        title = f"{name}, training" if name in losses else name
        curves = read_curves(trials.trials, name)
        if shown_ones:
            figure = curve_charts.means_over_seeds(shown_ones, curves, mode)
            means.append(_chart(title, figure, f"means_{place}"))
        figure = curve_charts.all_trials(trials, curves, mode)
        single.append(_chart(title, figure, f"curves_{place}"))
    parts = []
    if any(means):
        legend = "".join(
            f"<span>{swatch(place)}{escape(_told(each, shown_ones))}</span>"
            for place, each in enumerate(shown_ones)
        )
        parts.append(
            _section(
                "Learning curves of the best configurations",
                f'<div class="legend">{legend}</div>{_side_by_side(means)}',
                "Mean over the seeds that ended, with the 95 % confidence interval of the mean.",
            )
        )
    if any(single):
        what = "The darker, the better the trial ended; the best is orange"
        others = {trial.state for trial in trials.trials if score(trial) is None}
        what += "; dotted ones did not end, red ones diverged." if others else "."
        parts.append(_section("Learning curves of all trials", _side_by_side(single), what))
    else:
        none = f"No trial has measured {escape(trials.metric)} or a training loss twice."
        parts.append(_section("Learning curves", f'<div class="none">{none}</div>'))
    return "\n".join(parts)


def _settings_sections(trials: Trials) -> str:
    importance = importance_of(trials)
    axes = axes_by_importance(trials, importance)
    parts = [_parallel_section(trials, axes), _importance_section(trials, importance)]
    return "\n".join([*parts, _slices_section(trials, axes)])


def _parallel_section(trials: Trials, axes: Sequence[Axis]) -> str:
    shown_ones = axes[: setting_charts.MAX_AXES]
    if not shown_ones:
        return ""
    text = "Drag along an axis to select trials; drag an axis's name to move it."
    text += _left_out(len(axes), len(shown_ones))
    chart = setting_charts.parallel_coordinates(trials, shown_ones)
    return _section("Parallel coordinates", _chart("", chart, "parallel"), text)


def _importance_section(trials: Trials, importance: Importance) -> str:
    title = "Importance of settings"
    if not importance.axes:
        return _section(title, f'<div class="none">{escape(importance.missing)}</div>')
    what = f"the logarithm of {trials.metric}" if importance.of_logarithm else trials.metric
    text = (
        f"How much of the variance of {what} each setting explains, among the "
        f"{importance.num_trials} complete trials: Optuna's {EVALUATOR} evaluator. It says "
        "nothing about settings and ranges that were not tried."
    )
    if any(axis.path == SEED for axis in importance.axes):
        text += " The seed's bar shows what chance amounts to."
    chart = setting_charts.importance_bars(importance)
    return _section(title, _chart("", chart, "importance"), text)


def _slices_section(trials: Trials, axes: Sequence[Axis]) -> str:
    figures = setting_charts.slices(trials, axes[: setting_charts.MAX_SLICES])
    if not figures:
        return ""
    found = [_chart("", figure, f"slice_{place}") for place, figure in enumerate(figures.values())]
    text = "A point a complete trial; diamonds are means over all trials with that value."
    text += _left_out(len(axes), len(figures))
    return _section("Slices", f'<div class="three">{"".join(found)}</div>', text)


def _left_out(there_are: int, shown_ones: int) -> str:
    return f" {shown_ones} of {there_are} settings are shown." if there_are > shown_ones else ""


def _told(configuration: Configuration, among: Sequence[Configuration]) -> str:
    """The settings in which a configuration differs from those beside it."""
    names = short_names(list(dict.fromkeys(path for each in among for path in each.settings)))
    telling = {
        path: value
        for path, value in configuration.settings.items()
        if any(each.settings.get(path) != value for each in among)
    }
    return shown_settings(telling, names) or "all trials"


def _listed(settings: Any, names: Any) -> str:
    rows = "".join(
        f'<dt title="{escape(path)}">{escape(names[path])}</dt><dd>{escape(shown(value))}</dd>'
        for path, value in settings.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _section(title: str, content: str, text: str = "") -> str:
    told = f"<p>{escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{told}{content}</section>"


def _card(title: str, content: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def _chart(title: str, figure: Any, name: str) -> str:
    if figure is None:
        return ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="card chart">{head}{charts.to_html(figure, name)}</div>'


def _side_by_side(parts: Iterable[str]) -> str:
    return f'<div class="pair">{"".join(parts)}</div>'
