"""A part of a source: its examples, and what a check of the data sees of it."""

import numpy as np
import pytest

from research.data.sources import Arrays, Digits, Subset, Text
from research.data.tokenizers import Byte
from research.errors import UserError
from research.vision import MLP, Classification


def rows_of(dataset, rows):
    return dataset.gather(dataset.arrays, np.asarray(rows))


@pytest.mark.parametrize(("start", "stop"), [(100, 200), (-50, None), (0, -7)])
def test_a_part_has_the_examples_between_its_places(start, stop, tmp_path):
    whole, part = (
        Digits("train").open(tmp_path),
        Subset(Digits("train"), start, stop).open(tmp_path),
    )
    places = np.arange(whole.size)[start:stop]
    assert part.size == len(places)
    expected = rows_of(whole, places)
    for name, array in rows_of(part, np.arange(part.size)).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_part_of_windows_has_windows_of_the_same_text(tmp_path):
    (tmp_path / "text.txt").write_text("a text of a few words to be cut into windows")
    source = Text("text.txt", Byte(), 5)
    whole, part = source.open(tmp_path), Subset(source, 10, 20).open(tmp_path)
    tokens = rows_of(part, [0, 9])["tokens"]
    np.testing.assert_array_equal(tokens, rows_of(whole, [10, 19])["tokens"])


def test_what_is_outside_a_part_is_not_checked(tmp_path):
    images, labels = np.zeros((6, 2, 2, 1), np.float32), np.array([0, 9, 1, 2, 0, 1], np.int32)
    images[0] = np.nan
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    source = Arrays({"image": "images.npy", "label": "labels.npy"})
    objective = Classification(MLP(3))
    objective.check_data(Subset(source, 2).open(tmp_path).arrays)
    with pytest.raises(UserError, match="no class is that of example 0"):
        objective.check_data(Subset(source, 1).open(tmp_path).arrays)
    with pytest.raises(UserError, match="image 0 has pixels that are NaN"):
        objective.check_data(Subset(source, 0).open(tmp_path).arrays)


def test_nothing_is_between_the_places(tmp_path):
    with pytest.raises(UserError, match=r"Subset\(start=5, stop=5\) of \d+ examples is empty"):
        Subset(Digits("train"), 5, 5).open(tmp_path)
