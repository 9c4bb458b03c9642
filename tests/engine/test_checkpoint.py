"""Saving and restoring: what comes back, which checkpoints are kept, what is refused."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from research.engine import checkpoint
from research.engine.checkpoint import (
    CheckpointError,
    Checkpoints,
    clean_up,
    list_steps,
    restore,
    set_aside_damaged,
)
from research.errors import UserError

ROOT = Path(__file__).parents[2]


@struct.dataclass
class State:
    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any
    rng: jax.Array


class Moments(NamedTuple):
    mu: Any
    nu: Any


def make_state(seed: int) -> State:
    """Every kind of leaf and node that a training state has."""
    rng = jax.random.key(seed)
    kernel = jax.random.normal(rng, (5, 3))
    params = {
        "Dense_0": {"kernel": kernel, "bias": kernel[0].astype(jnp.bfloat16)},
        "half": kernel.astype(jnp.float16),
        "nan": jax.lax.bitcast_convert_type(jnp.uint32(0x7FC00000 + seed), jnp.float32),
        "spectrum": jax.lax.complex(kernel, -kernel),
        "flags": kernel > 0,
        "codes": jax.random.bits(rng, (4,), jnp.uint32),
        "tokens": jnp.arange(seed, seed + 3, dtype=jnp.int8),
        "nothing": jnp.zeros((0, 3)),
    }
    masked = optax.masked(optax.adam(0.1), {name: name == "Dense_0" for name in params})
    opt_state = (optax.chain(optax.clip(1.0), masked).init(params), Moments(kernel * 2, None))
    return State(jnp.int32(seed), params, opt_state, None, jax.random.split(rng, 2))


def abstract_state() -> State:
    return jax.eval_shape(lambda: make_state(0))


def bits(state: Any) -> list[bytes]:
    def numbers(leaf: jax.Array) -> jax.Array:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return [np.asarray(numbers(leaf)).tobytes() for leaf in jax.tree.leaves(state)]


def small(step: int) -> dict[str, jax.Array]:
    return {"step": jnp.int32(step), "weight": jnp.arange(4.0) + step}


def save_all(folder: Path, metrics: dict[int, float | None], **settings: Any) -> None:
    checkpoints = Checkpoints(folder, **settings)
    for step, metric in metrics.items():
        checkpoints.save(step, small(step), {"step": step}, metric)
    checkpoints.close()


def test_a_state_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder")
    extra = {"position": 7, "window": [[1.5, float("nan")], "ü"], "none": None}
    checkpoints.save(3, make_state(3), extra)
    checkpoints.close()
    restored = restore(tmp_path / "new" / "folder", abstract_state())
    assert restored.step == 3
    assert repr(restored.extra) == repr(extra)
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(3))
    assert jax.tree.map(jnp.shape, restored.state) == jax.tree.map(jnp.shape, make_state(3))
    assert bits(restored.state) == bits(make_state(3))
    assert restored.state.rng.dtype == make_state(3).rng.dtype


def test_save_returns_before_the_checkpoint_is_whole(tmp_path, monkeypatch):
    """While the manifest is held back: the step is not there, its predecessor still is, and the
    buffers are no longer needed. Holds only as long as orbax calls `_seal` before it renames."""
    write, hold = checkpoint.write_manifest, threading.Event()

    def held(*arguments):
        assert hold.wait(60)
        write(*arguments)

    big = {"weight": jnp.arange(2_000_000.0), "other": jnp.ones((1000, 100))}
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 7, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, jax.tree.map(lambda x: x + 1, big), {})
    checkpoints.wait()
    monkeypatch.setattr(checkpoint, "write_manifest", held)
    state = jax.tree.map(lambda x: x + 2, big)
    checkpoints.save(2, state, {})
    for _ in range(20):
        state = overwrite(state)
    jax.tree.map(lambda x: x.delete(), state)
    try:
        assert list_steps(tmp_path) == (1,)
    finally:
        hold.set()
    checkpoints.close()
    assert list_steps(tmp_path) == (2,)
    restored = restore(tmp_path, big)
    assert restored.step == 2
    np.testing.assert_array_equal(restored.state["weight"], big["weight"] + 2)


@pytest.mark.parametrize(
    ("settings", "metrics", "kept"),
    [
        ({}, [None, None, None], (3,)),
        ({"keep_latest": 2}, [None, None, None, None], (4, 3)),
        ({"keep_best": 1}, [0.3, 0.1, 0.2, 0.4], (4, 2)),
        ({"keep_best": 2, "best_mode": "max"}, [3, 1, 2, 0.5, 0.1], (5, 3, 1)),
        ({"keep_best": 1}, [0.1, float("nan"), None, 0.1], (4,)),
        ({"keep_best": 1, "best_mode": "max"}, [float("nan"), 0.1, None], (3, 2)),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, settings, metrics, kept):
    save_all(tmp_path, dict(enumerate(metrics, start=1)), **settings)
    assert list_steps(tmp_path) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, kept))


def test_what_was_just_saved_is_kept_though_there_are_newer_steps(tmp_path):
    save_all(tmp_path, {10: None})
    save_all(tmp_path, {5: None, 6: None})
    assert list_steps(tmp_path) == (10, 6)


def test_restoring_the_best_and_a_given_step(tmp_path):
    save_all(tmp_path, {1: 0.2, 2: 0.1, 3: 0.3}, keep_latest=3, best_mode="min")
    assert restore(tmp_path, small(0), "best").step == 2
    third = restore(tmp_path, small(0), 3)
    assert third.step == 3 and third.extra == {"step": 3}
    np.testing.assert_array_equal(third.state["weight"], small(3)["weight"])
    with pytest.raises(UserError, match=r"no checkpoint \(4\); steps there: 3, 2, 1"):
        restore(tmp_path, small(0), 4)


def test_no_checkpoint_and_no_metric(tmp_path):
    with pytest.raises(UserError, match="steps there: none"):
        restore(tmp_path / "absent", small(0))
    save_all(tmp_path, {1: None})
    with pytest.raises(UserError, match="no checkpoint with a metric; steps there: 1"):
        restore(tmp_path, small(0), "best")


def test_another_structure_is_the_users_mistake_and_not_damage(tmp_path):
    save_all(tmp_path, {1: None})
    other = {
        "step": jnp.float32(0),
        "weight": jnp.zeros((4, 2)),
        "bias": jnp.zeros(2),
    }

    def never(step: int, reason: str) -> None:
        pytest.fail(f"a difference in structure was reported as damage: {reason}")

    with pytest.raises(UserError) as caught:
        restore(tmp_path, other, on_damage=never)
    assert not isinstance(caught.value, CheckpointError)
    for line in (
        "bias: float32[2] expected, nothing saved",
        "step: float32[] expected, int32[] saved",
        "weight: float32[4,2] expected, float32[4] saved",
    ):
        assert line in str(caught.value)
    with pytest.raises(UserError, match=r"weight: nothing expected, float32\[4\] saved"):
        restore(tmp_path, {"step": jnp.int32(0)}, on_damage=never)
    rbg = {"rng": jax.random.key(0, impl="rbg")}
    checkpoints = Checkpoints(tmp_path / "keys")
    checkpoints.save(1, rbg, {})
    checkpoints.close()
    assert bits(restore(tmp_path / "keys", jax.eval_shape(lambda: rbg)).state) == bits(rbg)
    with pytest.raises(UserError, match=r"rng: key<fry>\[\] expected, key<rbg>\[\] saved"):
        restore(tmp_path / "keys", {"rng": jax.random.key(0)}, on_damage=never)


def test_what_save_refuses(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, small(1), {})
    with pytest.raises(UserError, match="1 exists"):
        checkpoints.save(1, small(1), {})
    with pytest.raises(TypeError, match="a/b is a ndarray"):
        checkpoints.save(2, {"a": {"b": np.zeros(2)}}, {})
    with pytest.raises(ValueError, match="same path"):
        checkpoints.save(2, {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(2)}, {})
    checkpoints.save(3, small(3), {})
    checkpoints.close()
    assert list_steps(tmp_path) == (3,)
    deleted = small(4)
    deleted["weight"].delete()
    with pytest.raises(RuntimeError, match="deleted"):
        Checkpoints(tmp_path).save(4, deleted, {})
    assert list_steps(tmp_path) == (3,)
    with pytest.raises(UserError, match="keep_latest"):
        Checkpoints(tmp_path, keep_latest=0)


def test_leftovers_are_no_checkpoints_and_can_be_cleaned_up(tmp_path):
    save_all(tmp_path, {1: None})
    for name in ("2.orbax-checkpoint-tmp", "0.deleted", "0.deleted-2", "3.damaged", "007", "x"):
        (tmp_path / name / "state").mkdir(parents=True)
        (tmp_path / name / "state" / "junk").write_text("junk")
    (tmp_path / "9").write_text("a file")
    assert list_steps(tmp_path) == (1,)
    assert restore(tmp_path, small(0)).step == 1
    checkpoints = Checkpoints(tmp_path, keep_latest=2)
    checkpoints.save(2, small(2), {})
    checkpoints.close()
    assert restore(tmp_path, small(0)).step == 2, "a killed save kept its step from being saved"
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
    clean_up(tmp_path)
    clean_up(tmp_path / "absent")
    left = {"1", "2", "3.damaged", "007", "x", "9"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_damaged_step_is_set_aside_and_saved_again(tmp_path):
    for number, name in enumerate(("1.damaged", "1.damaged-2", "1.damaged-3")):
        save_all(tmp_path, {1: None})
        set_aside_damaged(tmp_path, 1)
        assert list_steps(tmp_path) == ()
        assert (tmp_path / name / "manifest.json").exists()
        assert len(list(tmp_path.iterdir())) == number + 1


def test_a_checkpoint_replaced_while_it_is_read_is_not_damaged(tmp_path, monkeypatch):
    """What `evaluate` meets beside a training run that keeps one checkpoint."""
    save_all(tmp_path, {1: None})
    check_files, read_state = checkpoint.check_files, checkpoint.read_state

    def train_on(step, function):
        def replaced_first(*arguments):
            if list_steps(tmp_path) == (step,):
                save_all(tmp_path, {step + 1: None})
            return function(*arguments)

        return replaced_first

    monkeypatch.setattr(checkpoint, "check_files", train_on(1, check_files))
    monkeypatch.setattr(checkpoint, "read_state", train_on(2, read_state))
    restored = restore(tmp_path, small(0), on_damage=lambda step, why: pytest.fail(why))
    assert restored.step == 3
    np.testing.assert_array_equal(restored.state["weight"], small(3)["weight"])


def test_nothing_is_printed(tmp_path, capfd, caplog, recwarn):
    save_all(tmp_path, {1: None, 2: None})
    restore(tmp_path, small(0))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records and not recwarn.list


def test_importing_and_listing_leave_orbax_alone(tmp_path):
    program = (
        "import sys; from pathlib import Path; from research.engine.checkpoint import list_steps;"
        f"list_steps(Path({str(tmp_path)!r})); assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
