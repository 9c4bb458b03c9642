"""What a mean over examples cannot say about a regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from research.data.dataset import Source
from research.engine.objective import Objective, Variables, split_variables
from research.errors import UserError
from research.sequence.sequence_regression import SequenceRegression

BATCH_SIZE = 250


@dataclass(frozen=True)
class RegressionReport:
    """Pearson's and Spearman's correlation of predictions and labels on a data set, in [-1, 1]; NaN
    where either are all the same."""

    source: Source

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`pearson` and `spearman`."""
        from scipy.stats import rankdata

        dataset = self.source.open(Path(data_dir))
        predict = jax.jit(_checked(objective).predictions)
        found, labels = [], []
        for start in range(0, dataset.size, BATCH_SIZE):
            # The last batch is filled up, so that one program serves all.
            places = np.minimum(np.arange(start, start + BATCH_SIZE), dataset.size - 1)
            batch: Any = dataset.gather(dataset.arrays, places)
            found.append(np.asarray(predict(*split_variables(variables), batch)))
            labels.append(np.asarray(batch["label"]))
        x, y = (np.concatenate(parts)[: dataset.size] for parts in (found, labels))
        return {"pearson": _correlation(x, y), "spearman": _correlation(rankdata(x), rankdata(y))}

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit the model."""
        dataset = self.source.open(Path(data_dir))
        batch: Any = dataset.gather(dataset.arrays, np.arange(min(2, dataset.size)))
        if "label" not in batch:
            raise UserError("source: its examples have no `label`")
        jax.eval_shape(_checked(objective).predictions, *split_variables(variables), batch)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return "pearson", "spearman"


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = (part - part.mean(dtype=np.float64) for part in (x, y))
    scale = np.sqrt(np.square(x).sum() * np.square(y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def _checked(objective: Objective) -> SequenceRegression:
    if not isinstance(objective, SequenceRegression):
        raise UserError(
            f"RegressionReport measures sequence.SequenceRegression, not {type(objective).__name__}"
        )
    return objective
