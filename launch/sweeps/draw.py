"""From a search space to the settings of trials, by Optuna's samplers."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from launch.sweeps.space import Dimension, grid_values

Params = dict[str, Any]
"""A trial's values as Optuna has them: choices that are no scalars are JSON."""


def distributions(space: Sequence[Dimension]) -> dict[str, BaseDistribution]:
    """Optuna's distributions by the setting's path."""
    return {dimension.path: _distribution(dimension) for dimension in space}


def draw_grid(space: Sequence[Dimension]) -> list[Params]:
    """Every combination, the last setting changing fastest; UserError for a range without num."""
    values = [[_encode(dimension, x) for x in grid_values(dimension)] for dimension in space]
    paths = [dimension.path for dimension in space]
    return [dict(zip(paths, row, strict=True)) for row in itertools.product(*values)]


def draw_random(space: Sequence[Dimension], seed: int, count: int) -> list[Params]:
    """The first `count` independent draws of a seed; more of them begin with the same."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask(distributions(space)).params for _ in range(count)]


def decode(space: Sequence[Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's settings by path, from Optuna's values."""
    return {
        dimension.path: _decode(dimension, params[dimension.path])
        for dimension in space
        if dimension.path in params
    }


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "choices":
        return CategoricalDistribution([_encode(dimension, x) for x in dimension.values])
    low, high = dimension.values
    if dimension.kind == "integers":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=dimension.kind == "log_uniform")


def _encode(dimension: Dimension, value: Any) -> Any:
    if dimension.kind != "choices":
        return value
    return (
        value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    )


def _decode(dimension: Dimension, value: Any) -> Any:
    if dimension.kind != "choices":
        return value
    # By its place, so that a choice comes back with its own type.
    encoded = [_encode(dimension, choice) for choice in dimension.values]
    place = next(i for i, x in enumerate(encoded) if type(x) is type(value) and x == value)
    return dimension.values[place]
