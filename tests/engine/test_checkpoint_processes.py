"""Checkpoints across processes and devices, killed writers and full disks."""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine import checkpoint
from research.engine.checkpoint import CheckpointError, Checkpoints, clean_up, list_steps, restore

ROOT = Path(__file__).parents[2]


def start(program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output


EIGHT_DEVICES = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from research.engine.checkpoint import Checkpoints, restore

folder = Path(sys.argv[1])
assert jax.device_count() == 8
mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"))
specs = {"matrix": P("fsdp", "tensor"), "vector": P(("fsdp", "tensor")), "scalar": P(),
         "keys": P("fsdp"), "empty": P(), "replicated": P(None, "tensor")}
shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}

def values(step):
    return {"matrix": jnp.arange(96, dtype=jnp.float32).reshape(8, 12) * step,
            "vector": jnp.arange(16, dtype=jnp.bfloat16) + step, "scalar": jnp.int32(step),
            "keys": jax.random.split(jax.random.key(step), 4), "empty": jnp.zeros((0, 2)),
            "replicated": jnp.ones((3, 4)) * step}

target = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[name])
          for name, x in values(0).items()}
restored = restore(folder, target)
assert restored.step == 1
for name, expected in values(1).items():
    actual = restored.state[name]
    assert actual.sharding.is_equivalent_to(shardings[name], actual.ndim), (name, actual.sharding)
    assert actual.dtype == expected.dtype and bool((actual == expected).all()), name

checkpoints = Checkpoints(folder, keep_latest=3)
checkpoints.save(2, {name: jax.device_put(x, shardings[name]) for name, x in values(2).items()}, {})
checkpoints.wait()
moved = {"matrix": P("tensor", None), "vector": P("tensor")}
for name, spec in moved.items():
    target[name] = target[name].update(sharding=NamedSharding(mesh, spec))
restored = restore(folder, target)
for name, expected in values(2).items():
    assert restored.state[name].sharding.is_equivalent_to(target[name].sharding, expected.ndim)
    assert bool((restored.state[name] == expected).all()), name

with jax.enable_x64(True):
    wide = {"wide": np.pi * jnp.arange(8, dtype=jnp.float64), "long": jnp.int64(2**60 + 1)}
    checkpoints.save(3, wide, {})
    checkpoints.close()
    restored = restore(folder, wide, 3)
    for name, expected in wide.items():
        assert restored.state[name].dtype == expected.dtype
        assert bool((restored.state[name] == expected).all()), name
"""


def test_from_one_device_to_eight_and_back(tmp_path):
    def values(step: int) -> dict[str, jax.Array]:
        return {
            "matrix": jnp.arange(96, dtype=jnp.float32).reshape(8, 12) * step,
            "vector": jnp.arange(16, dtype=jnp.bfloat16) + step,
            "scalar": jnp.int32(step),
            "keys": jax.random.split(jax.random.key(step), 4),
            "empty": jnp.zeros((0, 2)),
            "replicated": jnp.ones((3, 4)) * step,
        }

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, values(1), {})
    checkpoints.close()
    flags = "--xla_force_host_platform_device_count=8"
    finish(start(EIGHT_DEVICES, tmp_path, XLA_FLAGS=flags))
    restored = restore(tmp_path, jax.eval_shape(lambda: values(0)), 2)
    for name, expected in values(2).items():
        assert len(restored.state[name].devices()) == 1
        assert restored.state[name].dtype == expected.dtype
        assert bool((restored.state[name] == expected).all()), name


TWO_PROCESSES = """
import sys
from pathlib import Path
import jax
jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", 2, int(sys.argv[2]))
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec as P
from research.engine.checkpoint import Checkpoints, list_steps, restore, set_aside_damaged

folder = Path(sys.argv[1])
mesh = jax.make_mesh((2,), ("data",))

def put(x, spec):
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda i: x[i])

def state(step):
    return {"weight": put(np.arange(400.0, dtype=np.float32).reshape(20, 20) + step, P("data")),
            "empty": put(np.zeros((0, 4), np.float32), P()),
            "rng": jax.random.wrap_key_data(put(np.array([1, step], np.uint32), P()))}

def check(restored, step):
    assert restored.step == step, restored.step
    for shard, expected in zip(restored.state["weight"].addressable_shards,
                               state(step)["weight"].addressable_shards, strict=True):
        np.testing.assert_array_equal(shard.data, expected.data)

checkpoints = Checkpoints(folder, keep_latest=2)
for step in (1, 2, 3):
    checkpoints.save(step, state(step), {})
checkpoints.wait()
multihost_utils.sync_global_devices("saved")
assert list_steps(folder) == (3, 2)
check(restore(folder, state(0)), 3)

(place,) = {name.parent for name in (folder / "3" / "state").rglob("*") if name.is_file()
            and name.parent.parent.name == "ocdbt.process_1"}
if jax.process_index() == 0:
    for path in place.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
multihost_utils.sync_global_devices("damaged")
damaged = []
restored = restore(folder, state(0), on_damage=lambda step, why: damaged.append(step))
check(restored, 2)
assert damaged == [3], "both processes must fall back, whichever found the damage"
set_aside_damaged(folder, 3)
checkpoints.save(3, state(3), {})
checkpoints.close()
check(restore(folder, state(0)), 3)
"""


def test_two_processes_write_one_checkpoint_and_agree_on_damage(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [start(TWO_PROCESSES, tmp_path, index, port) for index in range(2)]
    for process in processes:
        finish(process)
    target = {
        "weight": jax.ShapeDtypeStruct((20, 20), jnp.float32),
        "empty": jax.ShapeDtypeStruct((0, 4), jnp.float32),
        "rng": jax.eval_shape(lambda: jax.random.key(0)),
    }
    restored = restore(tmp_path, target)
    assert restored.step == 3
    expected = np.arange(400.0, dtype=np.float32).reshape(20, 20) + 3
    np.testing.assert_array_equal(restored.state["weight"], expected)


SAVE_FOREVER = """
import sys
from pathlib import Path
import jax.numpy as jnp
from research.engine.checkpoint import Checkpoints, list_steps
folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder, keep_latest=1)
step = max(list_steps(folder), default=0)
while True:
    step += 1
    parts = {f"part_{i}": jnp.arange(100_000.0) * step + i for i in range(5)}
    checkpoints.save(step, parts, {"step": step})
    print(step, flush=True)
"""


def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path):
    target = {f"part_{i}": jax.ShapeDtypeStruct((100_000,), jnp.float32) for i in range(5)}
    moments = random.Random(0)
    before = 0
    for _ in range(4):
        clean_up(tmp_path)
        process = start(SAVE_FOREVER, tmp_path)
        try:
            for _ in range(2):
                assert process.stdout.readline(), process.stderr.read()
            time.sleep(moments.uniform(0, 0.4))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
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
