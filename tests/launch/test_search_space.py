"""Search spaces: what may stand in get_sweep(), and what trials are made of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch import sweep
from launch.sweeps.draw import decode, draw_grid, draw_random
from launch.sweeps.grouping import structure_of, traced_paths
from launch.sweeps.space import Dimension, check_sweep, grid_values
from launch.sweeps.specification import read_specification
from research.engine import config
from research.engine.config_file import read_sweep
from tests.commands import run_command
from tests.launch.sweeps_in_tests import CONFIG, make_study, write_config
from tests.shrink import EXPERIMENTS, SHRUNK, arguments

LEARNING_RATE = {"log_uniform": (1e-3, 1.0)}


def given(**entries: Any) -> dict[str, Any]:
    return {"space": {path.replace("__", "."): values for path, values in entries.items()}}


MISTAKES = {
    "an unknown setting": (
        given(optimizer__learning_rte=LEARNING_RATE),
        "get_sweep(): space: optimizer.learning_rte: no such setting; "
        "did you mean 'learning_rate'?",
    ),
    "an unknown argument of a component": (
        given(objective__widht={"choices": (1, 2)}),
        "objective.widht: tests.launch.quadratic.Quadratic has no such argument; "
        "did you mean 'width'?",
    ),
    "an empty space": ({"space": {}}, "get_sweep(): space: empty; name at least one setting"),
    "an end that the setting refuses": (
        given(optimizer__momentum={"uniform": (0.5, 1.5)}),
        "get_sweep(): space: optimizer.momentum = 1.5: must be at most 1",
    ),
    "a choice of the wrong type": (
        given(data__batch_size={"choices": (4, "eight")}),
        "get_sweep(): space: data.batch_size = 'eight': expected an int",
    ),
    "an unknown kind": (
        given(optimizer__learning_rate={"loguniform": (1e-3, 1.0)}),
        "no such key 'loguniform'; did you mean 'log_uniform'?",
    ),
    "two kinds": (
        given(optimizer__learning_rate={"uniform": (0, 1), "choices": (1,)}),
        "give one of uniform, log_uniform, integers, choices",
    ),
    "no kind": (given(optimizer__learning_rate=0.1), "expected such as"),
    "a range the wrong way round": (
        given(optimizer__learning_rate={"uniform": (1.0, 0.1)}),
        "the first must be less than the second",
    ),
    "a logarithm of zero": (
        given(optimizer__learning_rate={"log_uniform": (0.0, 0.1)}),
        "must be above 0",
    ),
    "no choices": (
        given(optimizer__name={"choices": ()}),
        "get_sweep(): space.optimizer.name.choices: empty",
    ),
    "a choice twice": (given(optimizer__name={"choices": ("sgd", "sgd")}), "stands there twice"),
    "seeds that are none": (given(seed={"uniform": (0, 1)}), 'write {"seeds": 3}'),
    "the way a run is spread": (
        given(parallelism__fsdp={"integers": (1, 2)}),
        "get_sweep(): space.parallelism.fsdp: how a run is spread is no setting to search",
    ),
    "an evaluation that is not there": (
        {"metric": "tset/loss"},
        "get_sweep(): metric = 'tset/loss': write \"NAME/METRIC\" of an evaluation or probe of "
        "the config, which has test; did you mean 'test'?",
    ),
    "a metric that nobody measures": (
        {"metric": "test/accuracy"},
        "get_sweep(): metric = 'test/accuracy': test has no metric 'accuracy'; known are loss",
    ),
    "a mode": ({"mode": "maximise"}, "get_sweep(): mode = 'maximise': expected 'min' or 'max'"),
    "an unknown entry": ({"metrics": "test/loss"}, "no such key 'metrics'; did you mean 'metric'?"),
    "a setting of all trials": (
        {"settings": {"duratoin": "5 steps"}},
        "get_sweep(): settings: duratoin: no such setting; did you mean 'duration'?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_space_ends_the_command_before_anything_is_written(
    mistake, tmp_path, capsys
):
    changed, words = MISTAKES[mistake]
    file = write_config(tmp_path, **changed)
    command = [f"--config={file}", f"--sweepdir={tmp_path / 's'}", "--trials=4"]
    ended = run_command(sweep.run, command, capsys)
    assert ended.code == 2, ended.stdout
    assert words in ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert not (tmp_path / "s" / "sweep.json").exists()


OPTIONS = {
    "no number of trials": ((), "--trials: say how many; --sampler random would never end"),
    "a grid of another size": (
        ("--sampler=grid", "--trials=7"),
        "--trials=7: the grid has 8 trials (8 configurations, 1 seeds); leave it out",
    ),
    "asha in one program": (
        ("--trials=4", "--backend=vmap", "--pruner=asha"),
        "--pruner asha: the trials of one program end together",
    ),
    "asha that never decides": (
        ("--trials=4", "--pruner=asha"),
        "--pruner asha: after 20 steps, the least, one in 4 goes on, but training ends at 60",
    ),
    "a population of processes": (
        ("--trials=4", "--sampler=pbt"),
        "--sampler pbt: a population is one program; take --backend vmap",
    ),
    "a program of one process each": (
        ("--trials=4", "--trials_per_program=2"),
        "--trials_per_program: only programs of --backend vmap have several trials",
    ),
    "resources of no job": (
        ("--trials=4", "--partition=gpu"),
        "--partition: only --backend slurm asks for resources",
    ),
    "a worker of several processes": (
        ("--trials=4", "--backend=slurm", "--nodes=2"),
        "--nodes, --tasks_per_node: a worker is one process",
    ),
    "a sampler": (("--trials=4", "--sampler=bayes"), "invalid choice: 'bayes'"),
    "an option": (("--trails=4",), "--trails: no such option; did you mean '--trials'?"),
}


@pytest.mark.parametrize("mistake", OPTIONS)
def test_options_that_do_not_fit_end_the_command(mistake, tmp_path, capsys):
    options, words = OPTIONS[mistake]
    command = [f"--config={CONFIG}", f"--sweepdir={tmp_path / 's'}", *options]
    ended = run_command(sweep.run, command, capsys)
    assert ended.code == 2, ended.stdout
    assert words in ended.stderr
    assert not (tmp_path / "s" / "sweep.json").exists()


def test_a_config_without_a_space_says_what_is_missing(tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text("from tests.launch.quadratic_config import get_config\n")
    ended = run_command(sweep.run, [f"--config={file}", f"--sweepdir={tmp_path}"], capsys)
    assert ended.code == 2
    assert f"{file}: defines no function get_sweep()" in ended.stderr


def test_a_folder_of_another_sweep_is_refused_with_what_differs(tmp_path, capsys):
    make_study(tmp_path, "--trials=4")
    command = [f"--config={CONFIG}", f"--sweepdir={tmp_path}", "--trials=4"]
    for changed, words in {
        "--config.optimizer.name=adam": "experiment.optimizer.name: 'sgd' -> 'adam'",
        "--seed=3": "seed: 0 -> 3",
        "--sampler=tpe": "sampler: 'random' -> 'tpe'",
    }.items():
        ended = run_command(sweep.run, [*command, changed], capsys)
        assert ended.code == 2
        assert f"{tmp_path} holds another sweep" in ended.stderr
        assert words in ended.stderr


def test_more_trials_are_added_and_fewer_are_not_taken_away(tmp_path):
    first = make_study(tmp_path, "--trials=4")
    settings = [first.settings(trial) for trial in first.frozen()]
    more = make_study(tmp_path, "--trials=6")
    assert [more.settings(trial) for trial in more.frozen()][:4] == settings
    assert len(more.frozen()) == 6
    assert make_study(tmp_path, "--trials=2").specification.trials == 6


def test_a_folder_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    command = [f"--config={CONFIG}", f"--sweepdir={tmp_path / 'file' / 's'}", "--trials=4"]
    ended = run_command(sweep.run, command, capsys)
    assert ended.code == 2
    assert f"cannot write {tmp_path / 'file' / 's'}" in ended.stderr


def test_a_database_that_is_not_there_is_told(tmp_path, capsys):
    command = [f"--config={CONFIG}", f"--sweepdir={tmp_path}", "--trials=4"]
    ended = run_command(sweep.run, [*command, "--storage=nosuch://host/name"], capsys)
    assert ended.code == 2
    assert "--storage: can't open the database" in ended.stderr
    assert not (tmp_path / "sweep.json").exists(), "the right URL would be refused as another sweep"


def test_a_database_keeps_the_trials(tmp_path):
    study = make_study(tmp_path, "--trials=2", f"--storage=sqlite:///{tmp_path / 'trials.db'}")
    claim = study.claim()[0]
    study.report(claim, 20, 0.5)
    study.finish(claim, "complete", 0.25)
    assert study.unfinished() == 1
    assert not (tmp_path / "journal.log").exists()


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        (Dimension("x", "uniform", (0.0, 1.0), 3), (0.0, 0.5, 1.0)),
        (Dimension("x", "log_uniform", (1e-4, 1e-1), 4), (1e-4, 1e-3, 1e-2, 1e-1)),
        (Dimension("x", "integers", (1, 4)), (1, 2, 3, 4)),
        (Dimension("x", "integers", (1, 10), 4), (1, 4, 7, 10)),
        (Dimension("x", "choices", ("a", None)), ("a", None)),
        (Dimension("x", "uniform", (0.5, 1.0), 1), (0.5,)),
    ],
)
def test_the_values_of_a_grid(dimension, values):
    assert grid_values(dimension) == pytest.approx(values)
    assert grid_values(dimension)[0] == values[0]
    assert grid_values(dimension)[-1] == values[-1]


CHOICES = Dimension("x", "choices", ((8, 16), None, "adam", 3, 0.5, True, {"name": "a.B"}))


def test_choices_of_any_type_come_back_as_they_are():
    drawn = [decode([CHOICES], params)["x"] for params in draw_grid([CHOICES])]
    assert list(map(repr, drawn)) == list(map(repr, CHOICES.values))


def test_draws_stay_in_their_ranges_and_depend_on_the_seed():
    space = [
        Dimension("rate", "log_uniform", (1e-4, 1e-2)),
        Dimension("share", "uniform", (0.25, 0.5)),
        Dimension("layers", "integers", (2, 4)),
        CHOICES,
    ]
    drawn = [decode(space, params) for params in draw_random(space, 0, 300)]
    assert all(1e-4 <= each["rate"] <= 1e-2 and 0.25 <= each["share"] <= 0.5 for each in drawn)
    assert {each["layers"] for each in drawn} == {2, 3, 4}
    assert len({repr(each["x"]) for each in drawn}) == len(CHOICES.values)
    # As many below the geometric mean as above: five standard deviations of 300 draws.
    assert abs(sum(each["rate"] < 1e-3 for each in drawn) - 150) < 43
    assert drawn[0] != decode(space, draw_random(space, 1, 1)[0])


def test_a_specification_is_read_back_as_it_was_written(tmp_path):
    space = {"optimizer.name": {"choices": ("sgd", "adam")}, "seed": {"seeds": (4, 2)}}
    config_file = write_config(tmp_path, space=space)
    study = make_study(tmp_path / "s", "--trials=4", config=config_file)
    assert read_specification(tmp_path / "s") == study.specification


def test_settings_that_a_program_can_take_as_arrays_are_found(tmp_path):
    file = write_config(
        tmp_path,
        space={
            "optimizer.learning_rate": LEARNING_RATE,
            "optimizer.weight_decay": {"choices": (0.0, 0.1)},
            "optimizer.schedule.final_fraction": {"uniform": (0.0, 0.5)},
            "optimizer.momentum": {"uniform": (0.5, 0.9)},
            "ema_decay": {"choices": (None, 0.9)},
            "data.batch_size": {"choices": (4, 8)},
            "optimizer.name": {"choices": ("sgd", "momentum")},
            "objective.scale": {"uniform": (0.5, 1.0)},
            "objective.width": {"choices": (1, 2)},
        },
    )
    found, experiment = check_sweep(read_sweep(str(file)), config.load(str(file)))
    traced = traced_paths(experiment, found.space, Path())
    assert traced == {
        "optimizer.learning_rate",
        "optimizer.weight_decay",
        "optimizer.schedule.final_fraction",
        "optimizer.momentum",
        "ema_decay",
        "objective.scale",
    }
    shared = {"data.batch_size": 4, "ema_decay": None}
    settings = {**shared, "optimizer.learning_rate": 0.1, "seed": 3}
    assert structure_of(settings, traced) == shared
    assert structure_of({**settings, "ema_decay": 0.9}, traced) == {"data.batch_size": 4}


def test_a_number_that_python_must_know_has_a_program_for_each_value(tmp_path):
    space = [Dimension("optimizer.schedule.factor", "uniform", (0.1, 0.5))]
    schedule = {"name": "step", "boundaries": ("50%",)}
    experiment = config.override(config.load(str(CONFIG)), {"optimizer.schedule": schedule})
    learning_rate = Dimension("optimizer.learning_rate", "uniform", (0.1, 0.5))
    traced = traced_paths(experiment, [*space, learning_rate], Path())
    assert traced == {"optimizer.learning_rate"}
    assert structure_of({"optimizer.schedule.factor": 0.3}, traced)


def test_the_search_spaces_of_the_experiments_are_possible(tmp_path):
    found = [
        name
        for name in SHRUNK
        if "def get_sweep" in (EXPERIMENTS / name.partition(":")[0]).read_text()
    ]
    assert found
    for name in found:
        location = arguments(name, tmp_path, tmp_path)[0].removeprefix("--config=")
        experiment = config.load(location)
        assert check_sweep(read_sweep(location), experiment)
        assert json.dumps(read_sweep(location))
