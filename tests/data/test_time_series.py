"""Windows of time series: which rows they hold, and what is said of files that are wrong."""

import csv
import logging

import jax
import numpy as np
import pytest

from research.data.sources import TimeSeries
from research.errors import UserError
from tests.data.test_real_data import need

VALUES = np.stack([np.arange(20.0), 100 - np.arange(20.0) ** 2], 1)


def write(folder, values=VALUES, **cells):
    """series.csv with a column of dates; keywords are cells by row and column, `r3_1`."""
    lines = [["date", "load", "temperature"]]
    lines += [[f"2020-01-{i + 1}", *map(str, row)] for i, row in enumerate(values)]
    for place, cell in cells.items():
        row, column = map(int, place[1:].split("_"))
        lines[row + 1][column + 1] = cell
    (folder / "series.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    return folder


def series(**settings):
    return TimeSeries(**{"file": "series.csv", "input_length": 4, "horizon": 3} | settings)


def batch_of(dataset, *indices):
    return dataset.gather(dataset.arrays, np.asarray(indices))


def test_there_is_a_window_at_every_row(tmp_path):
    dataset = series().open(write(tmp_path))
    assert dataset.size == 20 - 4 - 3 + 1
    batch = batch_of(dataset, 0, 13)
    np.testing.assert_array_equal(batch["inputs"], [VALUES[:4], VALUES[13:17]])
    np.testing.assert_array_equal(batch["targets"], [VALUES[4:7], VALUES[17:20]])
    assert {x.dtype for x in batch.values()} == {np.dtype(np.float32)}
    assert dataset.on_device
    traced = jax.jit(dataset.gather)(dict(dataset.arrays), np.asarray([0, 13]))
    for name, values in batch.items():
        np.testing.assert_array_equal(traced[name], values)


def test_targets_are_from_start_up_to_stop_and_inputs_may_lie_before(tmp_path):
    write(tmp_path)
    dataset = series(start=10, stop=15).open(tmp_path)
    assert dataset.size == 3, "targets at 10, 11 and 12"
    batch = batch_of(dataset, 0, 2)
    np.testing.assert_array_equal(batch["inputs"], [VALUES[6:10], VALUES[8:12]])
    np.testing.assert_array_equal(batch["targets"], [VALUES[10:13], VALUES[12:15]])
    same = series(start=-10, stop=-5).open(tmp_path)
    for name, array in dataset.arrays.items():
        np.testing.assert_array_equal(same.arrays[name], array)
    few = series(start=2, stop=8).open(tmp_path)
    assert few.size == 2
    np.testing.assert_array_equal(batch_of(few, 0)["inputs"][0], VALUES[:4])


def test_columns_are_those_named_in_their_order(tmp_path):
    dataset = series(columns=("temperature",)).open(write(tmp_path))
    np.testing.assert_array_equal(batch_of(dataset, 1)["inputs"][0], VALUES[1:5, 1:])


def test_what_comes_later_changes_nothing_in_training(tmp_path):
    settings = {"stop": 12, "normalize_by": (0, 12)}
    before = series(**settings).open(write(tmp_path)).arrays
    np.testing.assert_allclose(before["series"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(before["series"].std(0), 1, rtol=1e-6)
    assert len(before["series"]) == 12
    later = series(start=12, normalize_by=(0, 12)).open(tmp_path)
    scaled = (VALUES - VALUES[:12].mean(0)) / VALUES[:12].std(0)
    np.testing.assert_allclose(batch_of(later, 0)["targets"][0], scaled[12:15], rtol=1e-6)
    after = series(**settings).open(write(tmp_path, np.concatenate([VALUES[:12], 9 * VALUES[12:]])))
    for name, array in before.items():
        np.testing.assert_array_equal(after.arrays[name], array)


@pytest.mark.parametrize(
    ("start", "stop", "size"), [(0, 8640, 8209), (8640, 11_520, 2785), (11_520, 14_400, 2785)]
)
def test_windows_of_etth1_are_the_literatures(real_data, start, stop, size):
    """8640 - 336 - 96 + 1 windows of training, 2880 - 96 + 1 of either evaluation."""
    folder = need(real_data, "ett/ETTh1.csv")
    dataset = TimeSeries(
        "ett/ETTh1.csv", 336, 96, start=start, stop=stop, normalize_by=(0, 8640)
    ).open(folder)
    assert dataset.size == size
    with open(folder / "ett" / "ETTh1.csv") as file:
        rows = np.array([row[1:] for row in list(csv.reader(file))[1:]], np.float64)
    scaled = (rows - rows[:8640].mean(0)) / rows[:8640].std(0)
    first, last = batch_of(dataset, 0, size - 1)["targets"]
    begin = max(start, 336)
    np.testing.assert_allclose(first, scaled[begin : begin + 96], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, scaled[stop - 96 : stop], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["", "NaN", "inf", "n/a", "1;5"])
def test_a_cell_that_is_no_number_is_named(tmp_path, cell):
    write(tmp_path, r7_1=cell)
    message = rf"series.csv, line 9, column 'temperature': '{cell}' is not a finite number"
    with pytest.raises(UserError, match=message):
        series().open(tmp_path)
    assert series(columns=("load",)).open(tmp_path).size == 14


def test_windows_with_gaps_are_skipped_and_counted(tmp_path, caplog):
    write(tmp_path, r7_1="", r0_0="?")
    with caplog.at_level(logging.WARNING):
        dataset = series(missing="skip", normalize_by=(0, 12)).open(tmp_path)
    # Rows 1 to 7 hold row 7, and so on; windows from 8 on are whole.
    assert dataset.arrays["starts"].tolist() == [8, 9, 10, 11, 12, 13]
    assert np.isfinite(batch_of(dataset, *range(6))["inputs"]).all()
    there = np.delete(VALUES[:12, 1], 7)
    expected = (VALUES[8:12, 1] - there.mean()) / there.std()
    np.testing.assert_allclose(batch_of(dataset, 0)["inputs"][0, :, 1], expected, rtol=1e-6)
    assert "2 cells are not finite numbers, the first " in caplog.text
    assert "line 2, column 'load': '?'" in caplog.text
    assert "8 of 14 windows have a missing value" in caplog.text


def test_gaps_are_interpolated(tmp_path, caplog):
    write(tmp_path, r7_0="", r8_0="", r19_0="", r0_1="")
    with caplog.at_level(logging.WARNING):
        dataset = series(missing="interpolate").open(tmp_path)
    expected = VALUES.copy()
    expected[19, 0], expected[0, 1] = 18, VALUES[1, 1]
    assert dataset.size == 14
    np.testing.assert_allclose(dataset.arrays["series"], expected, rtol=1e-6)
    assert "4 cells are not finite numbers" in caplog.text


def test_gaps_that_cannot_be_closed(tmp_path):
    write(tmp_path, **{f"r{i}_0": "" for i in range(20)})
    with pytest.raises(UserError, match="has no number in these rows"):
        series(missing="interpolate").open(tmp_path)
    with pytest.raises(UserError, match="no window of 7 rows is without a missing value"):
        series(missing="skip").open(tmp_path)


def test_files_that_do_not_fit(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match=r"no column 'temprature'; did you mean 'temperature'"):
        series(columns=("temprature",)).open(tmp_path)
    with pytest.raises(UserError, match=r"line 2, column 'date': '2020-01-1' is not a finite .*na"):
        series(time_column="time").open(tmp_path)
    with pytest.raises(UserError, match=r"from row 0 up to 20 there are 20 rows; .*18.* 3 has 21"):
        series(input_length=18).open(tmp_path)
    with pytest.raises(UserError, match=r"start and stop: .*series.csv has 20 rows, .* up to 21"):
        series(stop=21).open(tmp_path)
    with pytest.raises(UserError, match=r"normalize_by: .*series.csv has 20 rows"):
        series(normalize_by=(0, 30)).open(tmp_path)
    constant = np.where(np.arange(20)[:, None] < 9, 0.1, VALUES)
    write(tmp_path, np.stack([VALUES[:, 0], constant[:, 1]], 1))
    with pytest.raises(UserError, match="column 'temperature' has no two different values"):
        series(normalize_by=(0, 9)).open(tmp_path)
    (tmp_path / "series.csv").write_text("date\n2020\n")
    with pytest.raises(UserError, match="has no column but 'date'"):
        series().open(tmp_path)
    (tmp_path / "series.csv").write_text("date,x\n2020,1\n2021,2,3\n")
    with pytest.raises(UserError, match="line 3 has 3 values for 2 columns"):
        series().open(tmp_path)
    (tmp_path / "series.csv").write_text("date,x\n")
    with pytest.raises(UserError, match="has 0 rows"):
        series().open(tmp_path)


def test_an_empty_row_is_a_gap_and_no_end(tmp_path):
    (tmp_path / "series.csv").write_text("x,y\n1,2\n,\n3,4\n\n")
    with pytest.raises(UserError, match="line 3, column 'x': ''"):
        series(input_length=1, horizon=1).open(tmp_path)


def test_settings_that_cannot_be():
    with pytest.raises(UserError, match="must be at least 1; got 4 and 0"):
        series(horizon=0)
    with pytest.raises(UserError, match="must be 'stop', 'skip' or 'interpolate', not 'drop'"):
        series(missing="drop")
    with pytest.raises(UserError, match="delimiter must be one character"):
        series(delimiter="")
