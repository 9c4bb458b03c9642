"""The adding problem: two numbers to be remembered for long."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.dataset import Dataset
from research.errors import UserError


@dataclass(frozen=True)
class AddingProblem:
    """`length` numbers, uniform in [0, 1) and drawn by `seed`, of which two are marked, one in each
    half; their sum is wanted (Hochreiter and Schmidhuber, 1997, in the form of Arjovsky et al.,
    2016).

    A batch has inputs float32 (N, length, 2), the numbers and their marks, 0 or 1, and label
    float32 (N,). Always to answer 1 has a mean squared error of 1/6.
    """

    num_examples: int
    seed: int
    length: int = 100

    def __post_init__(self) -> None:
        if self.num_examples < 1 or self.length < 2 or self.seed < 0:
            raise UserError(
                "AddingProblem.num_examples must be at least 1, length at least 2 and seed at "
                f"least 0; got {self.num_examples}, {self.length} and {self.seed}."
            )

    def open(self, data_dir: Path) -> Dataset:
        """Nothing is read."""
        generator = np.random.default_rng(self.seed)
        shape = (self.num_examples, self.length)
        inputs = np.stack([generator.random(shape, np.float32), np.zeros(shape, np.float32)], -1)
        rows, half = np.arange(self.num_examples), self.length // 2
        for low, high in ((0, half), (half, self.length)):
            inputs[rows, generator.integers(low, high, self.num_examples), 1] = 1.0
        label = inputs.prod(-1).sum(-1)
        return Dataset(self.num_examples, {"inputs": inputs, "label": label})
