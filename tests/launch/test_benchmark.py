"""What the benchmark prints: a table, and the same numbers as JSON."""

import json

import pytest

from launch import benchmark
from research.errors import UserError
from tests.shrink import arguments


def test_prints_what_an_experiment_costs(tmp_path, capsys):
    given = arguments("vision/lenet_digits.py", tmp_path, tmp_path)
    given = [argument for argument in given if not argument.startswith("--workdir")]
    assert benchmark.run([*given, "--steps=6", "--repeats=2"]) == 0
    *table, line = capsys.readouterr().out.splitlines()
    results = json.loads(line)
    assert {text.split()[0] for text in table if text} >= results.keys()
    for name in ("steps_per_second", "bare_steps_per_second", "flops_per_step", "peak_bytes"):
        assert results[name] > 0, name
    assert results["examples_per_second"] == pytest.approx(16 * results["steps_per_second"])
    assert 0 <= results["data_wait"] < 1
    assert list(tmp_path.iterdir()) == [], "what it trains is not kept"

    with pytest.raises(UserError, match="at least two calls of 10"):
        benchmark.run([*given, "--steps=6", "--config.steps_per_call=10"])
