"""Checkpoints across processes and devices, killed writers and full disks."""

import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from research.engine import checkpoint
from research.engine.checkpoint import (
    CheckpointError,
    Checkpoints,
    Restored,
    clean_up,
    list_steps,
    restore,
    set_aside_damaged,
)
from tests.processes import finish, free_port, start


def every_kind(step: int) -> dict[str, jax.Array]:
    return {
        "matrix": jnp.arange(96, dtype=jnp.float32).reshape(8, 12) * step,
        "vector": jnp.arange(16, dtype=jnp.bfloat16) + step,
        "scalar": jnp.int32(step),
        "keys": jax.random.split(jax.random.key(step), 4),
        "empty": jnp.zeros((0, 2)),
        "replicated": jnp.ones((3, 4)) * step,
    }


def assert_same(restored: dict[str, jax.Array], expected: dict[str, jax.Array]) -> None:
    for name, array in expected.items():
        assert restored[name].dtype == array.dtype, name
        assert bool((restored[name] == array).all()), name


def assert_placed(restored: dict[str, jax.Array], target: dict[str, jax.ShapeDtypeStruct]) -> None:
    for name, array in restored.items():
        assert array.sharding.is_equivalent_to(target[name].sharding, array.ndim), name


def go_on_with_eight_devices(folder: Path) -> None:
    assert jax.device_count() == 8
    mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"))
    specs = {
        "matrix": P("fsdp", "tensor"),
        "vector": P(("fsdp", "tensor")),
        "scalar": P(),
        "keys": P("fsdp"),
        "empty": P(),
        "replicated": P(None, "tensor"),
    }
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    target = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[name])
        for name, x in every_kind(0).items()
    }
    restored = restore(folder, target)
    assert restored.step == 1
    assert_same(restored.state, every_kind(1))
    assert_placed(restored.state, target)

    checkpoints = Checkpoints(folder, keep_latest=3)
    split = {name: jax.device_put(x, shardings[name]) for name, x in every_kind(2).items()}
    checkpoints.save(2, split, {})
    checkpoints.wait()
    moved = {"matrix": P("tensor", None), "vector": P("tensor")}
    target |= {
        name: target[name].update(sharding=NamedSharding(mesh, spec))
        for name, spec in moved.items()
    }
    restored = restore(folder, target)
    assert_same(restored.state, every_kind(2))
    assert_placed(restored.state, target)

    with jax.enable_x64(True):
        wide = {"wide": np.pi * jnp.arange(8, dtype=jnp.float64), "long": jnp.int64(2**60 + 1)}
        checkpoints.save(3, wide, {})
        checkpoints.close()
        assert_same(restore(folder, wide, 3).state, wide)


def test_from_one_device_to_eight_and_back(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, every_kind(1), {})
    checkpoints.close()
    finish(start(go_on_with_eight_devices, tmp_path, num_devices=8))
    restored = restore(tmp_path, jax.eval_shape(lambda: every_kind(0)), 2)
    assert_same(restored.state, every_kind(2))
    for array in restored.state.values():
        assert len(array.devices()) == 1


def write_as_one_of_two(folder: Path, index: int, port: int) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = jax.make_mesh((2,), ("data",))

    def put(x: np.ndarray, spec: P) -> jax.Array:
        return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda i: x[i])

    def state(step: int) -> dict[str, jax.Array]:
        weight = np.arange(400.0, dtype=np.float32).reshape(20, 20) + step
        return {
            "weight": put(weight, P("data")),
            "empty": put(np.zeros((0, 4), np.float32), P()),
            "rng": jax.random.wrap_key_data(put(np.array([1, step], np.uint32), P())),
        }

    def check(restored: Restored, step: int) -> None:
        assert restored.step == step, restored.step
        shards = (tree["weight"].addressable_shards for tree in (restored.state, state(step)))
        for shard, expected in zip(*shards, strict=True):
            np.testing.assert_array_equal(shard.data, expected.data)

    checkpoints = Checkpoints(folder, keep_latest=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {})
    checkpoints.wait()
    multihost_utils.sync_global_devices("saved")
    assert list_steps(folder) == (3, 2)
    check(restore(folder, state(0)), 3)

    (place,) = {
        name.parent
        for name in (folder / "3" / "state").rglob("*")
        if name.is_file() and name.parent.parent.name == "ocdbt.process_1"
    }
    if index == 0:
        for path in place.iterdir():
            path.write_bytes(path.read_bytes()[:-1])
    multihost_utils.sync_global_devices("damaged")
    damaged: list[int] = []
    restored = restore(folder, state(0), on_damage=lambda step, why: damaged.append(step))
    check(restored, 2)
    assert damaged == [3], "both processes must fall back, whichever found the damage"
    set_aside_damaged(folder, 3)
    checkpoints.save(3, state(3), {})
    checkpoints.close()
    check(restore(folder, state(0)), 3)


