"""Some classes of another source, and few examples of each: for transfer and few-shot learning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.dataset import Dataset, Source
from research.errors import UserError

ROWS_A_PIECE = 1000


@dataclass(frozen=True)
class Classes:
    """The examples of `classes` in `source`, whose labels become 0, 1, … in the order given.

    With `examples_per_class` there are that many of each, drawn by `seed`; all else of the source
    is never seen. They are held in memory, in the order of the source.
    """

    source: Source
    classes: tuple[int, ...]
    examples_per_class: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(
                f"Classes.classes must name different classes, at least one; got {self.classes}"
            )
        if self.examples_per_class is not None and self.examples_per_class < 1:
            raise UserError(
                f"Classes.examples_per_class must be at least 1; got {self.examples_per_class}"
            )
        if self.seed < 0:
            raise UserError(f"Classes.seed must be at least 0; got {self.seed}")

    def open(self, data_dir: Path) -> Dataset:
        """Raises UserError where the source has no labels, or too few examples of a class."""
        whole = self.source.open(data_dir)
        if "label" not in whole.arrays or np.ndim(whole.arrays["label"]) != 1:
            raise UserError(
                f"Classes: {type(self.source).__name__} has no array `label` of one class an "
                "example"
            )
        # In pieces, for a source's gather makes whole examples.
        pieces = np.array_split(np.arange(whole.size), whole.size // ROWS_A_PIECE + 1)
        labels = np.concatenate([whole.gather(whole.arrays, rows)["label"] for rows in pieces])
        generator = np.random.default_rng(self.seed)
        chosen = [self._choose(np.flatnonzero(labels == k), k, generator) for k in self.classes]
        rows = np.concatenate(chosen)
        places = np.repeat(np.arange(len(chosen), dtype=np.int32), [len(part) for part in chosen])
        order = np.argsort(rows)
        arrays = {**whole.gather(whole.arrays, rows[order]), "label": places[order]}
        lengths = None if whole.lengths is None else whole.lengths[rows[order]]
        return Dataset(len(rows), arrays, lengths=lengths)

    def _choose(self, rows: np.ndarray, label: int, generator: np.random.Generator) -> np.ndarray:
        wanted = self.examples_per_class
        if len(rows) < (wanted or 1):
            raise UserError(
                f"Classes: class {label} has {len(rows)} examples in the source, not {wanted or 1}"
            )
        return rows if wanted is None else generator.choice(rows, wanted, replace=False)
