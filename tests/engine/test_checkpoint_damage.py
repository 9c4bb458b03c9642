"""Damaged checkpoints are found out and passed over, and nothing is taken for damage that is none.

The damage is done to the newest of two checkpoints; what comes back must be the older one, or
the newest exactly as it was saved where the damaged file has no part in it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine import checkpoint
from research.engine.checkpoint import CheckpointError, Checkpoints, list_steps, restore


def state(step: int) -> dict[str, jax.Array]:
    return {"step": jnp.int32(step), "weight": jnp.arange(64.0) * step, "zeros": jnp.zeros(8)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Steps 1 to 3, of which step 2 has the best metric, then 3."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoints = Checkpoints(folder, keep_latest=3)
    for step, metric in ((1, 0.5), (2, 0.1), (3, 0.3)):
        checkpoints.save(step, state(step), {"step": step}, metric)
    checkpoints.close()
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "checkpoints"))


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def assert_restores(folder: Path, wanted: str, step: int, damaged: list[int]) -> list[str]:
    """Checks what comes back and which steps are reported; returns the reasons."""
    reported: list[tuple[int, str]] = []
    restored = restore(
        folder, state(0), wanted, on_damage=lambda step, why: reported.append((step, why))
    )
    assert [number for number, _ in reported] == damaged
    assert restored.step == step and restored.extra == {"step": step}
    for name, array in state(step).items():
        np.testing.assert_array_equal(restored.state[name], array)
    return [reason for _, reason in reported]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit flipped in its first byte": lambda path: flip(path, 0),
    "a bit flipped in its middle": lambda path: flip(path, path.stat().st_size // 2),
    "a bit flipped in its last byte": lambda path: flip(path, path.stat().st_size - 1),
    "truncated by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_is_protected(whole, tmp_path, damage):
    names = [path.relative_to(whole / "3") for path in files(whole / "3")]
    assert len([name for name in names if name.parts[0] == "state"]) > 5
    for name in names:
        folder = Path(shutil.copytree(whole, tmp_path / "damaged"))
        DAMAGES[damage](folder / "3" / name)
        if name.parts[0] == "state" or name.name == "manifest.json":
            (reason,) = assert_restores(folder, "latest", step=2, damaged=[3])
            assert name.as_posix() in reason
        else:
            assert_restores(folder, "latest", step=3, damaged=[])
        shutil.rmtree(folder)


def test_every_byte_of_the_manifest_is_protected(folder):
    manifest = folder / "3" / "manifest.json"
    content = manifest.read_bytes()
    for place in range(len(content)):
        flip(manifest, place)
        with pytest.raises(checkpoint.DamageError):
            checkpoint.read_manifest(folder / "3")
        manifest.write_bytes(content)
    checkpoint.read_manifest(folder / "3")


def test_damaged_folders(folder):
    shutil.rmtree(folder / "3" / "state")
    (reason,) = assert_restores(folder, "latest", step=2, damaged=[3])
    assert "state/" in reason and "missing" in reason
    shutil.rmtree(folder / "3")
    (folder / "3").mkdir()
    (reason,) = assert_restores(folder, "latest", step=2, damaged=[3])
    assert reason == "manifest.json is missing"
    shutil.rmtree(folder / "2" / "state" / "d")
    assert_restores(folder, "latest", step=1, damaged=[3, 2])
    assert list_steps(folder) == (3, 2, 1), "restoring must leave damaged checkpoints alone"


def test_the_files_of_two_checkpoints_mixed(folder):
    shutil.rmtree(folder / "3" / "state")
    shutil.copytree(folder / "1" / "state", folder / "3" / "state")
    assert_restores(folder, "latest", step=2, damaged=[3])


def test_the_next_best_stands_in_for_the_best(folder):
    flip(files(folder / "2" / "state" / "d")[0], 40)
    assert_restores(folder, "best", step=3, damaged=[2])
    (folder / "2" / "manifest.json").unlink()
    assert_restores(folder, "best", step=3, damaged=[2])
    flip(files(folder / "1" / "state" / "d")[0], 40)
    (folder / "3" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)step 3: .*step 2: .*step 1: "):
        restore(folder, state(0), "best")


def test_the_best_is_kept_beside_a_damaged_manifest(folder):
    (folder / "3" / "manifest.json").unlink()
    checkpoints = Checkpoints(folder, keep_latest=1, keep_best=1)
    checkpoints.save(4, state(4), {"step": 4})
    checkpoints.close()
    assert list_steps(folder) == (4, 2)


def test_when_none_is_good_each_defect_is_told_and_nothing_is_lost(folder, caplog):
    flip(folder / "3" / "state" / "_METADATA", 5)
    (folder / "2" / "manifest.json").unlink()
    os.truncate(folder / "1" / "manifest.json", 30)
    before = files(folder)
    with pytest.raises(CheckpointError) as caught:
        restore(folder, state(0))
    told = str(caught.value)
    assert "step 3: state/_METADATA does not hold the bytes that were written" in told
    assert "step 2: manifest.json is missing" in told
    assert "step 1: manifest.json cannot be parsed" in told
    assert files(folder) == before
    assert len(caplog.records) == 3, "without a callback each damage is logged"


def test_a_given_step_has_no_substitute(folder):
    os.truncate(folder / "3" / "state" / "_METADATA", 10)
    with pytest.raises(CheckpointError, match="step 3: state/_METADATA has 10 bytes instead of"):
        restore(folder, state(0), 3)
    assert_restores(folder, "latest", step=2, damaged=[3])


def test_other_errors_are_not_taken_for_damage(folder, monkeypatch):
    """Files with the right checksums that cannot be restored are not worse for being old."""

    def out_of_memory(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(checkpoint, "read_state", out_of_memory)
    with pytest.raises(MemoryError):
        restore(folder, state(0), on_damage=lambda step, why: pytest.fail(why))
