"""An opened data set: arrays, and how a batch is gathered from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

Arrays = Mapping[str, Any]


def gather_rows(arrays: Arrays, indices: Int[Any, " batch"]) -> dict[str, Any]:
    """The rows `indices` of every array; NumPy in and out, or JAX under jit."""
    return {name: array[indices] for name, array in arrays.items()}


@dataclass(frozen=True)
class Dataset:
    """`size` examples, gathered a whole batch at a time: `gather(arrays, indices) -> batch`.

    Where `gather` is nothing but array indexing (`on_device=True`) it runs on NumPy arrays and
    under jit alike, and the engine may keep `arrays` on the device. Where it reads or decodes
    files, `on_device=False` keeps it on the host. `lengths` is where examples are padded: what lies
    behind an example's length, along the second axis of what is gathered, is padding.
    """

    size: int
    arrays: Arrays
    gather: Callable[[Arrays, Any], dict[str, Any]] = gather_rows
    on_device: bool = True
    lengths: Int[np.ndarray, " size"] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(np.asarray(array).nbytes for array in self.arrays.values())


@runtime_checkable
class Source(Protocol):
    """Where data comes from: a frozen dataclass of plain settings, opened when needed."""

    def open(self, data_dir: Path) -> Dataset:
        """Opens the data; relative paths are below `data_dir`.

        Raises UserError naming the file where it is missing, truncated or corrupt.
        """
        ...
