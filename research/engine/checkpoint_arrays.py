"""A state's arrays as orbax stores them: by path, without those that have no elements."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from research.engine.checkpoint_manifest import Leaf


def named_leaves(state: Any) -> dict[str, Any]:
    """The leaves by their paths, such as `params/Dense_0/kernel`."""
    pairs = jax.tree.flatten_with_path(state)[0]
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}
    if len(leaves) < len(pairs):
        raise ValueError("two leaves of the state have the same path: rename one of the modules")
    return leaves


def stored_arrays(leaves: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """What orbax is given to store: it takes neither random keys nor arrays without elements."""
    return {path: _numbers(leaf) for path, leaf in leaves.items() if leaf.size}


def read_state[State](directory: Path, saved: Mapping[str, Leaf], abstract: State) -> State:
    """The arrays in the structure and shardings of `abstract`, which is known to fit."""
    ocp = orbax()
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    targets = {}
    for path, leaf in named_leaves(abstract).items():
        numbers = jax.eval_shape(_numbers, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        sharding = getattr(leaf, "sharding", None) or default
        targets[path] = jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=sharding)
    stored = {path: target for path, target in targets.items() if target.size}
    restore_args = ocp.checkpoint_utils.construct_restore_args(stored)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays = checkpointer.restore(
            directory, args=ocp.args.PyTreeRestore(stored, restore_args=restore_args)
        )
    leaves = []
    for path, target in targets.items():
        array = arrays[path] if target.size else _empty(target)
        key_impl = saved[path]["key_impl"]
        leaves.append(jax.random.wrap_key_data(array, impl=key_impl) if key_impl else array)
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def orbax() -> Any:
    """orbax, imported late because it takes a second, and without its logging: it reports one
    full disk by hundreds of lines, and every error it logs is raised as well."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").addFilter(_not_from_orbax)
    return ocp


def _empty(target: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(target.shape, target.dtype, device=target.sharding)


def _numbers(leaf: Any) -> Any:
    """What is stored of a leaf: itself, or the words of a random key."""
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname
