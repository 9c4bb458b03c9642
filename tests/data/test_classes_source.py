"""Some classes of a source, and few examples of each."""

import numpy as np
import pytest

from research.data.sources import Arrays, Classes, Digits, Subset
from research.errors import UserError

DIGITS = Digits("train")


def rows_of(dataset):
    return dataset.gather(dataset.arrays, np.arange(dataset.size))


def test_labels_count_the_classes_in_their_order(tmp_path):
    everything, some = rows_of(DIGITS.open(tmp_path)), Classes(DIGITS, (7, 3)).open(tmp_path)
    kept = np.isin(everything["label"], (3, 7))
    assert some.size == kept.sum()
    found = rows_of(some)
    np.testing.assert_array_equal(found["image"], everything["image"][kept])
    np.testing.assert_array_equal(np.array((7, 3))[found["label"]], everything["label"][kept])
    assert found["label"].dtype == np.int32


def test_few_examples_of_each_are_drawn_by_the_seed(tmp_path):
    def images(seed):
        few = rows_of(Classes(DIGITS, (2, 5, 9), 4, seed).open(tmp_path))
        np.testing.assert_array_equal(np.bincount(few["label"]), (4, 4, 4))
        return few["image"]

    np.testing.assert_array_equal(images(0), images(0))
    assert not np.array_equal(images(0), images(1))


def test_a_part_of_a_source_has_classes_too(tmp_path):
    part = Subset(DIGITS, 100, 200)
    expected = rows_of(part.open(tmp_path))
    found = rows_of(Classes(part, (4,)).open(tmp_path))
    np.testing.assert_array_equal(found["image"], expected["image"][expected["label"] == 4])


def test_classes_that_there_are_not(tmp_path):
    for settings, message in (
        ({"classes": ()}, "must name different classes"),
        ({"classes": (1, 1)}, "must name different classes"),
        ({"classes": (1,), "examples_per_class": 0}, "examples_per_class must be at least 1"),
        ({"classes": (1,), "seed": -1}, "seed must be at least 0"),
    ):
        with pytest.raises(UserError, match=message):
            Classes(DIGITS, **settings)
    with pytest.raises(UserError, match="class 10 has 0 examples in the source, not 1"):
        Classes(DIGITS, (1, 10)).open(tmp_path)
    with pytest.raises(UserError, match="class 1 has 145 examples in the source, not 500"):
        Classes(DIGITS, (1,), 500).open(tmp_path)
    np.save(tmp_path / "images.npy", np.zeros((3, 2, 2, 1), np.uint8))
    with pytest.raises(UserError, match="Arrays has no array `label`"):
        Classes(Arrays({"image": "images.npy"}), (1,)).open(tmp_path)
