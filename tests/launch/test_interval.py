"""Means and their intervals, against numbers out of a table of Student's t."""

import math

import pytest

from launch.interval import mean_and_interval


def test_interval_is_students():
    # t for 97.5 % and 2 degrees of freedom is 4.302653; the standard deviation is 1.
    assert mean_and_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.302653 / math.sqrt(3)))
    # For 1 degree it is 12.7062.
    assert mean_and_interval([0.0, 2.0]) == pytest.approx((1.0, 12.7062), rel=1e-5)
    assert mean_and_interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_one_number_has_no_interval():
    assert mean_and_interval([0.25]) == (0.25, None)
