"""Means over seeds and their confidence intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from launch.reports.curve_charts import mean_curve
from launch.reports.curves import Curve
from launch.reports.seeds import has_repeats, over_seeds, student_factor, summarize
from launch.reports.values import with_error
from tests.launch.run_folders import trials


def test_the_interval_is_students():
    # By hand: mean 3, variance 2.5, t(0.975, 4) = 2.776445.
    found = summarize([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.n, found.mean, found.smallest, found.largest) == (5, 3.0, 1.0, 5.0)
    assert found.std == pytest.approx(math.sqrt(2.5))
    assert found.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    for n in (2, 3, 10, 100):
        values = np.random.default_rng(n).normal(size=n)
        known = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert summarize(values.tolist()).interval == pytest.approx((known.low, known.high))
    assert student_factor(2) == pytest.approx(12.7062 / math.sqrt(2), rel=1e-5)


def test_one_value_tells_nothing_of_the_spread():
    found = summarize([0.7])
    assert (found.n, found.mean, found.std, found.interval, found.half_width) == (
        *(1, 0.7, None),
        *(None, None),
    )
    assert summarize([]) is None
    assert summarize([2.0, 2.0]).interval == (2.0, 2.0)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [summarize(generator.normal(7, 3, 4).tolist()).interval for _ in range(2000)]
    held = np.mean([low <= 7 <= high for low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.015)


def test_trials_that_differ_by_seed_only_are_one_configuration():
    found = over_seeds(
        trials(
            {"rate": 0.1, "seed": 0, "_value": 0.5},
            {"seed": 1, "rate": 0.1, "_value": 0.7},
            {"rate": 0.1, "seed": 2, "_state": "diverged", "_value": 0.9},
            {"rate": 0.2, "seed": 0, "_value": 0.8},
            {"rate": 0.2, "seed": 1, "_value": math.nan},
            {"rate": 0.3, "seed": 0, "_state": "running", "_value": 0.99},
            {"rate": None, "seed": 0, "_value": 0.1},
        )
    )
    assert [each.settings for each in found] == [{"rate": x} for x in (0.2, 0.1, None, 0.3)]
    assert [each.summary and each.summary.n for each in found] == [1, 2, 1, None]
    assert [each.without_value for each in found] == [1, 1, 0, 1]
    assert found[1].summary.mean == pytest.approx(0.6)
    assert [trial.number for trial in found[1].trials] == [0, 1, 2]
    assert has_repeats(found)


def test_less_is_first_where_less_is_better():
    rows = [{"rate": rate, "_value": rate} for rate in (0.2, 0.1, 0.3)]
    found = over_seeds(trials(*rows, mode="min"))
    assert [each.settings["rate"] for each in found] == [0.1, 0.2, 0.3]
    assert not has_repeats(found)


def test_the_same_seed_again_makes_no_interval_narrower():
    rows = [{"seed": seed, "_value": value} for seed, value in ((0, 1.0), (0, 1.0), (1, 3.0))]
    (found,) = over_seeds(trials(*rows))
    assert found.summary == summarize([1.0, 3.0])


def test_settings_of_other_types_are_other_configurations():
    rows = [{"a": value, "_value": 1.0} for value in (1, True, "1", [1], None, [2])]
    assert len(over_seeds(trials(*rows))) == len(rows)


def test_a_mean_curve_is_the_mean_at_every_step():
    values = np.random.default_rng(0).normal(size=(3, 4))
    curves = [Curve(np.arange(4) * 10, row) for row in values]
    steps, mean, half = mean_curve(curves)
    assert steps.tolist() == [0, 10, 20, 30]
    for place in range(4):
        found = summarize(values[:, place].tolist())
        assert (mean[place], half[place]) == pytest.approx((found.mean, found.half_width))


def test_a_mean_curve_goes_as_far_as_all_do():
    long = Curve(np.array([0, 10, 20, 30]), np.array([0.0, 1.0, np.nan, 3.0]))
    short = Curve(np.array([5, 20]), np.array([0.5, 2.0]))
    steps, mean, half = mean_curve([long, short])
    assert steps.tolist() == [5, 10, 20]
    np.testing.assert_allclose(mean, [0.5, 1.0, 2.0])
    np.testing.assert_allclose(half, 0, atol=1e-12)
    assert mean_curve([short])[2] is None


@pytest.mark.parametrize(
    ("mean", "half", "told"),
    [
        (0.99314, 0.00237, "0.9931 ± 0.0024"),
        (0.9, None, "0.9"),
        (0.9, 0.0, "0.9 ± 0"),
        (123.456, 12.3, "123 ± 12"),
        (1.5, 0.123, "1.50 ± 0.12"),
        (2e-9, 1e-10, "2e-09 ± 1e-10"),
    ],
)
def test_means_are_told_to_what_is_uncertain(mean, half, told):
    assert with_error(mean, half) == told