def test_two_processes_write_one_checkpoint_and_agree_on_damage(tmp_path):
    port = free_port()
    finish(*(start(write_as_one_of_two, tmp_path, index, port) for index in range(2)))
    target = {
        "weight": jax.ShapeDtypeStruct((20, 20), jnp.float32),
        "empty": jax.ShapeDtypeStruct((0, 4), jnp.float32),
        "rng": jax.eval_shape(lambda: jax.random.key(0)),
    }
    restored = restore(tmp_path, target)
    assert restored.step == 3
    expected = np.arange(400.0, dtype=np.float32).reshape(20, 20) + 3
    np.testing.assert_array_equal(restored.state["weight"], expected)


def save_forever(folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep_latest=1)
    step = max(list_steps(folder), default=0)
    while True:
        step += 1
        parts = {f"part_{i}": jnp.arange(100_000.0) * step + i for i in range(5)}
        checkpoints.save(step, parts, {"step": step})
        print(step)


def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path):
    target = {f"part_{i}": jax.ShapeDtypeStruct((100_000,), jnp.float32) for i in range(5)}
    moments = random.Random(0)
    before = 0
    for _ in range(4):
        clean_up(tmp_path)
        process = start(save_forever, tmp_path)
        try:
            while process.running and process.log.read_text().count("\n") < 2:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.4))
        finally:
            process.kill()
        assert process.wait()[0] == -signal.SIGKILL, process.log.read_text()
        restored = restore(tmp_path, target, on_damage=lambda step, why: pytest.fail(why))
        assert restored.step > before and restored.extra == {"step": restored.step}
        for i in range(5):
            expected = jnp.arange(100_000.0) * restored.step + i
            np.testing.assert_array_equal(restored.state[f"part_{i}"], expected)
        before = restored.step


def small(step: int) -> dict[str, jax.Array]:
    return {"weight": jnp.arange(1000.0) + step}


def assert_still_saves(folder: Path, checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, small(step), {})
    checkpoints.close()
    restored = restore(folder, small(0))
    assert restored.step == step
    np.testing.assert_array_equal(restored.state["weight"], small(step)["weight"])


def test_a_full_disk(tmp_path, capfd, caplog):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        folder = disk / "checkpoints"
        checkpoints = Checkpoints(folder)
        checkpoints.save(1, small(1), {})
        checkpoints.save(2, {"weight": jnp.ones(2_000_000)}, {})
        with pytest.raises(CheckpointError) as caught:
            checkpoints.save(3, small(3), {})
        told = str(caught.value)
        assert f"{folder}: checkpoint of step 2 was not written: no space left" in told
        assert "untouched: 1" in told
        checkpoints.wait()
        assert [path.name for path in folder.iterdir()] == ["1"]
        assert restore(folder, small(0)).step == 1
        assert capfd.readouterr() == ("", "") and not caplog.records, "one error is enough"
        assert_still_saves(folder, checkpoints, 4)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("code", "told"), [(errno.ENOSPC, "no space left;"), (errno.EIO, os.strerror(errno.EIO))]
)
def test_a_failed_write_surfaces_at_the_next_call(tmp_path, monkeypatch, code, told):
    write = checkpoint.write_manifest

    def fail(*_):
        raise OSError(code, os.strerror(code))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, small(1), {})
    checkpoints.wait()
    monkeypatch.setattr(checkpoint, "write_manifest", fail)
    checkpoints.save(2, small(2), {})
    with pytest.raises(CheckpointError, match=rf"step 2 was not written: .*{told}.*untouched: 1"):
        checkpoints.wait()
    assert list_steps(tmp_path) == (1,) and len(list(tmp_path.iterdir())) == 1
    checkpoints.save(3, small(3), {})
    with pytest.raises(CheckpointError, match="step 3 was not written"):
        checkpoints.save(4, small(4), {})
    monkeypatch.setattr(checkpoint, "write_manifest", write)
    assert_still_saves(tmp_path, checkpoints, 5)
    assert list_steps(tmp_path) == (5,)
