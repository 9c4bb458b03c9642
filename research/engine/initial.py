"""A run's initial state with variables from elsewhere."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from research.engine.config import build, check_experiment
from research.engine.experiment import Experiment
from research.engine.files import read_json
from research.engine.objective import HasOrigin, InitialVariables, Objective
from research.engine.rules import path_of
from research.engine.state import TrainState
from research.engine.tokenizers import check_tokenizers_of_run
from research.errors import UserError


def initial_arrays(
    experiment: Experiment, objective: Objective, shapes: TrainState
) -> Mapping[str, np.ndarray]:
    """What `init_from` gives, by path; none without one. `shapes` are of one trial's state.

    Raises UserError where an array has no place in the state, or one of another shape, and where
    the run that the arrays are of has another tokenizer.
    """
    if experiment.init_from is None:
        return {}
    source: InitialVariables = build(experiment.init_from, "init_from")
    variables = {"params": shapes.params, **shapes.collections}
    flat = {path_of(path): x for path, x in jax.tree_util.tree_leaves_with_path(variables)}
    arrays = source(objective, flat)
    for path, array in arrays.items():
        if path not in flat:
            raise UserError(f"init_from: gives {path}, which the objective does not have")
        if array.shape != flat[path].shape:
            raise UserError(
                f"init_from: gives {path} the shape {array.shape}; it has {flat[path].shape}"
            )
    workdir = source.origin() if isinstance(source, HasOrigin) else None
    if workdir is not None:
        run = check_experiment(read_json(workdir / "config.json"))
        check_tokenizers_of_run(experiment, run, workdir)
    return arrays


def with_arrays(logical: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
    """A logical state, of one trial or of several, with these in the places of their paths: in
    the parameters, their average and the collections."""

    def place(path: str, leaf: Any) -> Any:
        if path not in arrays:
            return leaf
        array = np.broadcast_to(arrays[path].astype(leaf.dtype), leaf.shape)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index])

    def placed(tree: Any, prefix: str) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: place(prefix + path_of(path), leaf), tree
        )

    return logical.replace(  # type: ignore[attr-defined]
        params=placed(logical.params, "params/"),
        ema=placed(logical.ema, "params/"),
        collections=placed(logical.collections, ""),
        ema_collections=placed(logical.ema_collections, ""),
    )
