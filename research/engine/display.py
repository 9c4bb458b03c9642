"""What a person should look at: the values `show` and `generate` return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Int

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
class Text:
    """Texts, one an entry."""

    texts: Sequence[str]


Display = Images | Scatter | ConfusionMatrix | Text
Displays = Mapping[str, Display]
