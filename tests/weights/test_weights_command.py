"""python -m research.weights."""

import jax
import numpy as np
import pytest

from research import vision
from research.engine.restore import load_run
from research.errors import UserError
from research.weights import __main__ as command
from research.weights import load, save
from research.weights.files import read_arrays, write_arrays
from research.weights.positions import resize_positions
from tests.shared import trained
from tests.weights.test_convert import assert_same, numbers


def test_from_their_names_to_ours_and_back(tmp_path, capsys):
    model = vision.ResNet(num_classes=5, depth=18)
    variables = numbers(model)
    theirs, ours, back = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "c"))
    save(theirs, model, variables)
    flags = ["--model", "vision.ResNet18", "--model.num_classes=5"]
    assert command.run(["convert", theirs, ours, *flags]) == 0
    assert "ResNet in the names of research" in capsys.readouterr().out
    assert "params/stem/conv/kernel" in read_arrays(tmp_path / "b.safetensors")
    assert_same(load(ours, model), variables)
    assert command.run(["convert", ours, back, *flags, "--to", "torchvision"]) == 0
    first, second = read_arrays(tmp_path / "a.safetensors"), read_arrays(tmp_path / "c.safetensors")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_images_and_classes_other_than_the_published(tmp_path):
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "ours.npz"
    grey = vision.CifarResNet(depth=8, channels=4)
    written = numbers(grey, (8, 8, 1))
    save(theirs, grey, written)
    given = ["convert", str(theirs), str(ours), "--model=vision.CifarResNet8"]
    given += ["--model.channels=4", "--model.num_classes=3"]
    with pytest.raises(UserError, match=r"linear.weight 10×16"):
        command.run([*given, "--image_shape=8,8,1"])
    with pytest.raises(UserError, match=r"images of 1 channel\(s\)"):
        command.run([*given, "--drop_head"])
    assert command.run([*given, "--image_shape=8,8,1", "--drop_head"]) == 0
    arrays = read_arrays(ours)
    assert arrays["params/head/kernel"].shape == (16, 3)
    stem = written["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(arrays["params/stem/conv/kernel"], stem)


def test_positions_for_images_of_another_size(tmp_path):
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "ours.npz"
    model = vision.ViT(num_classes=3, variant="tiny", patch_size=4)
    written = numbers(model, (8, 8, 3))
    save(theirs, model, written, naming="timm")
    given = ["convert", str(theirs), str(ours), "--model=vision.ViT", "--image_shape=16,16,3"]
    given += ["--model.num_classes=3", "--model.variant=tiny", "--model.patch_size=4"]
    with pytest.raises(UserError, match="pos_embed 1×5×192"):
        command.run(given)
    assert command.run([*given, "--resize_positions"]) == 0
    expected = resize_positions(written["params"]["positions"], 17)
    np.testing.assert_array_equal(read_arrays(ours)["params/positions"], expected)


def test_of_a_run(shared_dir, tmp_path):
    workdir, ours = trained(shared_dir, "vision/lenet_digits.py"), tmp_path / "ours.npz"
    assert command.run(["convert", str(workdir), str(ours)]) == 0
    loaded = load_run(workdir)
    found = load(ours, loaded.objective.model, image_shape=(8, 8, 1))
    assert_same(found, jax.device_get(loaded.variables))
    with pytest.raises(UserError, match=r"--model: .* is a run, whose config names its model"):
        command.run(["convert", str(workdir), str(ours), "--model=vision.LeNet"])
    with pytest.raises(UserError, match=r"--drop_head: .* is a run, which is converted as it is"):
        command.run(["convert", str(workdir), str(ours), "--drop_head"])


def test_shows_what_is_in_a_file(tmp_path, capsys):
    write_arrays(tmp_path / "x.npz", {"fc.weight": np.zeros((3, 4), np.float32)})
    assert command.run(["show", str(tmp_path / "x.npz")]) == 0
    printed = capsys.readouterr().out
    assert "fc.weight" in printed and "(3, 4)" in printed and "12 numbers" in printed


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--model: name the model"),
        (["--model", "vision.ResNet51"], r"depth"),
        (["--model", "vision.ResNte50"], r"ResNet"),
        (["--model", "vision.ResNet50", "--model.num_clases=3"], r"num_classes"),
        (["--model", "vision.ResNet18"], r"fc.weight 5×512"),
        (["--model", "vision.ResNet18", "--naming", "tim"], r"timm"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(flags, told, tmp_path):
    model = vision.ResNet(num_classes=5, depth=18)
    save(tmp_path / "a.npz", model, numbers(model))
    with pytest.raises(UserError, match=told):
        command.run(["convert", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), *flags])
    assert not (tmp_path / "b.npz").exists()
