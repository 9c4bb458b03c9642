"""Which settings trials of one program may differ in, and which need a program each."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from launch.sweeps.space import Dimension
from research.engine.config import may_differ, override
from research.engine.cost import training_call
from research.engine.experiment import Experiment
from research.engine.prepare import prepare
from research.errors import UserError


def traced_paths(
    experiment: Experiment, space: Sequence[Dimension], data_dir: Path
) -> frozenset[str]:
    """The settings whose floats one program takes as arrays, found by tracing it.

    Not every float is one: a schedule or a model may need its value in Python.
    """
    floats = {
        dimension.path: [x for x in dimension.values if type(x) is float] for dimension in space
    }
    candidates = {
        path: values[0]
        for path, values in floats.items()
        if values and may_differ(override(experiment, {path: values[0]}), path)
    }
    if _can_be_traced(experiment, candidates, data_dir):
        return frozenset(candidates)
    return frozenset(
        path
        for path, value in candidates.items()
        if _can_be_traced(experiment, {path: value}, data_dir)
    )


def structure_of(settings: Mapping[str, Any], traced: frozenset[str]) -> dict[str, Any]:
    """The settings that trials of one program must have in common."""
    return {
        path: value
        for path, value in settings.items()
        if path != "seed" and not (path in traced and type(value) is float)
    }


def kind_by_structure(
    settings_of: Callable[[Any], Mapping[str, Any]], traced: frozenset[str]
) -> Callable[[Any], Hashable]:
    """Trials of one kind can share a program, or did before their worker was killed."""

    def kind(trial: Any) -> Hashable:
        program = trial.user_attrs.get("program")
        if program is not None:
            return program
        structure = structure_of(settings_of(trial), traced)
        return json.dumps([[path, type(x).__name__, x] for path, x in sorted(structure.items())])

    return kind


def _can_be_traced(experiment: Experiment, values: Mapping[str, Any], data_dir: Path) -> bool:
    trials = {path: (value, value) for path, value in values.items()}
    together = {"parallelism.mode": "vmap", "parallelism.trials": {"seed": (0, 1), **trials}}
    try:
        run = prepare(override(experiment, {**values, **together}), data_dir)
        state = run.restore_target()
        train, arguments = training_call(run, state)
        jax.eval_shape(train, state, *arguments)
        for evaluator in run.evaluators.values():
            evaluator.trace(state)
    except jax.errors.ConcretizationTypeError:
        return False
    except UserError as error:
        raise UserError(f"--backend vmap: {error}") from error
    return True
