"""Pictures of curves and of matrices."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from research.engine.canvas import (
    LEGEND,
    OUTSIDE,
    colour_bar,
    empty_figure,
    palette,
    render,
    tidy,
)
from research.engine.display import Curves, Heatmap, Heatmaps
from research.engine.image_grid import INK, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Names along an axis that still can be read.
NAMED_UP_TO = 60


def curves(display: Curves) -> Picture:
    """Panels of lines, one below another; lines are broken where values are not finite."""
    labels = list(dict.fromkeys(c.label for panel in display.panels.values() for c in panel))
    colours = dict(zip(labels, palette(len(labels), "viridis"), strict=True))
    num_panels = len(display.panels)
    columns = 1 if num_panels <= 4 else 2
    rows = math.ceil(num_panels / columns)
    figure = empty_figure(6.8 * columns, max(3.4, 2.2 * rows))
    for place, (title, panel) in enumerate(display.panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        for curve in panel:
            y = np.asarray(curve.y, np.float64)
            y = np.where(np.isfinite(y), y, np.nan)
            axes.plot(curve.x, y, color=colours[curve.label], linewidth=1.4, label=curve.label)
        if display.logarithmic:
            axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_ylabel(display.axes[1])
        if place + columns >= num_panels:
            axes.set_xlabel(display.axes[0])
        tidy(axes)
        if place == columns - 1 and any(labels):
            axes.legend(**LEGEND, **OUTSIDE)
    return render(figure)


def heatmaps(display: Heatmaps) -> Picture:
    """Matrices in a grid; all share the range of their finite values."""
    maps = display.maps
    values = np.concatenate([np.ravel(m.values) for m in maps]).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    columns = math.ceil(math.sqrt(len(maps)))
    if len(maps) <= 4 and _widest(maps) > 40:
        columns = 1
    rows = math.ceil(len(maps) / columns)
    width = float(np.clip(0.24 * _widest(maps) + 1.2, 3.6, 10.0 / columns + 1))
    height = float(np.clip(0.24 * max(len(m.values) for m in maps) + 1.0, 2.2, 6.0))
    figure = empty_figure(width * columns + 0.8, height * rows)
    image = None
    panels = []
    for place, heatmap in enumerate(maps):
        axes = figure.add_subplot(rows, columns, place + 1)
        image = axes.imshow(
            np.asarray(heatmap.values, np.float64),
            cmap="viridis",
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
        )
        _name(axes, heatmap)
        axes.set_title(heatmap.title, loc="left", fontsize=10, color=INK)
        if place + columns >= len(maps):
            axes.set_xlabel(display.axes[0])
        if place % columns == 0:
            axes.set_ylabel(display.axes[1])
        tidy(axes)
        axes.grid(visible=False)
        panels.append(axes)
    colour_bar(figure, panels, image, display.scale, "{x:.3g}")
    return render(figure)


def _widest(maps: Sequence[Heatmap]) -> int:
    return max(np.shape(m.values)[1] for m in maps)


def _name(axes: "Axes", heatmap: Heatmap) -> None:
    num_rows, num_columns = np.shape(heatmap.values)
    if heatmap.column_names:
        places = range(0, num_columns, math.ceil(num_columns / NAMED_UP_TO))
        names = [heatmap.column_names[place] for place in places]
        slanted = max(map(len, names)) > 2
        axes.set_xticks(places, names, rotation=90 if slanted else 0)
    if heatmap.row_names:
        places = range(0, num_rows, math.ceil(num_rows / NAMED_UP_TO))
        axes.set_yticks(places, [heatmap.row_names[place] for place in places])
