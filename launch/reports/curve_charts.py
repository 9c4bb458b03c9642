"""Learning curves: of all trials, and of the best configurations as means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from launch.reports import charts
from launch.reports.curves import MAX_POINTS, Curve
from launch.reports.seeds import SEED, Configuration, student_factor
from launch.reports.values import best_of, score, setting_paths, short_names, shown, shown_settings
from launch.trials import Mode, Trials

HEIGHT = 330
SHOWN_CONFIGURATIONS = 5


def all_trials(trials: Trials, curves: Mapping[int, Curve], mode: Mode) -> Any:
    """Every trial's curve, the darker the better its end, the best one in a colour of its own.

    None where no trial has two points.
    """
    import plotly.graph_objects as go

    drawn = {number: curve for number, curve in curves.items() if len(curve.steps) > 1}
    if not drawn:
        return None
    names = short_names(setting_paths(trials.trials))
    best = best_of(trials)
    scores = [value for trial in trials.trials if (value := score(trial)) is not None]
    ends = charts.colour_range(scores, trials.mode) if scores else (0.0, 1.0)

    def rank(number: int) -> tuple[int, float]:
        trial, value = by_number[number], score(by_number[number])
        sign = 1 if trials.mode == "max" else -1
        level = 1 if value is not None else 2 if trial.state == "diverged" else 0
        return (3 if trial is best else level), 0.0 if value is None else sign * value

    by_number = {trial.number: trial for trial in trials.trials}
    width = 1.2 if len(drawn) <= 60 else 0.7
    figure = go.Figure()
    # What comes last lies above the others.
    for number in sorted(drawn, key=rank):
        trial, value = by_number[number], score(by_number[number])
        if value is None:
            colour = charts.BAD if trial.state == "diverged" else charts.UNFINISHED
            line = {"color": colour, "width": width, "dash": "dot"}
        elif trial is best:
            line = {"color": charts.BEST, "width": 2.6}
        else:
            line = {"color": charts.colour_of(value, ends, trials.mode), "width": width}
        if trial.state == "diverged":
            last = drawn[number]
            figure.add_trace(_cross(last.steps[-1], last.values[np.isfinite(last.values)][-1:]))
        end = trial.state if value is None else f"{trials.metric} {shown(value)}"
        about = [f"trial {number}: {end}", *_told(trial.settings, names)]
        figure.add_trace(
            go.Scatter(
                x=drawn[number].steps,
                y=_finite(drawn[number].values),
                mode="lines" if len(drawn[number].steps) > 2 else "lines+markers",
                line=line,
                hovertemplate="step %{x}: %{y:.4g}<br>"
                + _no_fields("<br>".join(map(charts.text, about)))
                + "<extra></extra>",
            )
        )
    if len(set(scores)) > 1:
        figure.add_trace(_scale(ends, trials))
    values = np.concatenate([curve.values for curve in drawn.values()])
    return _lay_out(figure, values, mode)


def means_over_seeds(
    configurations: Sequence[Configuration], curves: Mapping[int, Curve], mode: Mode
) -> Any:
    """Each configuration's mean over seeds, with the band of its 95 % confidence interval.

    None where no trial has two points.
    """
    import plotly.graph_objects as go

    names = short_names(setting_paths([t for each in configurations for t in each.trials]))
    groups = [_ended(each, curves) for each in configurations]
    values = [curve.values for group in groups for curve in group]
    if not values:
        return None
    border = _border(np.concatenate(values))
    figure = go.Figure()
    for place, (each, group) in enumerate(zip(configurations, groups, strict=True)):
        if not group:
            continue
        colour, (steps, mean, half) = charts.COLOURS[place], mean_curve(group)
        told = _told(each.settings, names) or ["all trials"]
        about = _no_fields("<br>".join(map(charts.text, told)))
        if half is not None:
            # What reaches far out, or where a logarithmic axis has no place, ends at the border.
            high, low = np.minimum(mean + half, border[1]), np.maximum(mean - half, border[0])
            figure.add_trace(
                go.Scatter(
                    x=[*steps, *steps[::-1]],
                    y=[*high, *low[::-1]],
                    mode="lines",
                    fill="toself",
                    fillcolor=charts.translucent(colour, 0.13),
                    line={"width": 0},
                    hoverinfo="skip",
                )
            )
        error = "" if half is None else " ± %{customdata:.2g}"
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=mean,
                customdata=half,
                mode="lines",
                line={"color": colour, "width": 2.2},
                hovertemplate=f"step %{{x}}: %{{y:.4g}}{error}<br>{about}<extra></extra>",
            )
        )
    return _lay_out(figure, np.concatenate(values), mode)


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Steps, mean and half the width of the mean's 95 % confidence interval, as far as all curves
    go; between measured steps they are taken for straight. One curve has no interval."""
    curves = [Curve(c.steps[ok], c.values[ok]) for c in curves for ok in [np.isfinite(c.values)]]
    first = max(curve.steps[0] for curve in curves)
    last = min(curve.steps[-1] for curve in curves)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[(steps >= first) & (steps <= last)]
    if len(steps) > MAX_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_POINTS).round().astype(int)]
    sample = np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])
    if len(curves) == 1:
        return steps, sample[0], None
    half = student_factor(len(curves)) * sample.std(axis=0, ddof=1)
    return steps, sample.mean(axis=0), half


def _ended(configuration: Configuration, curves: Mapping[int, Curve]) -> list[Curve]:
    """A curve a seed, of the trials that ended with a value and have more than a point."""
    by_seed: dict[Any, list[Curve]] = {}
    for trial in configuration.trials:
        curve = curves.get(trial.number)
        if score(trial) is not None and curve is not None and np.isfinite(curve.values).sum() > 1:
            by_seed.setdefault(trial.settings.get(SEED), []).append(curve)
    return [
        same[0] if len(same) == 1 else Curve(*mean_curve(same)[:2]) for same in by_seed.values()
    ]


def _border(values: np.ndarray) -> tuple[float, float]:
    """A little more than what was measured."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    margin = 0.05 * (high - low)
    return (low / 1.2 if low > 0 else low - margin), high + margin


def _lay_out(figure: Any, values: np.ndarray, mode: Mode) -> Any:
    figure.update_layout(
        charts.layout(
            HEIGHT,
            xaxis={"title": {"text": "step"}, "tickformat": "~s"},
            yaxis=charts.value_axis(list(values), mode),
        )
    )
    return figure


def _scale(ends: tuple[float, float], trials: Trials) -> Any:
    import plotly.graph_objects as go

    marker = {
        "color": [ends[0]],
        "cmin": ends[0],
        "cmax": ends[1],
        "colorscale": charts.colour_scale(trials.mode),
        "showscale": True,
        "colorbar": charts.colour_bar(f"final {trials.metric}"),
    }
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip")


def _cross(step: Any, value: np.ndarray) -> Any:
    """Where a diverged trial's numbers end."""
    import plotly.graph_objects as go

    marker = {"symbol": "x", "size": 7, "color": charts.BAD}
    return go.Scatter(x=[step], y=value, mode="markers", marker=marker, hoverinfo="skip")


def _told(settings: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """A line a setting."""
    return [shown_settings({path: value}, names) for path, value in settings.items()]


def _no_fields(text: str) -> str:
    """Text in which plotly finds no field of its own to fill in."""
    return text.replace("%{", "%&#123;")


def _finite(values: np.ndarray) -> np.ndarray:
    """Gaps where a number is NaN or infinite."""
    return np.where(np.isfinite(values), values, np.nan)
