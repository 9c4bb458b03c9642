"""The copy and the adding problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.sources import AddingProblem, CopyMemory
from research.errors import UserError


def batch_of(source, tmp_path, rows=slice(None)):
    dataset = source.open(tmp_path)
    return dataset.gather(dataset.arrays, np.arange(dataset.size)[rows])


def test_what_is_told_first_is_asked_last(tmp_path):
    batch = batch_of(CopyMemory(3, seed=0, delay=7), tmp_path)
    assert batch["inputs"].shape == (3, 27, 10)
    assert batch["targets"].shape == (3, 27)
    np.testing.assert_array_equal(batch["inputs"].sum(-1), 1)
    told = batch["inputs"].argmax(-1)
    symbols = told[:, :10]
    assert 1 <= symbols.min() <= symbols.max() <= 8
    np.testing.assert_array_equal(told[:, 10:], [[0] * 6 + [9] + [0] * 10] * 3)
    np.testing.assert_array_equal(batch["targets"][:, :17], 0)
    np.testing.assert_array_equal(batch["targets"][:, 17:], symbols)


def test_two_numbers_are_marked_and_added(tmp_path):
    batch = batch_of(AddingProblem(200, seed=0, length=11), tmp_path)
    numbers, marks = batch["inputs"][..., 0], batch["inputs"][..., 1]
    assert 0 <= numbers.min() < numbers.max() < 1
    assert set(np.unique(marks)) == {0, 1}
    np.testing.assert_array_equal(marks[:, :5].sum(1), 1)
    np.testing.assert_array_equal(marks[:, 5:].sum(1), 1)
    assert marks.any(0).all(), "every place is marked now and then"
    np.testing.assert_allclose(batch["label"], (numbers * marks).sum(1), rtol=1e-6)
    assert np.mean((batch["label"] - 1) ** 2) == pytest.approx(1 / 6, abs=0.04)


@pytest.mark.parametrize("source", [CopyMemory, AddingProblem])
def test_the_seed_decides(source, tmp_path):
    first, again, other = (batch_of(source(5, seed), tmp_path) for seed in (1, 1, 2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert (first["inputs"] != other["inputs"]).any()


@pytest.mark.parametrize("source", [CopyMemory, AddingProblem])
def test_a_batch_is_the_same_on_the_device(source, tmp_path):
    dataset = source(5, seed=0).open(tmp_path)
    indices = np.asarray([3, 0])
    arrays = {name: jnp.asarray(array) for name, array in dataset.arrays.items()}
    found = jax.jit(dataset.gather)(arrays, jnp.asarray(indices))
    expected = dataset.gather(dataset.arrays, indices)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"CopyMemory\.num_examples and delay .* got 5, 0 and 0"):
        CopyMemory(5, seed=0, delay=0)
    with pytest.raises(UserError, match=r"AddingProblem\.num_examples .* got 0, 100 and 0"):
        AddingProblem(0, seed=0)
