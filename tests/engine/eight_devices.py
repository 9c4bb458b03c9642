"""Every parallel mode on eight devices, in one process: how far each is from one device. A process
of its own, since the number of devices is chosen when JAX starts."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import small

from research.engine.checkpoint import Checkpoints, restore

SPLIT = [
    ["dense/kernel", ["fsdp", "tensor"]],
    ["dense/bias", ["tensor"]],
    ["head/kernel", ["tensor", None]],
]
MESH = {"parallelism__mode": "mesh"}
MICRO_BATCHES = {
    "micro_batches": 2,
    "evaluations": {},
    "ema_decay": None,
    "swa_start": "3 steps",
    "swa_every": "2 steps",
}
"""And the other average, with batch statistics of its own."""
MODES: dict[str, dict[str, Any]] = {
    "jit": {},
    "pmap": {
        "parallelism__mode": "pmap",
        "steps_per_call": 5,
        "evaluations__test__batch_size": 1,
    },
    "data": {**MESH, "data__on_device": False},
    "fsdp": {**MESH, "parallelism__fsdp": 4},
    "tensor": {
        **MESH,
        "parallelism__fsdp": 2,
        "parallelism__tensor": 2,
        "parallelism__rules": SPLIT,
        "steps_per_call": 5,
        "evaluations__test__batch_size": 7,
    },
    "jit, micro-batches": MICRO_BATCHES,
    "pmap, micro-batches": {**MICRO_BATCHES, "parallelism__mode": "pmap"},
}


def to_host(run: Any, state: Any) -> Any:
    """The logical state in NumPy, without its key."""
    return jax.tree.map(np.asarray, run.parallel.to_logical(state).replace(rng=None))


def shards(state: Any) -> dict[str, list[int]]:
    """The shape of what one device holds of a large and a small kernel, by the kernel's path."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    paths = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    return {
        path: x.addressable_shards[0].data.shape
        for path, x in paths.items()
        if path.endswith(("dense/kernel", "head/kernel"))
    }


def advance(run: Any, state: Any, start: int, compiled: Any) -> Any:
    """State and metrics after five steps."""
    calls = [5] if run.experiment.steps_per_call == 5 else [1] * 5
    return small.advance(run, state, start, calls, compiled)


def report(folder: Path) -> None:
    """Trains five steps, saves, trains five more; then goes on from other modes' checkpoints.

    Writes what it measures to `report.json`.
    """
    runs, halfway, compiled, ends = {}, {}, {}, {}
    measured: dict[str, Any] = {"devices": jax.device_count()}
    for mode, settings in MODES.items():
        run = runs[mode] = small.ready(**small.HARD | settings)
        state = run.init()
        entry = measured[mode] = {"shards": shards(state)}
        if run.evaluators:
            entry["evaluation"] = run.evaluators["test"](state)
        compiled[mode] = small.compile_train(run, state)
        state, first = advance(run, state, 0, compiled[mode])
        halfway[mode] = to_host(run, state)
        with closing(Checkpoints(folder / mode)) as checkpoints:
            checkpoints.save(5, run.parallel.to_logical(state), {})
        state, second = advance(run, state, 5, compiled[mode])
        ends[mode] = to_host(run, state)
        if mode.startswith("pmap"):
            entry["replicas"] = max(
                float(np.ptp(np.asarray(x), axis=0).max()) for x in jax.tree.leaves(state.params)
            )
        reference = "jit, micro-batches" if "micro" in mode else "jit"
        entry["difference"] = small.largest_difference(ends[mode], ends[reference])
        history = {name: np.concatenate([first[name], second[name]]) for name in first}
        entry["history"] = {name: values.tolist() for name, values in history.items()}

    for source, target in (("pmap", "jit"), ("jit", "fsdp"), ("tensor", "pmap")):
        run = runs[target]
        restored = restore(folder / source, run.restore_target())
        state = run.parallel.from_logical(restored.state)
        placed = shards(state) == measured[target]["shards"]
        exact = small.largest_difference(to_host(run, state), halfway[source])
        state, _ = advance(run, state, restored.step, compiled[target])
        measured[f"{source} -> {target}"] = {
            "restored": exact,
            "placed": placed,
            "difference": small.largest_difference(to_host(run, state), ends["jit"]),
        }
    (folder / "report.json").write_text(json.dumps(measured))
