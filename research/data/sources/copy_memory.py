"""The copy problem: symbols to be remembered for long."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.dataset import Dataset
from research.errors import UserError

NUM_SYMBOLS, NUM_RECALLED = 8, 10
BLANK, GO = 0, NUM_SYMBOLS + 1


@dataclass(frozen=True)
class CopyMemory:
    """Ten symbols of eight, drawn by `seed`, then blanks, and `delay` steps later a sign to give
    them back (Hochreiter and Schmidhuber, 1997, in the form of Arjovsky et al., 2016).

    A batch has inputs float32 (N, delay + 20, 10), one-hot: a blank, the symbols, the sign; and
    targets int32 (N, delay + 20), blank (0) at all steps but the last ten, which are the symbols.
    Without a memory the best cross-entropy is 10 ln 8 / (delay + 20) nats a step.
    """

    num_examples: int
    seed: int
    delay: int = 100

    def __post_init__(self) -> None:
        if self.num_examples < 1 or self.delay < 1 or self.seed < 0:
            raise UserError(
                "CopyMemory.num_examples and delay must be at least 1 and seed at least 0; got "
                f"{self.num_examples}, {self.delay} and {self.seed}."
            )

    def open(self, data_dir: Path) -> Dataset:
        """Nothing is read."""
        generator = np.random.default_rng(self.seed)
        shape = self.num_examples, NUM_RECALLED
        drawn = generator.integers(1, NUM_SYMBOLS + 1, shape, np.uint8)
        blank_and_go = np.tile(np.asarray([BLANK, GO], np.uint8), (self.num_examples, 1))
        symbols = np.concatenate([drawn, blank_and_go], 1)
        return Dataset(self.num_examples, {"symbols": symbols}, CopyBatch(self.delay))


@dataclass(frozen=True)
class CopyBatch:
    """Lays symbols, blanks and the sign out in time."""

    delay: int

    def __call__(self, arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
        symbols = arrays["symbols"][indices].astype(np.int32)
        recalled = list(range(NUM_RECALLED))
        blank, go = NUM_RECALLED, NUM_RECALLED + 1  # their columns
        told = [*recalled, *[blank] * (self.delay - 1), go, *[blank] * NUM_RECALLED]
        asked = [*[blank] * (self.delay + NUM_RECALLED), *recalled]
        one_hot = symbols[:, np.asarray(told)][..., None] == np.arange(NUM_SYMBOLS + 2)
        return {
            "inputs": one_hot.astype(np.float32),
            "targets": symbols[:, np.asarray(asked)],
        }
