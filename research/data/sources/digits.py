"""The 8x8 handwritten digits that come with scikit-learn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.dataset import Dataset
from research.errors import UserError


@dataclass(frozen=True)
class Digits:
    """1797 grey 8x8 digits of the UCI optical recognition test set; nothing is read from disk.

    There is no official split: of the order np.random.default_rng(0).permutation(1797), the last
    359 (20 %) are the split "test" and the 1438 before them "train".

    A batch has image uint8 (N, 8, 8, 1), the 17 grey values spread over 0 to 255, and label
    int32 (N,) in [0, 10).
    """

    split: str

    def __post_init__(self) -> None:
        if self.split not in ("train", "test"):
            raise UserError(f"Digits.split must be 'train' or 'test', not {self.split!r}.")

    def open(self, data_dir: Path) -> Dataset:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        num_test = round(0.2 * len(labels))
        order = np.random.default_rng(0).permutation(len(labels))
        rows = order[-num_test:] if self.split == "test" else order[:-num_test]
        image = np.rint(pixels[rows] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return Dataset(len(rows), {"image": image, "label": labels[rows].astype(np.int32)})
