"""How settings lie on axes, and which of them matter."""

import math

import numpy as np
import pytest

from launch.reports.axes import axes_of, axis_of, log_ticks, ticks
from launch.reports.importance import MIN_TRIALS, axes_by_importance, importance_of
from launch.reports.values import short_names
from tests.launch.run_folders import trials


def axis(*values):
    rows = [{} if value is ... else {"a.b": value} for value in values]
    return axis_of("a.b", "b", trials(*rows).trials)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((1e-4, 3e-3, 1e-2), "log"),
        ((0.001, 0.004, 0.01), "log"),
        ((1e-3, 1e-2), "log"),
        ((16, 64, 256, 1024), "log"),
        ((32, 64, 128), "linear"),
        ((0.01, 0.05, 0.09, 0.11, 0.15, 0.2), "linear"),  # uniform, although it spans a decade
        ((-1.0, 0.5, 20.0), "linear"),
        ((5, 5), "linear"),
        ((0.0, 1e-4, 1e-3, 1e-2), "category"),
        ((None, 0.5, 1.0), "category"),
        (("adam", "sgd"), "category"),
        ((True, False), "category"),
        (([8, 16], (16, 32)), "category"),
        ((1.0, "1.5x", None), "category"),
        ((math.nan, 1.0), "category"),
        ((1, ...), "category"),
    ],
)
def test_the_kind_of_axis_follows_the_values(values, kind):
    assert axis(*values).kind == kind


def test_categories_are_ordered_and_told():
    found = axis("b10", 2.0, ..., "b9", None, 10, 2.0)
    assert found.categories == ("–", "none", "2", "10", "b9", "b10")
    assert found.places == (5, 2, 0, 4, 1, 3, 2)
    assert [found.told(place) for place in (5, 1)] == ["b10", "none"]


def test_long_categories_are_shortened_where_that_keeps_them_apart():
    alike = [f"{'x' * 30}{end}{'y' * 30}" for end in "ab"]
    assert list(axis(*alike).categories) == alike
    (short, _) = axis("the beginning of it, then the end", "z").categories
    assert short == "the beginni…en the end"


def test_settings_in_which_trials_agree_have_no_axis():
    rows = trials({"a": 1, "b": [1], "seed": 0}, {"a": 1, "b": [2], "seed": 1}).trials
    assert [found.path for found in axes_of(rows, ("seed",))] == ["b"]


def test_names_are_as_short_as_they_can_be():
    paths = ["optimizer.learning_rate", "optimizer.name", "data.transforms.1.scale", "a.b", "c.a.b"]
    assert short_names([*paths, "seed", "x.channels.0"]) == {
        "optimizer.learning_rate": "learning_rate",
        "optimizer.name": "optimizer.name",
        "data.transforms.1.scale": "scale",
        "a.b": "a.b",
        "c.a.b": "c.a.b",
        "seed": "seed",
        "x.channels.0": "channels.0",
    }


def test_ticks_are_few_and_round():
    assert log_ticks(2e-4, 3e-2) == pytest.approx([2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2])
    assert log_ticks(1e-12, 1.0) == pytest.approx([1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1])
    assert log_ticks(0.31, 0.35) == [0.31, 0.35]
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(0.13, 0.98) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert ticks(7, 7) == [7]
    for low, high in ((0.913, 0.914), (-3e5, 8e6), (1e-9, 2e-9), (1, 100)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 7 and low * 0.999 <= found[0] and found[-1] <= high * 1.001


def test_what_the_value_depends_on_is_important():
    generator = np.random.default_rng(0)
    rows = []
    for place in range(40):
        rate, name = 10 ** generator.uniform(-5, -1), ("adam", "sgd")[place % 2]
        value = -((math.log10(rate) + 3) ** 2) + 0.2 * (name == "adam")
        rows.append(
            {
                "rate": rate,
                "name": name,
                "size": int(generator.integers(10, 20)),
                "constant": [1],
                "seed": place % 3,
                "_value": value,
                "_state": "complete" if place else "diverged",
            }
        )
    found = importance_of(trials(*rows))
    shares = {axis.path: share for axis, share in zip(found.axes, found.shares, strict=True)}
    assert found.num_trials == 39 and not found.missing
    assert shares.keys() == {"rate", "name", "size", "seed"}
    assert sum(shares.values()) == pytest.approx(1)
    assert found.axes[0].path == "rate" and shares["rate"] > 0.8
    assert list(found.shares) == sorted(found.shares, reverse=True)
    assert found == importance_of(trials(*rows)), "the same at every call"
    assert [axis.path for axis in axes_by_importance(trials(*rows), found)] == [
        axis.path for axis in found.axes if axis.path != "seed"
    ]


def test_a_loss_that_spans_decades_counts_by_its_logarithm():
    rows = [
        {"rate": place / 3, "size": place % 5, "_value": 10.0 ** (place % 5) + place / 1e3}
        for place in range(20)
    ]
    found = importance_of(trials(*rows, mode="min"))
    assert found.of_logarithm and found.axes[0].path == "size" and found.shares[0] > 0.9
    assert not importance_of(trials(*rows, mode="max")).of_logarithm


def test_where_importance_says_nothing_it_says_why():
    def missing(*rows):
        found = importance_of(trials(*rows))
        assert not found.axes
        return found.missing

    many = [{"rate": float(place), "seed": place, "_value": 1.0 * place} for place in range(20)]
    assert f"at least {MIN_TRIALS} complete trials; there are 3" in missing(*many[:3])
    assert "only rate varies" in missing(*many)
    assert "none varies but the seed" in missing(*({**row, "rate": 1.0} for row in many))
    same = [{"a": place % 2, "b": place, "_value": 3.0} for place in range(20)]
    assert "the same value" in missing(*same)
