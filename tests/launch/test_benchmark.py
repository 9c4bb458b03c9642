"""What the benchmark prints: a table, and the same numbers as JSON."""

import json

import pytest

from launch import benchmark, machine_speed, sweep_benchmark
from research.errors import UserError
from tests import shared
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


def test_the_hosts_batches_are_measured(tmp_path, shared_dir, capsys):
    given = arguments("sequence/gpt_shakespeare.py", tmp_path, shared.small_data(shared_dir))
    given = [argument for argument in given if not argument.startswith("--workdir")]
    assert benchmark.run([*given, "--data", "--steps=20", "--repeats=2"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert results["examples"] > 1000
    for way in ("gathered", "fed"):
        rate = results[f"{way}_batches_per_second"]
        assert results[f"{way}_tokens_per_second"] == pytest.approx(rate * 16 * 16)
    assert results["fed_bytes_per_second"] == pytest.approx(
        results["fed_batches_per_second"] * 16 * 17 * 4
    )


def test_writing_is_measured_beside_the_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine_speed, "READ_BYTES", 4_000_000)
    given = arguments(
        "sequence/gpt2_openwebtext.py", tmp_path, tmp_path, objective__model__block_size=48
    )
    given = [argument for argument in given if not argument.startswith("--workdir")]
    assert benchmark.run([*given, "--generate", "--repeats=2"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Embeddings of 296 tokens and 48 places, a block without biases, three norms; the cache's keys,
    # values, mask and length.
    numbers = (296 + 48) * 16 + 12 * 16 * 16 + 3 * 16
    assert results["bytes_per_token"] == 4 * (numbers + 2 * 48 * 16) + 48 + 4
    for name in ("tokens_per_second", "seconds_per_token_at_end", "over_bound"):
        assert results[name] > 0
    with pytest.raises(UserError, match=r"do not fit behind a prompt of 16 in .*block_size = 48"):
        benchmark.run([*given, "--generate", "--repeats=5"])
    images = arguments("vision/lenet_digits.py", tmp_path, tmp_path)
    images = [argument for argument in images if not argument.startswith("--workdir")]
    with pytest.raises(UserError, match=r"objective\.model: writes no tokens"):
        benchmark.run([*images, "--generate"])
