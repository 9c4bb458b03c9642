"""Numbers about a classifier that are no means over examples."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from research.data.augment import ToFloat
from research.data.sources import Digits
from research.vision import ClassificationReport
from research.vision.report import calibration_error


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.2, 0.8], [0.55, 0.45]])
    labels = np.array([0, 1, 1, 0])
    # Of ten bins: 0.9 and 0.95 with one right, 0.8 right, 0.55 right.
    gaps = [2 * abs((0.9 + 0.95) / 2 - 0.5), abs(0.8 - 1), abs(0.55 - 1)]
    assert calibration_error(probabilities, labels, 10) == pytest.approx(sum(gaps) / 4)
    sure = np.array([[1.0, 0.0]])
    assert calibration_error(sure, np.array([0])) == 0
    assert calibration_error(sure, np.array([1])) == 1


def test_classes_apart_and_the_area():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    report = ClassificationReport(source=None).numbers(probabilities, np.array([0, 0, 1, 1]))
    assert report["class_0_accuracy"] == 0.5
    assert report["class_1_accuracy"] == report["auc"] == 1
    assert report["smallest_class_accuracy"] == 0.5
    assert "class_2_accuracy" not in report, "there is no such example"


class Nearest:
    """Logits by the distance to each digit's mean image."""

    def logits(self, params, collections, batch):
        flat = batch["image"].reshape(len(batch["image"]), -1)
        return -((flat[:, None] - params["means"]) ** 2).sum(-1)


def test_reads_a_whole_data_set(tmp_path):
    images, labels = load_digits(return_X_y=True)
    means = np.stack([images[labels == k].mean(0) for k in range(10)]) / 255
    report = ClassificationReport(Digits("test"), (ToFloat(),))
    numbers = report(Nearest(), {"params": {"means": means.astype(np.float32)}}, None, tmp_path)
    assert set(report.metric_names()) < set(numbers)
    assert numbers["smallest_class_accuracy"] == min(
        numbers[f"class_{k}_accuracy"] for k in range(10)
    )
    assert 0.95 < numbers["auc"] <= 1
