"""Files of arrays, whole and damaged."""

import json
import os
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from research.errors import UserError
from research.weights.files import read_arrays, write_arrays

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "b": np.zeros((), np.int64),
    "c": np.ones(3, np.float64) / 3,
    "empty": np.zeros((0, 2), np.float16),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_arrays_come_back_as_they_were(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write_arrays(path, ARRAYS)
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_bfloat16_in_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, {"x": np.array([1.5, -2], ml_dtypes.bfloat16)})
    assert read_arrays(path)["x"].dtype == ml_dtypes.bfloat16


@pytest.fixture
def index(tmp_path):
    """The index of ARRAYS in two files."""
    names = sorted(ARRAYS)
    places = {name: f"model-0000{1 + i // 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(places.values()):
        write_arrays(tmp_path / shard, {k: x for k, x in ARRAYS.items() if places[k] == shard})
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": places}))
    return path


def test_arrays_in_several_files(index):
    found = read_arrays(index)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_index_without_its_files_or_their_arrays(index):
    second = index.with_name("model-00002-of-00002.safetensors")
    write_arrays(second, {"c": ARRAYS["c"]})
    told = rf"{second}: has no empty, which {index.name} says is there"
    with pytest.raises(UserError, match=told):
        read_arrays(index)
    second.unlink()
    told = rf"{index}: 1 of its 2 files not beside it: {second.name}"
    with pytest.raises(UserError, match=told):
        read_arrays(index)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {"a": 1}}'])
def test_what_is_no_index_is_named(text, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        read_arrays(path)


def test_safetensors_are_read_where_they_are_used(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, {"x": np.zeros(1000, np.float32)})
    before = read_arrays(path)["x"]
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(7).tobytes())
    assert before[-1] == 7


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_files_are_named(suffix, damage, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write_arrays(path, ARRAYS)
    data = {"cut": path.read_bytes()[:-40], "text": b"<html>Not found</html>", "empty": b""}
    path.write_bytes(data[damage])
    with pytest.raises(UserError, match=str(path)):
        read_arrays(path)


def test_nothing_pickled_is_executed(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "weights.npz"
    np.savez(path, x=np.array([Harm()], dtype=object))
    with pytest.raises(UserError, match=str(path)):
        read_arrays(path)
    torch_file = tmp_path / "weights.pth"
    torch_file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match=str(torch_file)):
        read_arrays(torch_file)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", [".bin", ".th"])
def test_files_of_torch_need_torch(suffix, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; "
        f"from research.weights.files import read_arrays; read_arrays(Path('x{suffix}'))"
    )
    (tmp_path / f"x{suffix}").write_bytes(b"")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert f"x{suffix}: only torch reads this format; pip install torch" in done.stderr


@pytest.mark.parametrize("suffix", [".pth", ".th"])
def test_files_of_torch(suffix, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / f"checkpoint{suffix}"
    state = {"module.w": torch.ones(2, 3), "module.b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({"state_dict": state, "epoch": 3}, path)
    found = read_arrays(path)
    assert found.keys() == {"w", "b"}
    assert found["b"].dtype == ml_dtypes.bfloat16


def test_what_is_no_file_of_weights(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_arrays(tmp_path / "absent.npz")
    with pytest.raises(UserError, match=r"a folder; name the file in it"):
        read_arrays(tmp_path)
    (tmp_path / "x.h5").touch()
    with pytest.raises(UserError, match=r"weights are in \.safetensors"):
        read_arrays(tmp_path / "x.h5")
    with pytest.raises(UserError, match=r"as \.safetensors or \.npz"):
        write_arrays(tmp_path / "x.bin", ARRAYS)
