"""Run folders, read as trials."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from launch.reports.curves import MAX_POINTS, read_curves, training_losses
from launch.reports.runs import differing_settings, find_runs, read_runs, with_metric
from research.engine.lock import WorkdirLock
from research.engine.record import Record
from research.errors import UserError
from tests.launch.run_folders import METRIC, write_failure, write_run


def test_settings_are_what_the_runs_differ_in(tmp_path):
    for place, (rate, channels) in enumerate([(1e-3, [16, 32]), (1e-2, [8, 16])]):
        settings = {
            "optimizer.learning_rate": rate,
            "objective.model.channels": channels,
            "optimizer.clip_norm": [None, 1.0][place],
            "log_every": f"{place + 1} steps",
            "reference.value": 0.5 + place,
            "evaluations.test.batch_size": 10 + place,
            "parallelism.mode": ["jit", "pmap"][place],
        }
        write_run(tmp_path / f"run_{place}", settings=settings)
    found = read_runs([tmp_path])
    assert (found.metric, found.mode) == (METRIC, "max"), "those of the configs' reference"
    assert [trial.settings for trial in found.trials] == [
        {
            "objective.model.channels": [16, 32],
            "optimizer.learning_rate": 1e-3,
            "optimizer.clip_norm": None,
        },
        {
            "objective.model.channels": [8, 16],
            "optimizer.learning_rate": 1e-2,
            "optimizer.clip_norm": 1.0,
        },
    ]
    first = found.trials[0]
    assert (first.number, first.value, first.step, first.reason) == (0, 0.75, 20, "")
    assert first.seconds == pytest.approx(3.0 + 20 / 10)


def test_a_setting_that_only_some_have_is_left_out_elsewhere():
    configs = [
        {"objective": {"name": "vae", "latent": 2}, "players": {}, "early_stopping": None},
        {"objective": {"name": "gan"}, "players": {"critic": {"b1": 0.5}}, "early_stopping": None},
    ]
    assert differing_settings(configs) == [
        {"objective.name": "vae", "objective.latent": 2},
        {"objective.name": "gan", "players.critic.b1": 0.5},
    ]


def test_what_models_take_from_compute_dtype_is_no_setting_of_its_own():
    configs = [
        {"objective": {"model": {"dtype": dtype}}, "compute_dtype": compute}
        for dtype, compute in ((None, "float32"), ("bfloat16", "bfloat16"))
    ]
    assert differing_settings(configs) == [
        {"compute_dtype": "float32"},
        {"compute_dtype": "bfloat16"},
    ]


def test_runs_are_found_at_any_depth_once_and_in_natural_order(tmp_path):
    for name in ("sweep/trials/10", "sweep/trials/2", "alone", ".hidden"):
        write_run(tmp_path / name)
    (tmp_path / "sweep" / "again").symlink_to(tmp_path / "sweep" / "trials")
    found = find_runs([tmp_path, tmp_path / "alone"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "alone",
        "sweep/trials/2",
        "sweep/trials/10",
    ]


def test_states_tell_how_a_run_stands(tmp_path):
    write_run(tmp_path / "0")
    write_run(tmp_path / "1", finished=False)
    write_run(tmp_path / "2", finished=False)
    write_failure(tmp_path / "2", step=27)
    write_run(tmp_path / "3", values=(), losses=(), finished=False)
    # Went on after it had diverged, and was stopped later.
    write_run(tmp_path / "4", finished=False)
    write_failure(tmp_path / "4", step=17)
    write_run(tmp_path / "5", finished=False)
    with WorkdirLock(tmp_path / "5"):
        found = read_runs([tmp_path]).trials
    assert [(trial.state, trial.reason) for trial in found] == [
        ("complete", ""),
        ("failed", "stopped after step 20 of 100; the same command goes on"),
        ("diverged", "not finite at step 27: loss = nan"),
        ("failed", "ended before its first metrics"),
        ("failed", "stopped after step 20 of 100; the same command goes on"),
        ("running", ""),
    ]
    assert found[1].value == 0.75, "what was measured before it ended"
    assert read_runs([tmp_path]).trials[5].state == "failed", "nobody holds its lock now"


def test_trials_of_one_program_are_trials_of_their_own(tmp_path):
    program = {"seed": [4, 4, 5], "optimizer.learning_rate": [0.1, 0.2, 0.2]}
    together = {"parallelism.mode": "vmap", "parallelism.trials": program}
    write_run(
        tmp_path / "together",
        values=([0.1, 0.2, 0.3], [0.4, math.nan, 0.6]),
        losses=([3.0, 2.0, 1.0], [2.0, 1.0, 0.0]),
        settings=together,
    )
    write_run(tmp_path / "alone", settings={"seed": 4, "optimizer.learning_rate": 0.1})
    found = read_runs([tmp_path])
    alone, *others = found.trials
    assert alone.settings == {"optimizer.learning_rate": 0.1, "seed": 4}
    assert [trial.settings for trial in others] == [
        {"optimizer.learning_rate": rate, "seed": seed}
        for rate, seed in ((0.1, 4), (0.2, 4), (0.2, 5))
    ]
    assert [trial.value for trial in others] == [0.4, pytest.approx(math.nan, nan_ok=True), 0.6]
    assert {trial.workdir for trial in others} == {tmp_path / "together"}
    curves = read_curves(found.trials, "loss")
    assert [curves[number].values.tolist() for number in range(4)] == [
        [2.0, 1.0],
        [3.0, 2.0],
        [2.0, 1.0],
        [1.0, 0.0],
    ]


def test_only_the_trial_that_diverged_of_one_program_has_diverged(tmp_path):
    together = {"parallelism.mode": "vmap", "parallelism.trials": {"seed": [0, 1]}}
    values = ([0.1, 0.2],)
    write_run(tmp_path, values, losses=([1.0, 2.0],), settings=together, finished=False)
    write_failure(tmp_path, step=17, loss="[ 0.5 nan]")
    assert [(trial.state, trial.reason) for trial in read_runs([tmp_path]).trials] == [
        ("failed", "stopped at step 17: a trial beside it diverged"),
        ("diverged", "not finite at step 17: loss = nan"),
    ]


def test_curves_are_thinned_and_keep_their_ends(tmp_path):
    losses = [1 / (1 + place) for place in range(1500)]
    write_run(tmp_path / "long", losses=losses)
    file = tmp_path / "long" / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + b'{"step": 15010, "loss": 0.')
    trials = read_runs([tmp_path]).trials
    curve = read_curves(trials, "loss")[0]
    assert len(curve.steps) == MAX_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (10, 15000)
    np.testing.assert_allclose(curve.values, 10 / curve.steps)
    assert read_curves(trials, METRIC)[0].steps.tolist() == [10, 20]
    assert read_curves(trials, "nothing") == {}


def test_every_player_has_a_training_loss(tmp_path):
    write_run(tmp_path / "0")
    for name in ("generator_loss", "discriminator_loss"):
        with Record(tmp_path / "1", tensorboard=False) as record:
            record.metrics(10, {name: 1.0, f"test/{name}": 1.0, "lossy": 2.0})
    found = read_runs([tmp_path / "0"]).trials
    more = replace(found[0], workdir=tmp_path / "1")
    gone = replace(found[0], workdir=tmp_path / "2")
    assert training_losses(found) == ["loss"]
    assert training_losses([*found, more, gone]) == ["discriminator_loss", "generator_loss", "loss"]


def test_a_damaged_line_is_named(tmp_path):
    write_run(tmp_path)
    file = tmp_path / "metrics.jsonl"
    first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(first[:20] + ' "loss": \n' + "".join(rest))
    trials = read_runs([tmp_path]).trials
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1 is damaged"):
        read_curves(trials, "loss")


def test_another_metric_brings_its_own_mode(tmp_path):
    write_run(tmp_path / "0")
    found = read_runs([tmp_path], "test/loss")
    assert (found.metric, found.mode, found.trials[0].value) == ("test/loss", "min", 1.0)
    again = with_metric(read_runs([tmp_path]), "test/loss", None)
    assert again == found
    assert with_metric(found, None, "max").mode == "max"
    with pytest.raises(UserError, match="learning_rate: say whether less or more is better"):
        read_runs([tmp_path], "learning_rate")
    assert read_runs([tmp_path], "learning_rate", "max").trials[0].value == 0.1


def test_what_cannot_be_compared_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* or below"):
        read_runs([tmp_path])
    write_run(tmp_path / "one")
    with pytest.raises(UserError, match=r"runs_ does not exist"):
        read_runs([tmp_path / "runs_"])
    with pytest.raises(UserError, match=r"onee does not exist; did you mean .*one'\?"):
        read_runs([tmp_path / "onee"])
    with pytest.raises(UserError) as refused:
        read_runs([tmp_path], "test/acuracy", "max")
    assert "did you mean 'test/accuracy'?" in str(refused.value)
    assert "The runs have test/accuracy, test/loss, loss" in str(refused.value)
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    other = {**config["reference"], "metric": "test/loss"}
    write_run(tmp_path / "two", settings={"reference": other})
    with pytest.raises(UserError, match=r"differ in their reference\.metric: .* --metric NAME"):
        read_runs([tmp_path])
    write_run(tmp_path / "two", settings={"reference": None})
    with pytest.raises(UserError, match=r"the configs have no reference\.metric"):
        read_runs([tmp_path / "two"])
    (tmp_path / "one" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"one/config\.json is not valid JSON"):
        read_runs([tmp_path])


def test_runs_that_have_measured_nothing_yet_are_trials_without_a_value(tmp_path):
    write_run(tmp_path, values=(), losses=(), finished=False)
    (trial,) = read_runs([Path(tmp_path)]).trials
    assert (trial.value, trial.step, trial.settings) == (None, None, {})
