"""Workers share nothing but the sweep's folder, and may be killed at any time."""

import collections
import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from launch import sweep_worker
from launch.sweeps.results import trials_of
from launch.sweeps.study import MAX_ATTEMPTS, Study
from research.engine.files import cannot_write
from research.engine.record import Record
from research.errors import WriteError
from tests import processes
from tests.launch.sweeps_in_tests import make_study, release_locks, rows_of, work, write_config


def work_when_told(folder: Path, start: Path, die_at: int | None) -> None:
    """A worker that begins at the same instant as the others; one may be killed in the middle of
    a trial, at a step."""
    if die_at is not None:
        from research.engine.window import Window

        drain = Window.drain

        def drain_or_die(window: Window) -> None:
            drain(window)
            if list(folder.glob(f"trials/*/checkpoints/{die_at}")):
                os.kill(os.getpid(), signal.SIGKILL)

        Window.drain = drain_or_die  # type: ignore[method-assign]
    while not start.exists():
        time.sleep(0.001)
    raise SystemExit(sweep_worker.run([f"--sweepdir={folder}"]))


@pytest.mark.timeout(600)
def test_eight_workers_two_of_them_killed_complete_every_trial_once(tmp_path):
    study = make_study(tmp_path, "--trials=64")
    start = tmp_path / "start"
    workers = [
        processes.start(work_when_told, tmp_path, start, 20 if index < 2 else None)
        for index in range(8)
    ]
    try:
        start.touch()
        codes = [worker.wait(500) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [code for code, _ in codes[:2]] == [-signal.SIGKILL] * 2
    assert [(code, output) for code, output in codes[2:] if code != 0] == []

    trials = trials_of(study).trials
    assert [trial.number for trial in trials] == list(range(64))
    states = collections.Counter(trial.state for trial in trials)
    assert states["complete"] + states["diverged"] == 64, states
    for trial in trials:
        steps = [row["step"] for row in rows_of(trial.workdir) if "loss" in row]
        assert steps == sorted(set(steps)), f"trial {trial.number} made steps twice"
        if trial.state == "complete":
            assert steps == [10, 20, 30, 40, 50, 60]
            assert (trial.workdir / "result.json").exists()
    # The two that lost their workers were claimed once more: from the start, or from their
    # checkpoint, which renews the attempts that they have.
    notes = [trial.user_attrs for trial in study.frozen()]
    assert sum(note["attempts"] == 2 or note["began_at"] > 0 for note in notes) == 2
    assert {note["attempts"] for note in notes} <= {1, 2}


def test_a_trial_that_ends_while_another_worker_looks_is_left_alone(tmp_path, monkeypatch):
    study, other = make_study(tmp_path, "--trials=2"), make_study(tmp_path, "--trials=2")
    (claim,) = study.claim()
    listed = other.frozen()
    study.finish(claim, "complete", 1.0)
    monkeypatch.setattr(Study, "frozen", lambda self: listed)
    assert [taken.number for taken in other.claim()] == [1]


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path):
    study = make_study(tmp_path, "--trials=2")
    for _ in range(MAX_ATTEMPTS):
        claims = study.claim()
        assert claims[0].number == 0
        claims[0].lock.__exit__()  # as the kernel does when a worker is killed
    assert study.claim()[0].number == 1
    ended = trials_of(study).trials[0]
    assert ended.state == "failed"
    assert ended.reason == "its worker was killed 3 times"


def test_a_trial_that_was_stopped_or_got_further_is_not_given_up(tmp_path):
    study = make_study(tmp_path, "--trials=1")
    for _ in range(2 * MAX_ATTEMPTS):
        (claim,) = study.claim()
        study.leave(claim)
    for step in range(1, 2 * MAX_ATTEMPTS):
        (claim,) = study.claim()
        saved = claim.workdir / "checkpoints" / str(step)
        saved.mkdir(parents=True)
        (saved / "manifest.json").touch()
        claim.release()
    assert study.claim()


def test_a_full_disk_ends_the_worker_and_costs_no_trial(tmp_path, monkeypatch):
    study = make_study(tmp_path, "--trials=2")

    def full(record, step, values):
        raise cannot_write(tmp_path, OSError(errno.ENOSPC, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(Record, "metrics", full)
        with pytest.raises(WriteError, match="No space left on device"):
            work(study)
    release_locks(tmp_path)
    assert study.unfinished() == 2
    assert work(study) == 0
    assert {trial.state for trial in trials_of(study).trials} <= {"complete", "diverged"}


def test_what_is_left_of_a_killed_writer_does_not_spoil_the_journal(tmp_path):
    study = make_study(tmp_path, "--trials=3")
    journal = tmp_path / "journal.log"
    with open(journal, "ab") as file:
        file.write(b'{"op_code":8,"worker_id":"' + b"x" * 10_000)
    other = Study(tmp_path, study.specification)
    assert len(other.frozen()) == 3
    other.finish(other.claim()[0], "complete", 0.5)
    assert journal.read_bytes().endswith(b"\n")
    assert Study(tmp_path, study.specification).unfinished() == 2
    assert study.unfinished() == 2


def test_a_claimed_trial_is_nobody_elses(tmp_path):
    study = make_study(tmp_path, "--trials=2")
    other = Study(tmp_path, study.specification)
    first, second = study.claim(), other.claim()
    assert [claim.number for claim in first + second] == [0, 1]
    assert study.claim() == other.claim() == []


def test_tpe_suggests_exactly_so_many_and_repeats_them_for_every_seed(tmp_path):
    space = {
        "optimizer.learning_rate": {"log_uniform": (1e-3, 1.0)},
        "seed": {"seeds": (5, 6)},
    }
    config = write_config(tmp_path, space=space)
    study = make_study(tmp_path, "--trials=30", "--sampler=tpe", config=config)
    settings = []
    while claims := study.claim():
        (claim,) = claims
        settings.append(claim.settings)
        study.finish(
            claim, "complete", abs(np.log10(claim.settings["optimizer.learning_rate"]) + 2)
        )
    assert [each["seed"] for each in settings] == [5, 6] * 15
    rates = [each["optimizer.learning_rate"] for each in settings]
    assert rates[::2] == rates[1::2]
    assert len(set(rates)) == 15
    assert study.unfinished() == 0
    # After ten at random, TPE looks nearer to the optimum, 0.01.
    distances = np.abs(np.log10(rates[::2]) + 2)
    assert np.mean(distances[10:]) < 0.7 * np.mean(distances[:10])


def test_no_more_is_suggested_than_a_program_takes(tmp_path):
    space = {"optimizer.learning_rate": {"log_uniform": (1e-3, 1.0)}}
    config = write_config(tmp_path, space=space)
    study = make_study(tmp_path, "--trials=9", "--sampler=tpe", config=config)
    assert len(study.claim(4)) == len(study.frozen()) == 4
    assert len(study.claim(4)) == 4
    assert len(study.claim(4)) == 1


def test_random_trials_are_the_first_of_more(tmp_path):
    few = make_study(tmp_path / "few", "--trials=3")
    many = make_study(tmp_path / "many", "--trials=6")
    first = [few.settings(trial) for trial in few.frozen()]
    assert first == [many.settings(trial) for trial in many.frozen()][:3]
    other = make_study(tmp_path / "other", "--trials=3", "--seed=1")
    assert first != [other.settings(trial) for trial in other.frozen()]
