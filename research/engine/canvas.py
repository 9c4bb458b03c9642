"""What all plots are drawn on and have in common; none touches pyplot's global state."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from research.engine.files import write_atomically
from research.engine.image_grid import INK, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
GRID = "#e3e3e3"
COLOURS = (
    *("#3b6fb6", "#e07b39", "#3a9a6b", "#c44e52", "#8064a2"),
    *("#8c6d51", "#d471a8", "#6b7785", "#b5a12f", "#45a5b5"),
)
LEGEND: Mapping[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": INK}
OUTSIDE: Mapping[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}


def empty_figure(width: float, height: float) -> "Figure":
    """A figure of this size in inches whose parts keep clear of each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def colour_bar(figure: "Figure", axes: Any, mappable: Any, label: str, ticks: str) -> None:
    """Says what the colours of `mappable` mean."""
    bar = figure.colorbar(mappable, ax=axes, shrink=0.8, aspect=30, format=ticks)
    bar.set_label(label, size=9, color=INK)
    bar.ax.tick_params(labelsize=8, color="#999999", labelcolor=INK)
    bar.outline.set_visible(False)


def palette(num: int, many: str) -> Sequence[Any]:
    """Colours to tell apart; where there are not enough, those of the colour map `many`."""
    from matplotlib import colormaps

    if num <= len(COLOURS):
        return COLOURS[:num]
    colours = colormaps[many]
    return [colours(index if colours.N == 20 else index / num) for index in range(num)]


def tidy(axes: "Axes") -> None:
    """Axes without what does not inform."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(labelsize=8, color="#999999", labelcolor=INK, which="both")
    axes.xaxis.label.set(size=9, color=INK)
    axes.yaxis.label.set(size=9, color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def render(figure: "Figure") -> Picture:
    """The pixels of a figure."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG. Raises UserError where `path` cannot be written."""
    from PIL import Image

    # A palette makes plots less than half as large, and no line looks different.
    picture = Image.fromarray(render(figure)).quantize(256, dither=Image.Dither.NONE)
    file = BytesIO()
    picture.save(file, "png")
    write_atomically(path, file.getvalue())
