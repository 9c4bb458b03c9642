"""What a person should look at: the values `show` and `generate` return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Pixels = np.ndarray | jax.Array


@dataclass(frozen=True)
class Images:
    """A grid of pictures with values in [0, 1]; one or three channels.

    `titles` stand above each picture, `columns` sets the grid's width (square when None).
    """

    images: Float[Pixels, "num height width channels"]
    titles: Sequence[str] = ()
    columns: int | None = None


@dataclass(frozen=True)
class Scatter:
    """Points in the plane, coloured by class."""

    points: Float[Pixels, "num 2"]
    labels: Sequence[int] | np.ndarray = ()
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often a class (row) was taken for another (column)."""

    counts: Int[np.ndarray, "classes classes"]
    class_names: Sequence[str] = ()  # their numbers, where there are none


@dataclass(frozen=True)
class Curve:
    """Values over places, joined by a line."""

    label: str
    x: Float[np.ndarray, " length"]
    y: Float[np.ndarray, " length"]


@dataclass(frozen=True)
class Curves:
    """Panels of curves by title, one below another; a label has one colour in all of them."""

    panels: Mapping[str, Sequence[Curve]]
    axes: tuple[str, str] = ("", "")
    logarithmic: bool = False  # the y axis


@dataclass(frozen=True)
class Heatmap:
    """A matrix as colours, its first row above; `row_names` and `column_names` beside it."""

    values: Float[np.ndarray, "rows columns"]
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    title: str = ""


@dataclass(frozen=True)
class Heatmaps:
    """Matrices with one scale of colours (attention, alignments, spectrograms, piano rolls)."""

    maps: Sequence[Heatmap]
    axes: tuple[str, str] = ("", "")  # of columns, of rows
    scale: str = ""  # what a colour means


@dataclass(frozen=True)
class Text:
    """Texts, one an entry."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Music:
    """Which of a piano's 88 keys, A0 first, sound in each frame."""

    roll: Bool[np.ndarray, "frames 88"]
    seconds_per_frame: float = 0.5


@dataclass(frozen=True)
class Sound:
    """A waveform of one channel with values in [-1, 1]; `sample_rate` in Hz."""

    samples: Float[np.ndarray, " samples"]
    sample_rate: int


Display = Images | Scatter | ConfusionMatrix | Curves | Heatmaps | Text | Music | Sound
Displays = Mapping[str, Display]
