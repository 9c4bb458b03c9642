"""Which runs there are to make, in which order."""

import shlex
from pathlib import Path

import pytest

from launch.reproduction.plan import plan, state_of
from launch.reproduction.target import read_targets
from research.engine import config
from research.engine.files import write_json
from research.errors import UserError
from tests.tiny_configs import write_config


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A folder of configs in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path("experiments") / "tiny"


def planned(*locations, seeds=2, accelerator=False, vmap="auto"):
    targets = read_targets(locations)
    return plan(targets, seeds, Path("runs"), accelerator=accelerator, vmap=vmap)


def folders(runs):
    return [str(run.folder.relative_to("runs/tiny")) for run in runs]


def leave(run, result=None, failed_at=None, **settings):
    """Leaves in a run's folder what research.train would."""
    overrides = [*run.overrides, *((k, str(v)) for k, v in settings.items())]
    experiment = config.load(run.target.location, overrides)
    write_json(run.folder / "config.json", config.to_plain(experiment))
    if result is not None:
        write_json(run.folder / "result.json", {"metrics": result})
    if failed_at is not None:
        write_json(run.folder / "failure" / "report.json", {"step": failed_at})


def test_every_config_has_its_first_seed_before_any_has_its_second(family):
    a, b = write_config(family, "a"), write_config(family, "b")
    runs = planned(b, a)
    assert folders(runs) == ["b/seed_0", "a/seed_0", "b/seed_1", "a/seed_1"]
    assert shlex.split(runs[1].command) == [
        *("python", "-m", "research.train", "--config", a),
        *("--workdir", "runs/tiny/a/seed_0", "--config.seed=0"),
    ]


def test_what_was_begun_comes_first(family):
    write_config(family, "a")
    leave(planned()[1])
    assert folders(planned()) == ["a/seed_1", "a/seed_0"]


def test_seeds_share_a_program_where_that_fits(family):
    write_config(family, "a")
    write_config(family, "b", checkpoints__best_metric="test/accuracy")
    write_config(
        family, "c", early_stopping={"metric": "test/loss"}, evaluations__test__every="3 steps"
    )
    write_config(family, "d", parallelism__mode="pmap")
    alone = ["b/seed_0", "c/seed_0", "d/seed_0", "b/seed_1", "c/seed_1", "d/seed_1"]
    runs = planned(accelerator=True)
    assert folders(runs) == ["a/seeds_0_1", *alone]
    assert runs[0].overrides == (
        ("parallelism.mode", "vmap"),
        ("parallelism.trials", "{'seed': (0, 1)}"),
    )
    assert folders(planned(vmap="always"))[0] == "a/seeds_0_1"
    for runs in (planned(), planned(accelerator=True, vmap="never")):
        assert folders(runs)[0] == "a/seed_0", "one after another on a CPU"


def test_seeds_that_ran_are_taken_as_they_ran(family):
    write_config(family, "a")
    leave(planned()[0], result={})
    assert folders(planned(seeds=4, accelerator=True)) == ["a/seed_0", "a/seeds_1_2_3"]
    leave(planned(seeds=4, accelerator=True)[1], result={})
    assert folders(planned(seeds=5)) == ["a/seed_0", "a/seeds_1_2_3", "a/seed_4"]


def test_trials_that_diverged_together_are_run_apart(family):
    write_config(family, "a")
    leave(planned(accelerator=True)[0], failed_at=3)
    assert folders(planned(accelerator=True)) == ["a/seed_0", "a/seed_1"]


def test_what_a_config_builds_on_comes_before_it(family):
    write_config(family, "z")
    a = write_config(family, "a", "REQUIRES = {'objective.model.workdir': 'experiments/tiny/z.py'}")
    with pytest.raises(UserError, match=r"objective.model.workdir: vision.LeNet has no such"):
        planned(a)
    probe = {"name": "generative.ClassifierProbe", "workdir": "runs/by/hand"}
    requires = "REQUIRES = {'probes.classifier.probe.workdir': 'experiments/tiny/z.py'}"
    a = write_config(family, "a", requires, probes={"classifier": {"probe": probe}})
    runs = planned(a)
    assert folders(runs) == ["z/seed_0", "a/seed_0", "a/seed_1"]
    (override, _) = runs[1].overrides
    assert override == ("probes.classifier.probe.workdir", "runs/tiny/z/seed_0")
    assert folders(planned(accelerator=True, seeds=3)) == [
        "z/seed_0",
        "a/seeds_0_1_2",
        "z/seeds_1_2",
    ]
    write_config(
        family, "z", requires.replace("z.py", "a.py"), probes={"classifier": {"probe": probe}}
    )
    with pytest.raises(UserError, match=r"REQUIRES goes in a circle: .*a.py -> .*z.py -> .*a.py"):
        planned(a)


def test_settings_that_are_the_seed_too(family):
    classes = {
        "name": "data.sources.Classes",
        "source": {"name": "data.sources.Digits", "split": "train"},
        "classes": (0, 1),
        "examples_per_class": 20,
    }
    write_config(family, "a", "SEEDS = ('data.source.seed',)", data__source=classes)
    runs = planned(accelerator=True)
    assert folders(runs) == ["a/seed_0", "a/seed_1"], "trials of a program share their data"
    assert runs[1].overrides == (("seed", "1"), ("data.source.seed", "1"))
    write_config(family, "a", "SEEDS = ('data.seed',)", data__source=classes)
    with pytest.raises(UserError, match=r"data.seed"):
        planned()


def test_what_needs_an_accelerator_is_not_run_without_one(family):
    write_config(family, "a", "NEEDS_ACCELERATOR = True")
    assert {run.blocked for run in planned()} == {"needs a GPU or TPU"}
    assert {run.blocked for run in planned(accelerator=True)} == {""}


def test_folders_of_other_configs_are_refused_together(family):
    a, _ = write_config(family, "a"), write_config(family, "b")
    runs = planned()
    for run in runs:
        leave(run, result={"test/accuracy": 0.5}, **{"optimizer.learning_rate": 0.25})
    with pytest.raises(UserError, match="Move them away") as error:
        planned()
    assert str(error.value).count("optimizer.learning_rate: 0.25 -> 0.1") == len(runs)
    assert "runs/tiny/b/seed_1:" in str(error.value)

    write_config(family, "a", optimizer__learning_rate=0.25, reference__value=0.125)
    assert {state_of(run.folder) for run in planned(a)} == {"finished"}, "only its bar is higher"


def test_states_are_told_by_what_a_run_left(family):
    write_config(family, "a")
    run = planned()[0]
    assert state_of(run.folder) == "waiting"
    leave(run)
    assert state_of(run.folder) == "begun"
    leave(run, failed_at=5)
    assert state_of(run.folder) == "diverged"
    (run.folder / "checkpoints" / "8").mkdir(parents=True)
    assert state_of(run.folder) == "begun", "it was mended, and has gone past that step"
    leave(run, result={})
    assert state_of(run.folder) == "finished"
