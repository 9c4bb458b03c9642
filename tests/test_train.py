"""What people do to runs: stop them, start two, change the config, fill the disk, lose files."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import command_line, evaluate, train
from research.engine.checkpoint import list_steps
from research.engine.record import read_metrics
from research.engine.restore import load_checkpoint, read_experiment
from research.engine.window import Window
from tests import processes
from tests.shared import once
from tests.shrink import arguments

STEPS, EVERY = 200, 50


def lenet(workdir: Path, **overrides: object) -> list[str]:
    """The arguments of a run of 200 steps with a checkpoint every 50."""
    given = {
        "duration": f"{STEPS} steps",
        "log_every": "10 steps",
        "evaluations__test__every": "10 steps",
        "checkpoints__every": f"{EVERY} steps",
        "checkpoints__best_metric": "test/accuracy",
        "optimizer__schedule__warmup": "0 steps",
        **overrides,
    }
    return arguments("vision/lenet_digits.py", workdir, workdir.parent, **given)


def call(command, given: list[str]) -> tuple[int, str]:
    """The exit code of a command and all that it prints, without a process of its own."""
    output = io.StringIO()
    with (
        redirect_stdout(output),
        redirect_stderr(output),
        patch.object(sys, "argv", ["command", *given]),
        pytest.raises(SystemExit) as ended,
    ):
        command_line.main(command)
    return ended.value.code, output.getvalue()


@pytest.fixture(scope="module")
def finished(shared_dir) -> Path:
    """A run that nothing happened to; not to be written to."""

    def run(workdir: Path) -> None:
        code, text = call(train.run, lenet(workdir))
        assert code == 0, text
        assert f"Done: {STEPS} steps" in text

    return once(shared_dir / "finished" / "run", run)


@pytest.fixture
def workdir(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def paused_in_training(given: list[str], workdir: Path) -> processes.Process:
    """A process that has written its first metrics and is held there."""
    process = processes.start(processes.run_train, given)
    metrics = workdir / "metrics.jsonl"
    while process.running and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    return process


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def damage(checkpoint: Path) -> None:
    files = [path for path in (checkpoint / "state").rglob("*") if path.is_file()]
    shorten(max(files, key=lambda path: path.stat().st_size))


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file's content, but for the lock, which names its last holder."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def params_of(workdir: Path, step: int) -> list[jax.Array]:
    return jax.tree.leaves(load_checkpoint(read_experiment(workdir), workdir, step)[1].state.params)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_told_to_stop_saves_and_goes_on_to_the_same_end(finished, tmp_path, number):
    workdir = tmp_path / "run"
    given = lenet(workdir)
    process = paused_in_training(given, workdir)
    try:
        code, text = call(train.run, given)
        assert code == 2, "a second process must not write into the same folder"
        assert f"{workdir} is in use by process {process.pid} on" in text

        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        code, text = process.wait()
    finally:
        process.kill()
    assert code == 75, text
    assert "Stopping after this step" in text
    (step,) = list_steps(workdir / "checkpoints")[:1]
    assert 10 <= step < STEPS
    assert f"Stopped at step {step} of {STEPS}, saved in {workdir}; the same command" in text

    code, text = call(train.run, given)
    assert code == 0, text
    assert f"Going on from the checkpoint of step {step}." in text
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_stop_before_the_first_step_after_resuming(workdir, monkeypatch):
    given = lenet(workdir, duration="220 steps")
    monkeypatch.setattr("research.engine.stopping.StopSignal.agreed", lambda self: True)
    code, text = call(train.run, [*given, "--allow_config_change"])
    assert code == 75, text
    assert f"Stopped at step {STEPS} of 220" in text


def test_a_finished_run_says_so_and_stays_as_it_is(workdir):
    before = files_in(workdir)
    code, text = call(train.run, lenet(workdir))
    assert code == 0, text
    assert f"Finished at step {STEPS} already" in text
    assert "test/accuracy = " in text
    after = files_in(workdir)
    assert after.keys() == before.keys()
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"environment.json"}, "it notes every start, and nothing else may change"


@pytest.mark.usefixtures("undrawn")
def test_a_changed_config_is_refused_until_it_is_allowed(workdir, monkeypatch):
    before = files_in(workdir)
    given = lenet(workdir, duration="220 steps", optimizer__learning_rate=0.5)
    code, text = call(train.run, given)
    assert code == 2
    assert f"duration: '{STEPS} steps' -> '220 steps'" in text
    assert "optimizer.learning_rate: 0.002 -> 0.5" in text
    assert "--allow_config_change" in text
    assert files_in(workdir) == before

    add, has_result = Window.add, set()

    def add_and_look(self, *arguments):
        has_result.add((workdir / "result.json").exists())
        add(self, *arguments)

    monkeypatch.setattr(Window, "add", add_and_look)
    code, text = call(train.run, [*given, "--allow_config_change"])
    assert code == 0, text
    assert has_result == {False}, "while it goes on, a run has no result"
    assert json.loads((workdir / "result.json").read_bytes())["step"] == 220
    config = json.loads((workdir / "config.json").read_bytes())
    assert config["optimizer"]["learning_rate"] == 0.5


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_whose_config_changes_is_measured_again(workdir):
    def accuracy():
        return json.loads((workdir / "result.json").read_bytes())["metrics"]["test/accuracy"]

    before = accuracy()
    fewer = lenet(workdir, evaluations__test__source__split="train")
    code, text = call(train.run, [*fewer, "--allow_config_change"])
    assert code == 0, text
    assert f"Finished at step {STEPS} already" in text
    assert "Measuring again, for the config has changed." in text
    again = accuracy()
    assert again != before, "config.json has other examples now: the old number is not theirs"

    code, text = call(train.run, fewer)
    assert code == 0, text
    assert "Measuring again" not in text
    assert accuracy() == again, "what was measured again has to stay"


def test_a_config_that_no_checkpoint_fits_leaves_the_run_as_it_is(workdir):
    before = files_in(workdir)
    given = lenet(workdir, objective__model__channels=(4, 16))
    code, text = call(train.run, [*given, "--allow_config_change"])
    assert code == 2
    assert "another model" in text
    assert files_in(workdir) == before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("learning_rate", [1e30, 1e39], ids=["large", "infinite"])
def test_numbers_that_are_not_finite_end_the_run(tmp_path, learning_rate):
    workdir = tmp_path / "run"
    given = lenet(workdir, optimizer__learning_rate=learning_rate, checkpoints__every="1 steps")
    code, text = call(train.run, given)
    assert code == 3, text
    report = json.loads((workdir / "failure" / "report.json").read_bytes())
    assert f"Stopped: not finite at step {report['step']}: " in text
    assert report["metrics"]
    kept = list_steps(workdir / "checkpoints")
    assert report["newest_checkpoint"] == (kept[0] if kept else None)
    for step in kept:
        assert all(jnp.isfinite(leaf).all() for leaf in params_of(workdir, step))

    batch = np.load(workdir / "failure" / "batch.npz")
    assert {len(array) for array in batch.values()} == {len(report["example_indices"])} == {16}
    assert not (workdir / "result.json").exists()
    assert call(train.run, given)[0] == 3, "it reaches the same step again"
    assert json.loads((workdir / "failure" / "report.json").read_bytes()) == report


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("precious")
    code, text = call(train.run, lenet(tmp_path / "run"))
    assert code == 2
    assert str(tmp_path / "run") in text
    assert (tmp_path / "run").read_text() == "precious"


def train_on_a_small_disk(disk: Path, saved: Path, given: list[str]) -> None:
    """Trains on a disk of 2 MiB that ends with this process, and copies out what is on it."""
    os.unshare(os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=True)
    try:
        processes.run_train(given)
    finally:
        shutil.copytree(disk / "run", saved)


@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_loses_nothing_that_was_saved(finished, tmp_path):
    disk, saved = tmp_path / "disk", tmp_path / "saved"
    disk.mkdir()
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(disk)]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")

    given = lenet(disk / "run", checkpoints__every="10 steps", checkpoints__keep_latest=1000)
    code, text = processes.start(train_on_a_small_disk, disk, saved, given).wait()
    assert code == 2, text
    assert "no space left" in text.lower()
    assert "Traceback" not in text
    kept = list_steps(saved / "checkpoints")
    assert kept
    for step in kept:
        assert params_of(saved, step)

    given = lenet(saved, checkpoints__every="10 steps", checkpoints__keep_latest=1000)
    code, text = call(train.run, given)
    assert code == 0, text
    assert f"Going on from the checkpoint of step {kept[0]}." in text
    metrics = (saved / "metrics.jsonl").read_bytes()
    assert metrics == (finished / "metrics.jsonl").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(workdir, finished):
    damage(workdir / "checkpoints" / str(STEPS))
    code, text = call(train.run, lenet(workdir))
    assert code == 0, text
    assert f"The checkpoint of step {STEPS} is damaged and set aside: " in text
    assert f"Going on from the checkpoint of step {STEPS - EVERY}." in text
    assert (workdir / "checkpoints" / f"{STEPS}.damaged").is_dir()
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_bytes() == (finished / name).read_bytes(), name


def test_where_all_checkpoints_are_damaged_nothing_is_lost(workdir):
    steps = list_steps(workdir / "checkpoints")
    for step in steps:
        damage(workdir / "checkpoints" / str(step))
    before = files_in(workdir)
    code, text = call(train.run, lenet(workdir))
    assert code == 2
    for step in steps:
        assert f"step {step}: " in text
    assert files_in(workdir) == before


@dataclass(frozen=True)
class Constant:
    """A probe that measures 1."""

    def __call__(self, objective, variables, rng, data_dir):
        return {"number": 1.0}

    def metric_names(self):
        return ("number",)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("metric", ["test/loss", "constant/number"])
def test_early_stopping_ends_with_a_checkpoint_and_a_result(tmp_path, metric):
    workdir = tmp_path / "run"

    def given(patience: int) -> list[str]:
        return lenet(
            workdir,
            probes={"constant": {"probe": {"name": f"{__name__}.Constant"}, "every": "10 steps"}},
            early_stopping__metric=metric,
            early_stopping__patience=patience,
            early_stopping__min_delta=1e9,  # nothing but the first counts as an improvement
            log_every="20 steps",
        )

    def ended() -> tuple[int, int, list[int]]:
        result = json.loads((workdir / "result.json").read_bytes())
        assert result["metrics"][metric] > 0
        logged = [row["step"] for row in read_metrics(workdir) if "loss" in row]
        return result["step"], list_steps(workdir / "checkpoints")[0], logged

    assert call(train.run, given(2))[0] == 0
    assert ended() == (30, 30, [20, 30])
    code, text = call(train.run, given(2))
    assert code == 0
    assert "Finished at step 30 already" in text
    code, text = call(train.run, [*given(3), "--allow_config_change"])
    assert code == 0, text
    assert ended() == (40, 40, [20, 30, 40])


@pytest.mark.usefixtures("undrawn")
def test_a_training_of_no_steps_measures_the_initial_state(tmp_path):
    workdir = tmp_path / "run"
    for expected in ("Done: 0 steps", "Finished at step 0 already"):
        code, text = call(train.run, lenet(workdir, duration="0 steps"))
        assert code == 0, text
        assert expected in text
        assert json.loads((workdir / "result.json").read_bytes())["metrics"]["test/loss"] > 0


@pytest.mark.usefixtures("undrawn")
def test_a_profile_is_written_and_ended_however_training_ends(tmp_path):
    given = {"duration": "12 steps", "profile__start": "1 steps", "profile__length": "4 steps"}
    broken = lenet(tmp_path / "broken", **given, optimizer__learning_rate=1e30)
    assert call(train.run, broken)[0] == 3
    code, text = call(train.run, lenet(tmp_path / "run", **given))
    assert code == 0, text
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_evaluate_takes_the_checkpoint_it_is_told_to(finished):
    result = json.loads((finished / "result.json").read_bytes())
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    accuracies = {row["step"]: row["test/accuracy"] for row in rows if "test/accuracy" in row}
    steps = list_steps(finished / "checkpoints")
    best = max(steps, key=lambda step: (accuracies[step], step))
    for asked, expected in {"latest": STEPS, "best": best, "150": 150}.items():
        code, text = call(evaluate.run, [f"--workdir={finished}", f"--step={asked}"])
        assert code == 0, text
        measured = json.loads(text[text.index("{") :])
        assert measured["step"] == expected
        assert measured["test/accuracy"] == pytest.approx(accuracies[expected], rel=1e-6)
    assert accuracies[STEPS] == result["metrics"]["test/accuracy"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--step=7"], "steps there: 200, 150"),
        (["--step=-7"], "--step"),
        (["--step=last"], "--step"),
        (["--only=validation"], "--only=validation: the config has test"),
    ],
)
def test_evaluate_names_what_is_not_there(finished, given, expected):
    code, text = call(evaluate.run, [f"--workdir={finished}", *given])
    assert code == 2
    assert expected in text


def test_evaluate_without_a_run(tmp_path):
    code, text = call(evaluate.run, [f"--workdir={tmp_path}"])
    assert code == 2
    assert f"{tmp_path}: no run here" in text
