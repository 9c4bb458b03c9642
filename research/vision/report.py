"""What a mean over examples cannot say about a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from research.data.dataset import Source
from research.engine.objective import HasCheckData, Objective, Variables
from research.errors import UserError
from research.vision.probabilities import probabilities_of

_BATCH_SIZE = 500


@dataclass(frozen=True)
class ClassificationReport:
    """Accuracy of each class, calibration error and area under the ROC curve on a data set.

    `transforms` are the evaluation's. The calibration error is the mean gap between the
    probability of the most probable class and how often it is right, over `num_bins` bins of equal
    width (Naeini et al. 2015; Guo et al. 2017). The area is of one class against the rest, the mean
    over classes.
    """

    source: Source
    transforms: tuple[Any, ...] = ()
    num_bins: int = 15

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise UserError(f"num_bins = {self.num_bins}: must be at least 1")

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`calibration_error`, `auc`, `smallest_class_accuracy`, and `class_0_accuracy`, …

        Raises UserError where the objective has no `logits`.
        """
        dataset = self.source.open(Path(data_dir))
        answer = probabilities_of(objective, self.transforms, self)
        probabilities = jax.jit(lambda *arguments: answer(*arguments)[0])
        found, labels = [], []
        for start in range(0, dataset.size, _BATCH_SIZE):
            indices = np.arange(start, min(start + _BATCH_SIZE, dataset.size))
            batch = dataset.gather(dataset.arrays, indices)
            labels.append(np.asarray(batch["label"]))
            found.append(np.asarray(probabilities(variables, batch)))
        return self.numbers(np.concatenate(found), np.concatenate(labels))

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit the classifier."""
        dataset = self.source.open(Path(data_dir))
        batch = dataset.gather(dataset.arrays, np.arange(min(2, dataset.size)))
        if "label" not in batch:
            raise UserError("source: its examples have no `label`")
        if isinstance(objective, HasCheckData):
            objective.check_data(dataset.arrays)
        jax.eval_shape(probabilities_of(objective, self.transforms, self), variables, batch)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns for every classifier."""
        return ("calibration_error", "auc", "smallest_class_accuracy")

    def numbers(
        self,
        probabilities: Float[np.ndarray, "examples classes"],
        labels: Int[np.ndarray, " examples"],
    ) -> dict[str, float]:
        """The numbers of examples with these probabilities; classes without any are left out."""
        from sklearn.metrics import recall_score, roc_auc_score

        classes = np.unique(labels)
        predictions = probabilities.argmax(-1)
        recalls = recall_score(labels, predictions, labels=classes, average=None, zero_division=0)
        areas = [
            roc_auc_score(labels == k, probabilities[:, k]) for k in classes if len(classes) > 1
        ]
        return {
            "calibration_error": calibration_error(probabilities, labels, self.num_bins),
            "auc": float(np.mean(areas)) if areas else float("nan"),
            "smallest_class_accuracy": float(min(recalls)),
            **{f"class_{k}_accuracy": float(x) for k, x in zip(classes, recalls, strict=True)},
        }


def calibration_error(
    probabilities: Float[np.ndarray, "examples classes"],
    labels: Int[np.ndarray, " examples"],
    num_bins: int = 15,
) -> float:
    """The expected calibration error, in [0, 1]."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(labels))
