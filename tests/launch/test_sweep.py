"""Sweeps from the command to their results."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from launch import report, sweep
from launch.sweeps.results import read_sweep
from launch.sweeps.study import Study
from research.engine.restore import load_run
from tests.commands import run_command
from tests.launch.sweeps_in_tests import (
    CONFIG,
    make_study,
    release_locks,
    rows_of,
    work,
    write_config,
)

ROOT = Path(__file__).parents[2]
MIXED = {
    "optimizer.learning_rate": {"choices": (0.05, 0.2, 6.0)},
    "objective.width": {"choices": (1, 2)},
    "seed": {"seeds": (3, 4)},
}
"""Floats that a program takes as arrays, one of which diverges, and a shape that needs another."""


def test_a_trial_that_crashes_or_diverges_is_told_and_the_others_go_on(tmp_path, capsys):
    space = {
        "optimizer.learning_rate": {"choices": (0.1, 6.0)},
        "objective.fails": {"choices": (False, True)},
    }
    config = write_config(tmp_path, space=space)
    command = [f"--config={config}", f"--sweepdir={tmp_path / 'sweep'}", "--sampler=grid"]
    ended = run_command(sweep.run, command, capsys)
    assert ended.code == 0, ended.stderr
    assert "Best: trial 0" in ended.stdout
    trials = read_sweep(tmp_path / "sweep").trials
    assert [trial.state for trial in trials] == ["complete", "failed", "diverged", "failed"]
    assert "RuntimeError: broken on purpose (traceback in " in trials[1].reason
    assert "broken on purpose" in (trials[1].workdir / "error.txt").read_text()
    assert trials[2].reason.startswith("not finite at step ")
    table = pyarrow.parquet.read_table(tmp_path / "sweep" / "trials.parquet").to_pydict()
    assert table["state"] == [trial.state for trial in trials]
    assert table["optimizer.learning_rate"] == [0.1, 0.1, 6.0, 6.0]
    assert (tmp_path / "sweep" / "report.html").exists()
    reported = run_command(report.run, [str(tmp_path / "sweep"), f"--output={tmp_path}"], capsys)
    assert reported.code == 0, reported.stderr
    assert "1 complete, 1 diverged, 2 failed" in reported.stdout
    result = trials[0].workdir / "result.json"
    before = result.stat().st_mtime_ns
    again = run_command(sweep.run, command, capsys)
    assert again.code == 0
    assert result.stat().st_mtime_ns == before, "a trial that had ended was run again"


def test_trials_of_one_program_are_the_runs_they_would_be_alone(tmp_path):
    config = write_config(tmp_path, space=MIXED)
    studies = [
        make_study(tmp_path / name, "--sampler=grid", *options, config=config)
        for name, options in (("alone", ()), ("together", ("--backend=vmap",)))
    ]
    assert work(studies[0]) == 0
    assert work(studies[1], trials_per_program=64) == 0
    programs = [path.name for path in sorted((tmp_path / "together" / "programs").iterdir())]
    assert programs == ["0000", "0002"], "one program for each width"
    alone, together = (read_sweep(study.folder).trials for study in studies)
    assert [trial.state for trial in alone] == 2 * 4 * ["complete"] + 4 * ["diverged"]
    for one, other in zip(alone, together, strict=True):
        assert one.state == other.state
        assert one.settings == other.settings
        compare_runs(one.workdir, other.workdir, diverged=one.state == "diverged")


def compare_runs(alone: Path, together: Path, diverged: bool) -> None:
    configs = [json.loads((folder / "config.json").read_text()) for folder in (alone, together)]
    assert configs[0] == configs[1]
    rows = [rows_of(folder) for folder in (alone, together)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    if diverged:
        assert (together / "failure" / "report.json").exists()
        assert not (together / "result.json").exists()
        return
    results = [json.loads((folder / "result.json").read_text()) for folder in (alone, together)]
    assert results[0].keys() == results[1].keys()
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], rel=1e-5, abs=1e-5)
    runs = [load_run(folder) for folder in (alone, together)]
    assert runs[0].step == runs[1].step == 60
    np.testing.assert_allclose(*(run.params["model"]["kernel"] for run in runs), rtol=1e-5)


def test_a_program_whose_worker_was_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    config = write_config(tmp_path, space=MIXED)
    whole = make_study(tmp_path / "whole", "--sampler=grid", "--backend=vmap", config=config)
    assert work(whole, trials_per_program=64) == 0
    study = make_study(tmp_path / "cut", "--sampler=grid", "--backend=vmap", config=config)

    class Killed(BaseException):
        pass

    report = Study.report

    def die(self, claim, step, value):
        if step == 40:
            raise Killed
        return report(self, claim, step, value)

    monkeypatch.setattr(Study, "report", die)
    with pytest.raises(Killed):
        work(study, trials_per_program=64)
    monkeypatch.setattr(Study, "report", report)
    # The kernel releases the locks of a process that is gone; this one is not.
    study = Study(study.folder, study.specification)
    release_locks(study.folder)
    assert work(study, trials_per_program=2) == 0, "a smaller limit does not cut what was begun"
    for one, other in zip(
        read_sweep(whole.folder).trials, read_sweep(study.folder).trials, strict=True
    ):
        assert one.state == other.state
        assert rows_of(one.workdir) == rows_of(other.workdir)


def test_a_population_ends_with_the_settings_that_it_came_to(tmp_path):
    space = {"optimizer.learning_rate": {"log_uniform": (1e-3, 8.0)}}
    config = write_config(tmp_path, space=space)
    study = make_study(
        tmp_path / "s", "--trials=6", "--sampler=pbt", "--backend=vmap", config=config
    )
    begun = [study.settings(trial)["optimizer.learning_rate"] for trial in study.frozen()]
    assert work(study, trials_per_program=64) == 0
    trials = read_sweep(study.folder).trials
    assert [trial.state for trial in trials] == ["complete"] * 6
    ended = [trial.settings["optimizer.learning_rate"] for trial in trials]
    assert ended != begun
    for trial in trials:
        written = json.loads((trial.workdir / "config.json").read_text())
        rate = trial.settings["optimizer.learning_rate"]
        assert written["optimizer"]["learning_rate"] == rate
        explored = [row for row in rows_of(trial.workdir) if "population/parent" in row]
        assert [row["step"] for row in explored] == [20, 40]
        assert explored[-1]["population/optimizer.learning_rate"] == pytest.approx(rate)


def test_asha_ends_what_is_worse_and_reports_its_steps(tmp_path):
    study = make_study(
        tmp_path, "--trials=8", "--pruner=asha", "--min_steps=20", "--reduction_factor=2"
    )
    assert work(study) == 0
    trials = read_sweep(tmp_path).trials
    states = {trial.state for trial in trials}
    assert states <= {"complete", "pruned", "diverged"}
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert {trial.step for trial in pruned} <= {20, 40}
    for trial in pruned:
        assert json.loads((trial.workdir / "result.json").read_text())["step"] == trial.step


@pytest.mark.timeout(300)
def test_ctrl_c_and_the_same_command_again_goes_on(tmp_path):
    command = [sys.executable, "-m", "launch.sweep", f"--config={CONFIG}"]
    command += [f"--sweepdir={tmp_path}", "--trials=6", "--workers=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"cwd": ROOT, "env": environment, "text": True, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("trials/*/checkpoints/20")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert "the same command goes on" in output
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=240, check=False, **options)
    assert done.returncode == 0, done.stdout
    for trial in read_sweep(tmp_path).trials:
        assert trial.state in ("complete", "diverged")
        steps = [row["step"] for row in rows_of(trial.workdir) if "loss" in row]
        assert steps == sorted(set(steps))


def test_a_dry_run_prints_what_would_run_and_writes_nothing(tmp_path, capsys):
    command = [f"--config={CONFIG}", f"--sweepdir={tmp_path / 's'}", "--dry_run", "--workers=2"]
    ended = run_command(sweep.run, [*command, "--sampler=grid"], capsys)
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "trial 0: optimizer.learning_rate=0.001  objective.scale=0.5  seed=0"
    assert len([line for line in lines if line.startswith("trial ")]) == 8
    assert [line for line in lines if "launch.sweep_worker" in line] == lines[8:]
    assert len(lines) == 10
    assert not (tmp_path / "s").exists()
