"""What all charts share: colours, axes, text, and how a figure gets into a page."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from launch.reports.axes import MAX_TICKS, log_ticks
from launch.reports.values import shown, wants_logarithm
from launch.trials import Mode
from research.engine.canvas import COLOURS, GRID
from research.engine.image_grid import INK

BEST, UNFINISHED, BAD = COLOURS[1], "#b8bfc9", COLOURS[3]
# From bad to good.
SCALE = ("#c3d2ea", "#93b1d8", "#5d8ac4", "#2f5d9f", "#132f5c")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

REMOVED = ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


def colour_range(values: Sequence[float], mode: Mode) -> tuple[float, float]:
    """The values that the ends of the scale stand for, from the lower to the higher.

    On the bad side it ends where outliers begin (Tukey's fence), so that a few failures do not
    make all good trials look alike.
    """
    quarter, three_quarters = np.quantile(values, (0.25, 0.75))
    fence = 1.5 * (three_quarters - quarter)
    low, high = float(min(values)), float(max(values))
    if mode == "max":
        return max(low, float(quarter - fence)), high
    return low, min(high, float(three_quarters + fence))


def colour_scale(mode: Mode) -> list[list[Any]]:
    """The scale as plotly takes it, for values from low to high."""
    colours = SCALE if mode == "max" else SCALE[::-1]
    return [[place / (len(SCALE) - 1), colour] for place, colour in enumerate(colours)]


def colour_of(value: float, ends: tuple[float, float], mode: Mode) -> str:
    """A value's colour on the scale."""
    low, high = ends
    share = float(np.clip((value - low) / (high - low), 0, 1)) if high > low else 1.0
    colours = SCALE if mode == "max" else SCALE[::-1]
    place = share * (len(colours) - 1)
    left = min(int(place), len(colours) - 2)
    pairs = zip(_channels(colours[left]), _channels(colours[left + 1]), strict=True)
    mixed = [round(a + (place - left) * (b - a)) for a, b in pairs]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def translucent(colour: str, opacity: float) -> str:
    """A hex colour that lets others through."""
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},{opacity})"


def value_axis(values: Sequence[float], mode: Mode) -> dict[str, Any]:
    """The axis of a metric: logarithmic for losses that span much."""
    if not wants_logarithm(values, mode):
        return {"tickformat": "~g"}
    finite = [value for value in values if np.isfinite(value)]
    return log_axis(min(finite), max(finite))


def log_axis(smallest: float, largest: float, limit: int = MAX_TICKS) -> dict[str, Any]:
    """A logarithmic axis with a few round numbers."""
    ticks = log_ticks(smallest, largest, limit)
    return {"type": "log", "tickvals": ticks, "ticktext": [shown(tick) for tick in ticks]}


def text(value: Any) -> str:
    """Text for plotly, which takes tags in it for formatting."""
    return escape(str(value), quote=False)


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The look of every chart; `more` overrides."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#c8c8c8",
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#c8c8c8",
        "ticklen": 4,
        "automargin": True,
    }
    base: dict[str, Any] = {
        "template": "none",
        "height": height,
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "white",
        "margin": {"l": 58, "r": 14, "t": 10, "b": 44},
        "hoverlabel": {"bgcolor": "white", "bordercolor": "#c8c8c8", "font": {"color": INK}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#b8bfc9", "activecolor": INK},
        "showlegend": False,
        "xaxis": axis | more.pop("xaxis", {}),
        "yaxis": axis | more.pop("yaxis", {}),
    }
    for axis_name in ("xaxis", "yaxis"):
        if "title" in base[axis_name]:
            base[axis_name]["title"] = {"standoff": 8, **base[axis_name]["title"]}
    return base | more


def colour_bar(title: str) -> dict[str, Any]:
    """The legend of the scale."""
    return {
        "title": {"text": text(title), "side": "right"},
        "thickness": 10,
        "outlinewidth": 0,
        "tickformat": "~g",
        "nticks": 6,
        "len": 0.9,
    }


def to_html(figure: Any, name: str) -> str:
    """A figure as part of a page that holds plotly's library."""
    import plotly.io

    return plotly.io.to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_height=f"{figure.layout.height}px",
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": REMOVED,
            "showSendToCloud": False,
        },
    )


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
