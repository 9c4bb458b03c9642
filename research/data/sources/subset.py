"""A part of another source: a validation set held out of the training data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from research.data.dataset import Arrays, Dataset, Source, gather_rows
from research.errors import UserError


@dataclass(frozen=True)
class Subset:
    """The examples from `start` up to `stop` of `source`; negative places count from the end.

    With `start=-5000` one config evaluates on what another, with `stop=-5000`, leaves out.
    """

    source: Source
    start: int = 0
    stop: int | None = None

    def open(self, data_dir: Path) -> Dataset:
        """Opens the whole source; raises UserError where nothing is between the two places.

        Where examples are rows of arrays, the part has no other rows: a check of the data sees only
        its own.
        """
        whole = self.source.open(data_dir)
        start, stop, _ = slice(self.start, self.stop).indices(whole.size)
        if start >= stop:
            raise UserError(
                f"Subset(start={self.start}, stop={self.stop}) of {whole.size} examples is empty"
            )
        lengths = None if whole.lengths is None else whole.lengths[start:stop]
        part = replace(whole, size=stop - start, lengths=lengths)
        if whole.gather is gather_rows:
            arrays = {name: array[start:stop] for name, array in whole.arrays.items()}
            return replace(part, arrays=arrays)
        return replace(part, gather=_Shifted(whole.gather, start))


@dataclass(frozen=True)
class _Shifted:
    """Gathers from `start` on; a class, because reading processes must be able to pickle it."""

    gather: Callable[[Arrays, Any], dict[str, Any]]
    start: int

    def __call__(self, arrays: Arrays, indices: Any) -> dict[str, Any]:
        return self.gather(arrays, indices + self.start)
