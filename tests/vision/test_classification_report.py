"""Numbers about a classifier that are no means over examples."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import softmax
from sklearn.datasets import load_digits

from research.data.augment import ToFloat
from research.data.dataset import Dataset
from research.data.sources import Digits
from research.errors import UserError
from research.vision import Classification, ClassificationReport
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
    with pytest.raises(UserError, match="num_bins = 0: must be at least 1"):
        ClassificationReport(source=None, num_bins=0)


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


class Pixels(nn.Module):
    """Two logits, which are the two pixels."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, images, train=False):
        bias = self.param("bias", nn.initializers.zeros, (2,))
        return jnp.asarray(images).reshape(len(images), 2) + bias


@dataclass(frozen=True)
class Held:
    """A source of what it holds."""

    image: np.ndarray
    label: np.ndarray

    def open(self, data_dir):
        return Dataset(len(self.label), {"image": self.image, "label": self.label})


@pytest.mark.parametrize("loss_function", ["softmax", "sigmoid", "focal"])
def test_probabilities_are_those_of_the_loss_function(loss_function, tmp_path):
    logits = np.array([[2.0, 1.5], [-1.0, -3.0], [0.5, 4.0]], np.float32)
    labels = np.array([0, 0, 1], np.int32)
    report = ClassificationReport(Held(logits.reshape(3, 1, 2, 1), labels))
    objective = Classification(Pixels(), loss_function=loss_function)
    numbers = report(objective, {"params": {"bias": np.zeros(2, np.float32)}}, None, tmp_path)
    expected = softmax(logits, -1) if loss_function == "softmax" else 1 / (1 + np.exp(-logits))
    assert numbers["calibration_error"] == pytest.approx(calibration_error(expected, labels))


def test_examples_that_could_not_be_measured_are_refused_before_training(tmp_path):
    objective, variables = Classification(Pixels()), {"params": {"bias": np.zeros(2, np.float32)}}
    images, labels = np.zeros((4, 1, 2, 1), np.float32), np.array([0, 1, 1, 0], np.int32)
    report = ClassificationReport(Held(images, labels))
    report.check(objective, variables, tmp_path)
    labels[3] = 2
    with pytest.raises(UserError, match="no class is that of example 3"):
        report.check(objective, variables, tmp_path)
    images[2] = np.nan
    with pytest.raises(UserError, match="image 2 has pixels that are NaN or infinite"):
        report.check(objective, variables, tmp_path)
