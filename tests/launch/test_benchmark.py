"""What the benchmark prints: a table, and the same numbers as JSON."""

import json

import pytest

from launch import benchmark, sweep_benchmark
from research.errors import UserError
from tests.launch.sweeps_in_tests import CONFIG, make_study, work
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


def test_a_sweep_is_measured_as_processes_and_as_one_program(monkeypatch, capsys):
    """The sweeps are real, but without the processes around them, which take half a minute."""

    def sweep_here(command, folder, trials, backend):
        together = backend == "--backend=vmap"
        study = make_study(folder, f"--trials={trials}", *([backend] if together else []))
        assert work(study, trials_per_program=64 if together else 1) == 0
        return float(trials)

    monkeypatch.setattr(sweep_benchmark, "_seconds", sweep_here)
    assert benchmark.run([f"--config={CONFIG}", "--trials=3", "--workers=2"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert results["trials"] == results["equal_states"] == 3
    assert results["vmap_over_one_trial"] == 3
    assert results["equal_to_1e-5"] == 3
    assert results["all_equal_to_1e-5_until_step"] == 60
    assert 0 <= results["largest_difference"] < 1e-5
