"""How the value depends on the settings: parallel coordinates, importance, slices."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from launch.reports import charts
from launch.reports.axes import MAX_TICKS, Axis, log_ticks, ticks, with_ends
from launch.reports.importance import EVALUATOR, Importance
from launch.reports.seeds import SEED
from launch.reports.values import score, shown, wants_logarithm
from launch.trials import Trial, Trials

MAX_AXES, MAX_SLICES, MAX_SLICE_TICKS = 10, 18, 5


def parallel_coordinates(trials: Trials, axes: Sequence[Axis]) -> Any:
    """A line a complete trial through its settings to its value, the darker the better.

    `axes` are those of the complete trials, in their order.
    """
    import plotly.graph_objects as go

    values = [value for value in map(score, trials.trials) if value is not None]
    sign = 1 if trials.mode == "max" else -1
    # The best come last and lie above the others.
    order = sorted(range(len(values)), key=lambda row: sign * values[row])
    logarithmic = wants_logarithm(values, trials.mode)
    value_axis = Axis(trials.metric, trials.metric, "log" if logarithmic else "linear", (*values,))
    dimensions = [_dimension(axis, order) for axis in (*axes, value_axis)]
    line: dict[str, Any] = {"color": charts.SCALE[-1]}
    if len(set(values)) > 1:
        ends = charts.colour_range(values, trials.mode)
        line = {
            "color": [values[row] for row in order],
            "cmin": ends[0],
            "cmax": ends[1],
            "colorscale": charts.colour_scale(trials.mode),
            "showscale": True,
            "colorbar": charts.colour_bar(trials.metric),
        }
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line=line,
            labelfont={"size": 12},
            tickfont={"size": 11},
            unselected={"line": {"color": "#e6e6e6", "opacity": 0.3}},
        )
    )
    figure.update_layout(charts.layout(400, margin={"l": 90, "r": 60, "t": 56, "b": 24}))
    return figure


def importance_bars(importance: Importance) -> Any:
    """A bar a setting; the seed's, which stands for chance, is grey."""
    import plotly.graph_objects as go

    axes, shares = importance.axes[::-1], importance.shares[::-1]
    figure = go.Figure(
        go.Bar(
            x=shares,
            y=[charts.text(axis.label) for axis in axes],
            orientation="h",
            marker={
                "color": [
                    charts.UNFINISHED if axis.path == SEED else charts.COLOURS[0] for axis in axes
                ]
            },
            text=[f"{share:.0%}" if share >= 0.005 else "<1%" for share in shares],
            textposition="outside",
            cliponaxis=False,
            customdata=[charts.text(axis.path) for axis in axes],
            hovertemplate="%{customdata}: %{x:.1%}<extra></extra>",
        )
    )
    axis = {
        "title": {"text": f"share of the variance ({EVALUATOR})"},
        "tickformat": ".0%",
        "range": [0, 1.12 * max(shares)],
    }
    figure.update_layout(
        charts.layout(
            max(150, 70 + 30 * len(axes)),
            xaxis=axis,
            yaxis={"showgrid": False, "ticks": "", "ticksuffix": " "},
            bargap=0.35,
        )
    )
    return figure


def slices(trials: Trials, axes: Sequence[Axis]) -> dict[str, Any]:
    """A figure a setting: every complete trial's value over it, and where values of the setting
    repeat, their mean. `axes` are those of the complete trials."""
    ended = [trial for trial in trials.trials if score(trial) is not None]
    return {axis.path: _slice(trials, ended, axis) for axis in axes}


