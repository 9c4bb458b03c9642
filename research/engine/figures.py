"""Pictures of what a run shows and measures; none of them touches pyplot's global state."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from research.engine.canvas import (
    COLOURS,
    LEGEND,
    OUTSIDE,
    colour_bar,
    empty_figure,
    palette,
    render,
    save,
    tidy,
)
from research.engine.display import ConfusionMatrix, Scatter
from research.engine.image_grid import INK, Picture
from research.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points of a curve; curves of a panel whose legend is inside, and that are in the legend at all.
MARKED_UP_TO, SMOOTHED_FROM = 30, 60
LEGEND_INSIDE, LEGEND_LINES = 6, 14


def scatter(points: Scatter) -> Picture:
    """Points in the plane, coloured by class; more classes than colours share a colour bar."""
    figure = empty_figure(6.4, 5.4)
    axes = figure.add_subplot()
    xy, labels = np.asarray(points.points, np.float32), np.asarray(points.labels)
    size = float(np.clip(20_000 / max(1, len(xy)), 4, 36))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.75}
    classes = np.unique(labels)
    if len(classes) > 20:
        mappable = axes.scatter(xy[:, 0], xy[:, 1], c=labels, cmap="viridis", **style)
        colour_bar(figure, axes, mappable, "class", "{x:g}")
    elif len(classes):
        for colour, label in zip(palette(len(classes), "tab20"), classes, strict=True):
            chosen = xy[labels == label]
            axes.scatter(chosen[:, 0], chosen[:, 1], color=colour, label=str(label), **style)
        legend = axes.legend(**LEGEND, **OUTSIDE, handletextpad=0.1)
        for handle in legend.legend_handles:
            handle.set_sizes([40])  # type: ignore[union-attr]
    else:
        axes.scatter(xy[:, 0], xy[:, 1], color=COLOURS[0], **style)
    axes.set_xlabel(points.axes[0])
    axes.set_ylabel(points.axes[1])
    axes.set_aspect("equal", adjustable="datalim")
    tidy(axes)
    return render(figure)


def learning_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Every metric of `metrics.jsonl` over the steps, one panel a metric.

    "loss" and "test/loss" share a panel; "learning_rate/<group>" is a curve of the panel "learning
    rate", and "grad_norm/<group>" one of a logarithmic panel "grad norm". What was measured once
    only has none, where others have curves.

    Raises UserError where there is nothing to draw or `path` cannot be written.
    """
    panels = _panels(rows)
    if not panels:
        raise UserError(f"there are no metrics to draw in {path}: has the run logged any step?")
    first, last = min(row["step"] for row in rows), max(row["step"] for row in rows)
    sources = sorted(
        {curve for panel in panels if not _of_groups(panel) for curve in panels[panel]} | {"train"},
        key=_natural,
    )
    columns = min(3, len(panels)) if len(panels) != 4 else 2
    figure = empty_figure(4.4 * columns, 3.1 * math.ceil(len(panels) / columns))
    for index, (name, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(math.ceil(len(panels) / columns), columns, index)
        own = list(curves) if _of_groups(name) else sources
        colours = dict(zip(own, palette(len(own), "viridis"), strict=True))
        _draw_panel(axes, name, curves, colours)
        if first < last:
            axes.set_xlim(first - 0.02 * (last - first), last + 0.02 * (last - first))
    save(figure, path)


def confusion_matrix(matrix: ConfusionMatrix) -> Picture:
    """Counts of true (row) and predicted (column) classes; colours are shares of the row."""
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix.counts)
    num = len(counts)
    class_names = matrix.class_names or range(num)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * num + 1.6, 4.0, 11.0))
    figure = empty_figure(side + 0.8, side)
    axes = figure.add_subplot()
    # The square root, so that rare confusions are seen.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    stride = math.ceil(num / 50)
    places = range(0, num, stride)
    names = [str(class_names[place]) for place in places]
    slanted = max(map(len, names)) > 3
    axes.set_xticks(places, names, rotation=90 if slanted else 0, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if num <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.35 else INK
            text = f"{counts[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(f"accuracy {np.trace(counts) / max(1, counts.sum()):.2%}", color=INK)
    tidy(axes)
    axes.grid(visible=False)
    colour_bar(figure, axes, image, "share of the true class", "{x:.0%}")
    return render(figure)


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """Points (step, value) by panel and curve; the loss comes first, what is about the optimizer
    last. A panel has some curve of two points, where any has."""
    panels: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for row in rows:
        for name in row.keys() - {"step"}:
            if _of_groups(name):
                panel, _, curve = name.partition("/")
            else:
                curve, _, panel = name.rpartition("/")
                curve = curve or "train"
            panels.setdefault(panel, {}).setdefault(curve, []).append((row["step"], row[name]))

    def rank(panel: str) -> tuple[bool, bool, bool, str]:
        return panel != "loss", _is_norm(panel), panel == "learning_rate", panel

    drawn = [name for name, curves in panels.items() if max(map(len, curves.values())) > 1]
    return {
        panel: {curve: panels[panel][curve] for curve in sorted(panels[panel], key=_natural)}
        for panel in sorted(drawn or panels, key=rank)
    }


def _natural(curve: str) -> tuple[bool, list[tuple[str, int]]]:
    """A key that puts training first and layer_2 before layer_10."""
    parts = re.findall(r"(\D*)(\d*)", curve)
    return curve != "train", [(text, int(number or 0)) for text, number in parts]


def _of_groups(name: str) -> bool:
    """Whether a metric is "<panel>/<group of parameters>", not "<data set>/<panel>"."""
    return _is_norm(name) or name.partition("/")[0] == "learning_rate"


def _is_norm(name: str) -> bool:
    return name.partition("/")[0].endswith("norm")


def _draw_panel(
    axes: "Axes",
    name: str,
    curves: Mapping[str, list[tuple[int, Any]]],
    colours: Mapping[str, Any],
) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    broken: list[int] = []
    positive = False
    for index, (label, points) in enumerate(curves.items()):
        steps = np.array([step for step, _ in points])
        values = np.array([value for _, value in points], np.float64)
        finite = np.isfinite(values)
        broken += steps[~finite.reshape(len(steps), -1).all(axis=1)].tolist()[:1]
        values = np.where(finite, values, np.nan)
        positive |= bool((values > 0).any())
        if label == "train" and values.ndim == 1 and len(steps) > SMOOTHED_FROM:
            axes.plot(steps, values, color=colours[label], alpha=0.3, linewidth=0.8)
            values = _moving_mean(values, len(steps) // SMOOTHED_FROM + 1)
        marker = "o" if len(steps) <= MARKED_UP_TO else None
        width = 1.6 if values.ndim == 1 else 0.8
        style = {"color": colours[label], "linewidth": width, "marker": marker, "markersize": 3}
        lines = axes.plot(steps, values, **style)
        if index % math.ceil(len(curves) / LEGEND_LINES) == 0:
            lines[0].set_label(label or "all")
    if broken:
        axes.axvline(min(broken), color="#c00000", linestyle=":", label="not finite")
    if _is_norm(name) and positive:
        axes.set_yscale("log")
    axes.set_title(name.replace("_", " "), loc="left", fontsize=11, color=INK)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    tidy(axes)
    if list(curves) not in (["train"], [""]) or broken:
        axes.legend(**LEGEND, **(OUTSIDE if len(curves) > LEGEND_INSIDE else {}))


def _moving_mean(values: Any, window: int) -> Any:
    """The mean over `window` neighbours that are numbers."""
    finite = np.isfinite(values)
    kernel = np.ones(window)
    total = np.convolve(np.where(finite, values, 0.0), kernel, "same")
    count = np.convolve(finite, kernel, "same")
    return np.where(finite, total / np.maximum(count, 1), np.nan)
