"""python -m research.weights."""

import numpy as np
import pytest

from research import vision
from research.errors import UserError
from research.weights import __main__ as command
from research.weights import load, save
from research.weights.files import read_arrays, write_arrays
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