def _slice(trials: Trials, ended: Sequence[Trial], axis: Axis) -> Any:
    import plotly.graph_objects as go

    values = [value for value in map(score, ended) if value is not None]
    about = [f"trial {trial.number}" for trial in ended]
    figure = go.Figure(
        go.Scatter(
            x=axis.places,
            y=values,
            mode="markers",
            marker={
                "color": charts.translucent(charts.COLOURS[0], 0.5),
                "size": 6,
                "line": {"width": 0.5, "color": "white"},
            },
            customdata=[
                [told, charts.text(axis.told(x))]
                for told, x in zip(about, axis.places, strict=True)
            ],
            hovertemplate="%{customdata[0]}: %{y:.4g}<br>" + "%{customdata[1]}<extra></extra>",
        )
    )
    by_place: dict[float, list[float]] = {}
    for place, value in zip(axis.places, values, strict=True):
        by_place.setdefault(place, []).append(value)
    places = sorted(by_place)
    # Where nearly every trial has a value of its own, there is nothing to average.
    if 2 * len(places) <= len(values):
        joined = axis.kind != "category" and len(places) <= MAX_TICKS
        means = [float(np.mean(by_place[place])) for place in places]
        figure.add_trace(
            go.Scatter(
                x=places,
                y=means,
                mode="lines+markers" if joined else "markers",
                marker={"color": charts.BEST, "size": 9, "symbol": "diamond"},
                line={"color": charts.translucent(charts.BEST, 0.6), "width": 1.5},
                customdata=[len(by_place[place]) for place in places],
                hovertemplate="mean of %{customdata}: %{y:.4g}<extra></extra>",
            )
        )
    figure.update_layout(
        charts.layout(
            260,
            xaxis={"title": {"text": charts.text(axis.label)}, **_x_axis(axis)},
            yaxis={
                "title": {"text": charts.text(trials.metric)},
                **charts.value_axis(values, trials.mode),
            },
        )
    )
    return figure


def _x_axis(axis: Axis) -> dict[str, Any]:
    own = _own_marks(axis)
    if own:
        kind = {"type": "log"} if axis.kind == "log" else {}
        return {**kind, "tickvals": own, "ticktext": [shown(mark) for mark in own], "tickangle": 0}
    if axis.kind == "log":
        return charts.log_axis(min(axis.places), max(axis.places), limit=MAX_SLICE_TICKS) | {
            "tickangle": 0
        }
    if axis.kind == "category":
        return {
            "tickvals": list(range(len(axis.categories))),
            "ticktext": [charts.text(category) for category in axis.categories],
            "range": [-0.5, len(axis.categories) - 0.5],
        }
    return {"tickformat": "~g", "nticks": 6, "tickangle": 0}


def _own_marks(axis: Axis) -> list[float]:
    """The values of a grid's setting, where they are few and lie apart: better than round ones."""
    marks = sorted(set(axis.places))
    if axis.kind == "category" or len(marks) > MAX_SLICE_TICKS:
        return []
    places = [math.log(mark) for mark in marks] if axis.kind == "log" else marks
    room = (places[-1] - places[0]) / (2 * MAX_SLICE_TICKS)
    apart = all(right - left >= room for left, right in itertools.pairwise(places))
    return marks if apart else []


def _dimension(axis: Axis, order: Sequence[int]) -> dict[str, Any]:
    """A line of the parallel coordinates: logarithms where it is logarithmic, ticks as text."""
    values = [axis.places[row] for row in order]
    low, high = min(values), max(values)
    if axis.kind == "category":
        marks = [float(place) for place in range(len(axis.categories))]
        texts = list(axis.categories)  # plotly takes no tags in these
    elif axis.kind == "log":
        values = [math.log10(value) for value in values]
        round_ones = [math.log10(tick) for tick in _own_marks(axis) or log_ticks(low, high)]
        marks = with_ends(round_ones, min(values), max(values))
        texts = [f"{10**mark:.3g}" for mark in marks]
    else:
        marks = _own_marks(axis) or with_ends(ticks(low, high), low, high)
        texts = [f"{mark:.6g}" if axis.whole else f"{mark:.4g}" for mark in marks]
    return {
        "label": charts.text(axis.label),
        "values": values,
        "tickvals": marks,
        "ticktext": texts,
    }
