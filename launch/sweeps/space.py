"""Search spaces: what `get_sweep()` of a config file returns, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from research.engine.config import override
from research.engine.experiment import Experiment
from research.errors import UserError
from research.suggestion import did_you_mean

Kind = Literal["uniform", "log_uniform", "integers", "choices"]

_KINDS: tuple[Kind, ...] = ("uniform", "log_uniform", "integers", "choices")
_KEYS = ("metric", "mode", "space", "settings")


@dataclass(frozen=True)
class Dimension:
    """The values that trials give one setting: between (low, high), both included, or one of the
    choices. `num` is how many of a range a grid takes."""

    path: str
    kind: Kind
    values: tuple[Any, ...]
    num: int | None = None


@dataclass(frozen=True)
class Sweep:
    """A search space and what is sought in it. Every configuration runs with each of the seeds;
    `settings` differ from the config in all trials."""

    metric: str
    mode: Literal["min", "max"]
    space: tuple[Dimension, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]


def check_sweep(plain: Any, experiment: Experiment) -> tuple[Sweep, Experiment]:
    """The sweep that plain data describe, and the experiment with the settings of all its trials.

    Raises:
      UserError: naming the place, for whatever is unknown, missing, of the wrong type, or refused
        by the experiment at an end of its range.
    """
    if not isinstance(plain, Mapping):
        raise UserError(f"get_sweep() returned {type(plain).__name__}; it must return a dict")
    _check_keys(plain, _KEYS, "get_sweep()")
    for key in ("metric", "space"):
        if key not in plain:
            raise UserError(f"get_sweep(): {key}: missing")
    settings = _mapping(plain.get("settings", {}), "settings")
    try:
        experiment = override(experiment, settings)
    except UserError as error:
        raise UserError(f"get_sweep(): settings: {error}") from None
    mode, space = plain.get("mode", "max"), _mapping(plain["space"], "space")
    if mode not in ("min", "max"):
        raise UserError(f"get_sweep(): mode = {mode!r}: expected 'min' or 'max'")
    if not space:
        raise UserError(
            "get_sweep(): space: empty; name at least one setting, such as "
            '"optimizer.learning_rate": {"log_uniform": (1e-4, 1e-1)}'
        )
    dimensions = [_dimension(path, values) for path, values in space.items() if path != "seed"]
    seeds = _seeds(space["seed"]) if "seed" in space else (experiment.seed,)
    sweep = Sweep(plain["metric"], mode, tuple(dimensions), seeds, settings)
    _check_metric(sweep.metric, experiment)
    for dimension in dimensions:
        _check_values(dimension, experiment)
    return sweep, experiment


def grid_values(dimension: Dimension) -> tuple[Any, ...]:
    """The values of a dimension that a grid takes; UserError for a range without `num`."""
    if dimension.kind == "choices":
        return dimension.values
    low, high = dimension.values
    if dimension.kind == "integers" and dimension.num is None:
        return tuple(range(low, high + 1))
    if dimension.num is None:
        raise UserError(
            f"get_sweep(): space.{dimension.path}: a grid needs the number of values, "
            f'{{"{dimension.kind}": ({low:g}, {high:g}), "num": 5}}; or take --sampler random'
        )
    if dimension.num == 1:
        return (low,)
    shares = [place / (dimension.num - 1) for place in range(dimension.num)]
    if dimension.kind == "log_uniform":
        # The ends are as they are written: exp(log(x)) need not be x.
        inner = [low * (high / low) ** share for share in shares[1:-1]]
    else:
        inner = [low + (high - low) * share for share in shares[1:-1]]
    if dimension.kind == "integers":
        return tuple(sorted({low, high, *map(round, inner)}))
    return (low, *inner, high)


def _dimension(path: str, written: Any) -> Dimension:
    place = f"get_sweep(): space.{path}"
    example = '{"uniform": (0.0, 0.5)}'
    if not isinstance(written, Mapping):
        raise UserError(f"{place} = {written!r}: expected such as {example}")
    _check_keys(written, (*_KINDS, "num"), place)
    kinds = [kind for kind in _KINDS if kind in written]
    if len(kinds) != 1:
        raise UserError(f"{place}: give one of {', '.join(_KINDS)}, such as {example}")
    (kind,), num = kinds, written.get("num")
    values = written[kind]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f"{place}.{kind} = {values!r}: expected a list")
    values = tuple(values)
    if kind == "choices":
        if not values:
            raise UserError(f"{place}.choices: empty; give at least one value")
        if "num" in written:
            raise UserError(f"{place}.num: choices are taken as they are; leave it out")
        if any(value in values[:index] for index, value in enumerate(values)):
            raise UserError(f"{place}.choices: a value stands there twice")
        return Dimension(path, kind, values)
    number = int if kind == "integers" else (int, float)
    if len(values) != 2 or any(not isinstance(x, number) or isinstance(x, bool) for x in values):
        what = "two ints" if kind == "integers" else "two numbers"
        raise UserError(f"{place}.{kind} = {values!r}: expected {what}, (low, high)")
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{place}.{kind} = {values!r}: the first must be less than the second")
    if kind == "log_uniform" and low <= 0:
        raise UserError(
            f"{place}.log_uniform = {values!r}: must be above 0; uniform may begin at 0"
        )
    if num is not None and (type(num) is not int or num < 1):
        raise UserError(f"{place}.num = {num!r}: expected an int of at least 1")
    if kind != "integers":
        values = (float(low), float(high))
    return Dimension(path, kind, values, num)


def _seeds(written: Any) -> tuple[int, ...]:
    place = 'get_sweep(): space.seed: write {"seeds": 3} or {"seeds": (0, 1, 2)}'
    if not isinstance(written, Mapping) or list(written) != ["seeds"]:
        raise UserError(place)
    seeds = written["seeds"]
    if type(seeds) is int and seeds > 0:
        return tuple(range(seeds))
    if not isinstance(seeds, Sequence) or not seeds or any(type(x) is not int for x in seeds):
        raise UserError(f"{place}, not {seeds!r}")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"{place}: seeds are different and at least 0, not {seeds!r}")
    return tuple(seeds)


def _check_metric(metric: Any, experiment: Experiment) -> None:
    """The part that is known without data: the evaluation or probe."""
    names = [*experiment.evaluations, *experiment.probes]
    if not isinstance(metric, str) or "/" not in metric or metric.partition("/")[0] not in names:
        meant = did_you_mean(str(metric).partition("/")[0], names)
        raise UserError(
            f'get_sweep(): metric = {metric!r}: write "NAME/METRIC" of an evaluation or probe of '
            f"the config, which has {', '.join(names) or 'none'}{meant}"
        )


def _check_values(dimension: Dimension, experiment: Experiment) -> None:
    """Lets the experiment check the ends of the range, or every choice."""
    if dimension.path.partition(".")[0] == "parallelism":
        raise UserError(
            f"get_sweep(): space.{dimension.path}: how a run is spread is no setting "
            "to search; write it in the config"
        )
    for value in dimension.values:
        try:
            override(experiment, {dimension.path: value})
        except UserError as error:
            raise UserError(f"get_sweep(): space: {error}") from None


def _check_keys(given: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
    for key in given:
        if key not in known:
            raise UserError(
                f"{place}: no such key {key!r}{did_you_mean(str(key), known, listed=True)}"
                f"; there are {', '.join(known)}"
            )


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise UserError(f"get_sweep(): {name}: expected a mapping of settings' paths to values")
    return value
