"""Runs that start from published weights and from other runs."""

import jax
import numpy as np
import pytest

from research import preview, train, vision
from research.engine.checkpoint import list_steps
from research.engine.restore import load_run
from research.errors import UserError
from research.weights import save
from research.weights.convert import flatten
from tests.shared import trained
from tests.shrink import arguments
from tests.weights.test_convert import numbers

CONFIG = "vision/lenet_digits.py"


def start(path, workdir, data_dir, *, settings=None, **overrides):
    """A run of no steps: its checkpoint holds what it started from."""
    init_from = {"name": "weights.Pretrained", "path": str(path), **(settings or {})}
    given = {"init_from": init_from, "duration": "0 steps", **overrides}
    return arguments(CONFIG, workdir, data_dir, **given)


def variables_of(workdir):
    return flatten(load_run(workdir).variables)


@pytest.fixture(scope="module")
def source(shared_dir):
    """A run of a few steps."""
    return trained(shared_dir, CONFIG)


def test_starts_from_what_a_run_ended_with(source, tmp_path):
    settings = {"leave": ("params/head/.*",)}
    assert train.run(start(source, tmp_path / "next", tmp_path, settings=settings)) == 0
    theirs, ours = variables_of(source), variables_of(tmp_path / "next")
    assert theirs.keys() == ours.keys()
    for path, array in ours.items():
        same = np.array_equal(array, theirs[path])
        assert same == (path[1] != "head"), path


def test_the_average_starts_there_too(source, tmp_path):
    assert train.run(start(source, tmp_path / "next", tmp_path, ema_decay=0.9)) == 0
    theirs, ours = variables_of(source), variables_of(tmp_path / "next")
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def test_a_run_of_other_paths_is_renamed(shared_dir, tmp_path):
    source = trained(shared_dir, "selfsupervised/byol_mnist.py")
    settings = {
        "rename": (
            ("params/backbone/(.*)", r"params/\1"),
            ("batch_stats/backbone/(.*)", r"batch_stats/\1"),
        ),
        "leave": ("params/head/.*",),
    }
    model = {"name": "vision.ConvNet", "num_classes": 10, "channels": (4, 8)}
    given = start(source, tmp_path / "next", tmp_path, settings=settings, objective__model=model)
    given = [flag for flag in given if not flag.startswith("--config.objective.model.")]
    assert train.run(given) == 0
    theirs, ours = variables_of(source), variables_of(tmp_path / "next")
    kernel = ("params", "Conv_0", "kernel")
    np.testing.assert_array_equal(ours[kernel], theirs[("params", "backbone", *kernel[1:])])
    mean = ("batch_stats", "BatchNorm_0", "mean")
    np.testing.assert_array_equal(ours[mean], theirs[("batch_stats", "backbone", *mean[1:])])


def test_starts_from_published_weights_and_goes_on_without_them(tmp_path, capsys):
    model = vision.CifarResNet(num_classes=5, depth=8, channels=4)
    path = tmp_path / "resnet.safetensors"
    theirs = numbers(model, (8, 8, 1))
    save(path, model, theirs)
    plain = {"name": "vision.CifarResNet", "depth": 8, "channels": 4}
    given = start(
        path,
        tmp_path / "run",
        tmp_path,
        settings={"leave": ("params/head/.*",)},
        objective__model=plain,
    )
    given = [flag for flag in given if not flag.startswith("--config.objective.model.")]
    shown = [flag for flag in given if not flag.startswith("--workdir")]
    assert preview.run([*shown, "--no_compile"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    origins = {row[0]: row[-1] for row in rows if row and row[0].startswith(("stem/", "head/"))}
    assert origins["stem/conv/kernel"] == str(path)
    assert origins["head/kernel"] == "initialiser"

    assert train.run(given) == 0
    ours = variables_of(tmp_path / "run")
    for key, array in flatten(theirs).items():
        assert (key[1] == "head") != np.array_equal(ours[key], array), key
    path.unlink()
    assert train.run(given) == 0, "a run that has begun does not need the file"
    assert list_steps(tmp_path / "run" / "checkpoints") == (0,)


def test_published_weights_for_colour_are_not_for_grey(tmp_path):
    model = vision.CifarResNet(num_classes=10, depth=8, channels=4)
    path = tmp_path / "resnet.safetensors"
    save(path, model, numbers(model, (8, 8, 3)))
    plain = {"name": "vision.CifarResNet", "depth": 8, "channels": 4, "num_classes": 10}
    given = start(path, tmp_path / "run", tmp_path, objective__model=plain)
    given = [flag for flag in given if not flag.startswith("--config.objective.model.")]
    told = (
        r"images of 3 channel\(s\), the images here have 1: .* leave = \(\"params/stem/conv/kernel"
    )
    with pytest.raises(UserError, match=told):
        train.run(given)
    leave = "--config.init_from.leave=('params/stem/conv/kernel',)"
    assert train.run([*given, leave]) == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"head/kernel \(8, 10\)|params/head"),
        ({"leave": ("params/heed/.*",)}, r"'params/heed/\.\*' matches no variable"),
        ({"take": ("params/head",)}, r"'params/head' matches no variable's whole path"),
        ({"take": ("(",)}, r"init_from.take: '\(' is no regular expression"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(settings, told, source, tmp_path):
    given = start(source, tmp_path / "run", tmp_path, settings=settings)
    given.append("--config.objective.model.num_classes=11")
    with pytest.raises(UserError, match=told):
        train.run(given)
    assert not (tmp_path / "run" / "config.json").exists()


def test_no_such_file_and_no_such_run(tmp_path):
    with pytest.raises(
        UserError, match=r"init_from.path = '.*absent\.safetensors': no such file, and no run's"
    ):
        train.run(start(tmp_path / "absent.safetensors", tmp_path / "run", tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run here"):
        train.run(start(tmp_path / "empty", tmp_path / "run", tmp_path))


def test_every_trial_starts_from_them(source, tmp_path):
    together = {"parallelism__mode": "vmap", "parallelism__trials": {"seed": (0, 1)}}
    assert train.run(start(source, tmp_path / "run", tmp_path, **together)) == 0
    theirs, ours = variables_of(source), variables_of(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)
