"""Runs that start from published weights and from other runs."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from research import preview, train, vision
from research.engine.checkpoint import list_steps
from research.engine.restore import load_run
from research.errors import UserError
from research.vision.classification import Classification
from research.weights import Pretrained, save
from research.weights.convert import flatten
from research.weights.files import read_arrays
from research.weights.positions import resize_positions
from research.weights.stacking import unstacked
from tests.shared import small_data, trained
from tests.shrink import arguments
from tests.weights.test_convert import assert_same, numbers

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


def shapes_of(model, *inputs):
    """Of a model's variables, by path."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
    leaves = traverse_util.flatten_dict(variables, sep="/")
    return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in leaves.items()}


@pytest.mark.parametrize("scanned", [True, False])
def test_layers_may_be_scanned_in_one_of_two_runs(scanned, shared_dir, tmp_path):
    settings = {
        "objective__model__num_layers": 2,
        "objective__model__scan_layers": scanned,
        "optimizer__schedule__warmup": "0 steps",
        "duration": "0 steps",
    }
    config = "sequence/gpt_shakespeare.py"
    assert train.run(arguments(config, tmp_path, small_data(shared_dir), **settings)) == 0
    objective = load_run(tmp_path).objective
    other = objective.model.clone(scan_layers=not scanned)
    shapes = shapes_of(other, np.zeros((1, 2), np.int32))
    found = Pretrained(str(tmp_path))(objective, shapes)
    assert {path: x.shape for path, x in found.items()} == {k: x.shape for k, x in shapes.items()}
    ours = unstacked({tuple(path.split("/")): x for path, x in found.items()})
    theirs = unstacked(variables_of(tmp_path))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)

    deeper = shapes_of(other.clone(num_layers=3), np.zeros((1, 2), np.int32))
    with pytest.raises(UserError, match=r"transformer/block_2/.*: not in the run"):
        Pretrained(str(tmp_path))(objective, deeper)


def test_positions_of_a_run_are_resized_on_request(tmp_path):
    plain = {"name": "vision.ViT", "variant": "tiny", "patch_size": 4, "scan_layers": True}
    given = arguments(CONFIG, tmp_path, tmp_path, duration="0 steps", objective__model=plain)
    given = [flag for flag in given if not flag.startswith("--config.objective.model.")]
    assert train.run(given) == 0
    run = load_run(tmp_path)
    shapes = shapes_of(run.objective.model, np.zeros((1, 16, 16, 1)))
    with pytest.raises(UserError, match=r"positions \(17, 192\): \(5, 192\) in the run"):
        Pretrained(str(tmp_path))(run.objective, shapes)
    found = Pretrained(str(tmp_path), resize_positions=True)(run.objective, shapes)
    theirs = run.variables["params"]["positions"]
    np.testing.assert_array_equal(found["params/positions"], resize_positions(theirs, 17))


def test_positions_of_a_file_are_resized_on_request(tmp_path):
    model = vision.ViT(num_classes=3, variant="tiny", patch_size=4)
    written, path = numbers(model, (8, 8, 3)), tmp_path / "vit.safetensors"
    save(path, model, written, naming="timm")
    shapes = shapes_of(model, np.zeros((1, 16, 16, 3)))
    with pytest.raises(UserError, match=r"pos_embed 1×5×192 +params/positions 17×192") as caught:
        Pretrained(str(path))(Classification(model), shapes)
    hint = str(caught.value).splitlines()[-1]
    assert "init_from.resize_positions" in hint and "image_shape" not in hint
    found = Pretrained(str(path), resize_positions=True)(Classification(model), shapes)
    theirs = written["params"]["positions"]
    np.testing.assert_array_equal(found["params/positions"], resize_positions(theirs, 17))


def test_a_file_is_for_the_student_of_a_distillation(tmp_path):
    model, path = vision.MLP(num_classes=3, hidden=(2,)), tmp_path / "student.npz"
    variables = numbers(model, (2, 2, 1))
    save(path, model, {**variables, "teacher": numbers(model, (2, 2, 1))}, naming="research")
    assert all(name.startswith("params/") for name in read_arrays(path))
    shapes = shapes_of(model, np.zeros((1, 2, 2, 1)))
    teacher = {f"teacher/{name}": x for name, x in shapes.items()}
    objective = vision.Distillation(model, teacher="runs/teacher")
    found = Pretrained(str(path))(objective, shapes | teacher)
    assert found.keys() == shapes.keys()
    assert_same(traverse_util.unflatten_dict(found, sep="/"), variables)


def test_every_trial_starts_from_them(source, tmp_path):
    together = {"parallelism__mode": "vmap", "parallelism__trials": {"seed": (0, 1)}}
    assert train.run(start(source, tmp_path / "run", tmp_path, **together)) == 0
    theirs, ours = variables_of(source), variables_of(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)
