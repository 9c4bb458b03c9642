"""How well a segmentation finds the cells that membranes part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.data.dataset import Source
from research.engine.objective import Batch, HasCheckData, Objective, Variables
from research.errors import UserError
from research.vision.probabilities import probabilities_of
from research.vision.unet import crop


@dataclass(frozen=True)
class SegmentationReport:
    """The Rand and the information score of cells, as in the ISBI 2012 challenge (Arganda-Carreras
    et al. 2015), and the pixel error.

    Class 0 is the membrane, all other classes are cells. A pixel is taken for membrane where its
    probability of class 0 is above a threshold. Segments are the connected regions (by edges, not
    corners) of the other pixels; then borders are thinned to nothing: every pixel of membrane
    goes to the nearest segment. (The challenge's program leaves them one pixel wide.) True segments
    are the connected regions of the labels' cells; pixels whose label is membrane do not count.
    Scores are means over images.

    Whole images go through the model one at a time, after the evaluation's `transforms`. Where its
    output is smaller, it stands for their middle, and only that counts.
    """

    source: Source
    transforms: tuple[Any, ...] = ()
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 <= threshold < 1 for threshold in self.thresholds):
            raise UserError(
                "SegmentationReport.thresholds must be probabilities of at least 0 and below 1; "
                f"got {self.thresholds}"
            )

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`rand_score`, `information_score` and `pixel_error` at a threshold of 0.5, and
        `best_rand_score` and `best_information_score`, each at that of `thresholds` at which its
        mean over these very images is largest: what the challenge reports, and too good.

        Raises UserError where the objective has no `logits`.
        """
        dataset = self.source.open(Path(data_dir))
        membrane = jax.jit(self._membrane_of(objective))
        found = [
            membrane(variables, dataset.gather(dataset.arrays, np.arange(i, i + 1)))
            for i in range(dataset.size)
        ]
        probabilities, labels = (np.stack(parts) for parts in zip(*found, strict=True))
        return self.numbers(probabilities, labels)

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit the model."""
        dataset = self.source.open(Path(data_dir))
        batch = dataset.gather(dataset.arrays, np.arange(1))
        if "label" not in batch or batch["label"].ndim != 3:
            raise UserError("source: its examples have no map of classes, `label`")
        if isinstance(objective, HasCheckData):
            objective.check_data(dataset.arrays)
        jax.eval_shape(self._membrane_of(objective), variables, batch)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return (
            "rand_score",
            "information_score",
            "pixel_error",
            "best_rand_score",
            "best_information_score",
        )

    def numbers(
        self,
        membrane: Float[np.ndarray, "images height width"],
        labels: Int[np.ndarray, "images height width"],
    ) -> dict[str, float]:
        """The numbers of images with these probabilities of membrane."""
        middle = scores(membrane, labels, 0.5)
        best = np.max([scores(membrane, labels, t) for t in self.thresholds], 0)
        return {
            "rand_score": middle[0],
            "information_score": middle[1],
            "pixel_error": float(np.mean((membrane > 0.5) != (labels == 0))),
            "best_rand_score": float(best[0]),
            "best_information_score": float(best[1]),
        }

    def _membrane_of(self, objective: Objective) -> Callable[[Variables, Batch], Any]:
        answer = probabilities_of(objective, self.transforms, self)

        def membrane_of(variables: Variables, batch: Batch) -> tuple[Array, Array]:
            probabilities, batch = answer(variables, batch)
            return probabilities[0, ..., 0], crop(batch["label"], probabilities.shape[1:3])[0]

        return membrane_of


def scores(
    membrane: Float[np.ndarray, "images height width"],
    labels: Int[np.ndarray, "images height width"],
    threshold: float,
) -> tuple[float, float]:
    """The means over images, but those without cells, of `rand_score` and `information_score` of
    the segments at a threshold of the probability of membrane."""
    from scipy.ndimage import label

    found = []
    for probability, classes in zip(membrane, labels, strict=True):
        cells = classes > 0
        if cells.any():
            true, segments = label(cells)[0][cells], thinned(probability <= threshold)[cells]
            found.append((rand_score(true, segments), information_score(true, segments)))
    if not found:
        raise UserError("SegmentationReport: all labels are 0, membrane; there are no cells")
    rand, information = np.mean(found, 0)
    return float(rand), float(information)


def thinned(cells: Bool[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """The number of the connected region of cells to which each pixel belongs or is nearest."""
    from scipy.ndimage import distance_transform_edt, label

    segments, count = label(cells)
    if count == 0:
        return segments
    nearest = distance_transform_edt(~cells, return_distances=False, return_indices=True)
    return segments[tuple(nearest)]


def rand_score(true: Int[np.ndarray, " pixels"], found: Int[np.ndarray, " pixels"]) -> float:
    """2 Σ n_ij² / (Σ n_i² + Σ n_j²), in [0, 1], where n_ij pixels are of true segment i and found
    segment j: the F-score of whether two pixels are of one segment (V_Rand with α = 1/2)."""
    from sklearn.metrics.cluster import contingency_matrix

    both = contingency_matrix(true, found, sparse=True, dtype=np.float64)
    either = sum((np.asarray(both.sum(axis)) ** 2).sum() for axis in (0, 1))
    return float(2 * (both.data**2).sum() / either)


def information_score(true: Int[np.ndarray, " pixels"], found: Int[np.ndarray, " pixels"]) -> float:
    """2 I(true; found) / (H(true) + H(found)), in [0, 1]: the mutual information of a pixel's two
    segments by their mean entropy (V_Info with α = 1/2)."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(true, found))
