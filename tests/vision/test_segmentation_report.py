"""Scores of segments by their definitions, and of a model on whole images."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from research.data.augment import ToFloat
from research.data.dataset import Dataset
from research.errors import UserError
from research.vision import Segmentation, SegmentationReport, UNet
from research.vision.segmentation_report import information_score, rand_score, scores, thinned

RNG = np.random.default_rng(0)


def test_rand_score_is_the_f_score_of_pairs_of_pixels():
    """Counted over ordered pairs, a pixel with itself among them, as in the paper."""
    true, found = RNG.integers(3, size=40), RNG.integers(4, size=40)
    pairs = list(itertools.product(range(40), repeat=2))
    together = [(true[i] == true[j], found[i] == found[j]) for i, j in pairs]
    both = sum(a and b for a, b in together)
    recall, precision = both / sum(a for a, _ in together), both / sum(b for _, b in together)
    expected = 2 * precision * recall / (precision + recall)
    assert rand_score(true, found) == pytest.approx(expected)
    assert rand_score(true, 7 - true) == 1


def test_information_score_by_its_definition():
    true, found = RNG.integers(3, size=60), RNG.integers(4, size=60)
    joint = np.histogram2d(true, found, (3, 4))[0] / 60

    def entropy(p):
        return -sum(x * np.log(x) for x in np.ravel(p) if x > 0)

    first, second = entropy(joint.sum(0)), entropy(joint.sum(1))
    expected = 2 * (first + second - entropy(joint)) / (first + second)
    assert information_score(true, found) == pytest.approx(expected)
    assert information_score(true, 7 - true) == pytest.approx(1)


def test_borders_are_thinned_to_the_nearest_segment():
    cells = np.array([list("xxx...x"), list("xxx...x"), list(".......")]) == "x"
    segments = thinned(cells)
    np.testing.assert_array_equal(segments[:2, [0, 1, 2, 3, 5, 6]], [[1, 1, 1, 1, 2, 2]] * 2)
    np.testing.assert_array_equal(segments[2, [0, 6]], [1, 2])
    assert segments.min() == 1
    corners = np.eye(2, dtype=bool)
    assert set(thinned(corners)[np.diag_indices(2)]) == {1, 2}, "corners connect"
    np.testing.assert_array_equal(thinned(np.zeros((2, 2), bool)), 0)


def test_thick_membranes_are_no_error_and_gaps_are():
    labels = np.ones((1, 9, 21), int)
    labels[:, :, 10] = 0
    thick = np.zeros((1, 9, 21))
    thick[:, :, 7:13] = 0.8
    assert scores(thick, labels, 0.5) == (1, pytest.approx(1))
    merged = thick.copy()
    merged[:, 4, 7:13] = 0.3
    half = 9 * 10
    expected = 2 * (2 * half**2) / ((2 * half) ** 2 + 2 * half**2)
    assert scores(merged, labels, 0.5) == (pytest.approx(expected), pytest.approx(0))
    assert scores(merged, labels, 0.2)[0] == 1
    numbers = SegmentationReport(None, thresholds=(0.2, 0.5)).numbers(merged, labels)
    assert numbers["rand_score"] == pytest.approx(expected)
    assert numbers["best_rand_score"] == 1 and numbers["information_score"] == pytest.approx(0)
    assert numbers["best_information_score"] == pytest.approx(1)
    assert numbers["pixel_error"] == pytest.approx((8 * 5 + 1) / (9 * 21))


def test_images_without_cells_do_not_count():
    labels = np.zeros((2, 3, 3), int)
    labels[1, 1] = 1
    probabilities = 1.0 - labels
    assert scores(probabilities, labels, 0.5) == (1, 1)
    with pytest.raises(UserError, match="there are no cells"):
        scores(probabilities[:1], labels[:1], 0.5)


class Source:
    """Three pictures that are their own labels, but for one pixel in the middle of the last."""

    def open(self, data_dir):
        labels = np.ones((3, 8, 9), np.int32)
        labels[:, :, 4] = 0
        image = (255 * labels[..., None]).astype(np.uint8)
        image[2, 4, 4] = 255
        return Dataset(3, {"image": image, "label": labels})


class Middle:
    """Says what it sees, of all but the outermost pixels."""

    def logits(self, params, collections, batch):
        pixel = params["scale"] * (batch["image"][:, 1:-1, 1:-1] - 0.5)
        return jnp.concatenate([-pixel, pixel], -1)


def test_whole_images_go_through_the_model(tmp_path):
    report = SegmentationReport(Source(), (ToFloat(),))
    numbers = report(Middle(), {"params": {"scale": 10.0}}, None, tmp_path)
    assert set(numbers) == set(report.metric_names())
    assert numbers["pixel_error"] == pytest.approx(1 / (3 * 6 * 7))
    one_merged = 2 * 2 / (4 + 2)
    assert numbers["rand_score"] == pytest.approx((2 + one_merged) / 3)
    assert numbers["information_score"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="has no `logits`"):
        report(object(), {"params": {}}, None, tmp_path)
    with pytest.raises(UserError, match="thresholds must be probabilities"):
        SegmentationReport(Source(), thresholds=(1.0,))


def test_maps_with_labels_that_are_no_classes_are_refused_before_training(tmp_path):
    objective = Segmentation(UNet(num_classes=1, channels=(2, 4), padding="SAME"))
    with pytest.raises(UserError, match="num_classes = 1; the first that is no class is that of e"):
        SegmentationReport(Source()).check(objective, {"params": {}}, tmp_path)
