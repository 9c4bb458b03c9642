"""Verdicts, and how results of several sessions and machines come together."""

import dataclasses
import json
import math

import pytest

from launch.reproduction.results import (
    Result,
    SeedResult,
    merge,
    read_results,
    verdict,
    write_results,
)
from research.engine.experiment import Reference
from research.errors import UserError

ACCURACY = Reference("Somebody 1998", "test/accuracy", 0.9, 0.05, "max")
LOSS = Reference("Somebody 1998", "test/loss", 2.0, 0.0, "min")


def seed(number, value=None, state="finished", **more):
    return SeedResult(number, state if value is None else "finished", value, **more)


def result(*seeds, name="tiny/a", reference=ACCURACY, device="cpu", fingerprint="f"):
    return Result(
        name=name,
        config=f"experiments/{name}.py",
        reference=reference,
        fingerprint=fingerprint,
        device=device,
        devices="1",
        processor="Abacus 3000",
        cores="2",
        versions={"python": "3.12.1"},
        revision="0123456789ab",
        date="1998-11-01",
        commands=("python -m research.train",),
        seeds=seeds,
    )


def of_values(*values, **more):
    return result(*(seed(number, value) for number, value in enumerate(values)), **more)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (of_values(0.85, 0.99), "reproduced"),
        (of_values(0.9), "reproduced"),
        (of_values(0.86, 0.88), "within tolerance"),
        (of_values(0.8, 0.82), "short by 0.09"),
        (of_values(1.5, 2.5, reference=LOSS), "reproduced"),
        (of_values(2.0123, reference=LOSS), "short by 0.0123"),
        (
            result(seed(0, 0.95), seed(1, state="diverged"), seed(2, 0.93)),
            "reproduced; 2 of 3 seeds, 1 diverged",
        ),
        (
            result(seed(0, 0.95), seed(1, state="unfinished"), seed(2, state="waiting")),
            "reproduced; 1 of 3 seeds, 1 not finished, 1 not run",
        ),
        (result(seed(0, state="diverged"), seed(1, state="diverged")), "diverged, 2 of 2 seeds"),
        (
            result(seed(0, state="diverged"), seed(1, state="waiting", reason="budget")),
            "diverged, 1 of 2 seeds; 1 diverged, 1 not run",
        ),
        (
            result(
                seed(0, state="waiting", reason="budget"),
                seed(1, state="unfinished", step=120, total_steps=880, reason="budget"),
            ),
            "not finished: budget; step 120 of 880; the same command goes on",
        ),
        (
            result(*(seed(n, state="waiting", reason="needs a GPU or TPU") for n in range(3))),
            "not run: needs a GPU or TPU",
        ),
        (result(seed(0, reason="test/accuracy is nan")), "no number: test/accuracy is nan"),
        (
            result(seed(0, 0.95), seed(1, reason="test/accuracy is nan")),
            "reproduced; 1 of 2 seeds, 1 without a number",
        ),
    ],
)
def test_verdict(given, expected):
    assert verdict(given) == expected


def test_written_results_are_read_again(tmp_path):
    file = tmp_path / "results.json"
    assert read_results(file) == ()
    results = (
        of_values(0.94, 0.96),
        result(seed(0, state="unfinished", step=3, total_steps=6), name="tiny/b", reference=LOSS),
    )
    write_results(file, results)
    assert read_results(file) == results
    summary = json.loads(file.read_text())["results"][0]["summary"]
    assert summary.pop("interval_95") == pytest.approx(12.7062 * 0.01, rel=1e-5)
    assert summary.pop("mean") == pytest.approx(0.95)
    assert summary == {"num_seeds": 2, "seconds_per_seed": None, "verdict": "reproduced"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("{}", "results: missing"),
        ('{"results": [3]}', "is no file of results"),
        ('{"results": [{"name": "tiny/a"}]}', "results.0.config: missing"),
        ('{"results": [{"nme": "tiny/a"}]}', "did you mean 'name'"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_results(file)


def test_results_accumulate():
    on_cpu, on_gpu = of_values(0.9), of_values(0.92, device="H100")
    other = of_values(0.5, name="tiny/b")
    assert merge([on_cpu, other], [on_gpu]) == (on_gpu, on_cpu, other)
    assert merge([], [other, on_cpu]) == (on_cpu, other), "by name"
    newer = of_values(0.91)
    assert merge([on_cpu], [newer]) == (newer,)


def test_fewer_seeds_do_not_replace_more():
    three, one = of_values(0.9, 0.91, 0.92), of_values(0.95)
    not_run = result(seed(0, state="waiting", reason="budget"))
    assert merge([three], [one]) == (three,)
    assert merge([three], [not_run]) == (three,)
    assert merge([one], [three]) == (three,)


def test_results_of_other_settings_go():
    not_run = result(seed(0, state="waiting", reason="budget"))
    changed = dataclasses.replace(not_run, fingerprint="g")
    earlier = [of_values(0.9, 0.91), of_values(0.92, device="H100")]
    assert merge(earlier, [changed]) == (changed,)


def test_earlier_results_are_held_against_todays_reference():
    harder = dataclasses.replace(ACCURACY, value=0.99, tolerance=0.0)
    not_run = result(seed(0, state="waiting", reason="budget"), reference=harder)
    merged = merge([of_values(0.95), of_values(0.96, device="H100")], [not_run])
    assert [verdict(each) for each in merged] == ["short by 0.03", "short by 0.04"]


def test_not_run_here_is_left_out_where_another_device_ran_it():
    on_gpu = of_values(0.92, device="H100")
    not_run = result(seed(0, state="waiting", reason="needs a GPU or TPU"))
    assert merge([on_gpu], [not_run]) == (on_gpu,)
    assert merge([not_run], [on_gpu]) == (on_gpu,)


def test_means():
    assert of_values(0.9, 0.92).mean_and_interval == pytest.approx((0.91, 0.127062), rel=1e-5)
    assert of_values(0.9).mean_and_interval == (0.9, None)
    assert result(seed(0, state="waiting")).mean_and_interval == (None, None)
    timed = result(seed(0, 0.9, seconds=10.0), seed(1, 0.9, seconds=20.0), seed(2, 0.9))
    assert timed.seconds == 15.0
    assert of_values(0.9).seconds is None
    assert math.isclose(of_values(0.9, 0.9, 0.9).mean_and_interval[0], 0.9)
