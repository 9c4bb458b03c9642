"""From a config file and overrides to a checked `Experiment`, and from components to objects."""

import ast
import dataclasses
import importlib.util
import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from research.engine.checks import (
    Component,
    check_settings,
    component_parameters,
    did_you_mean,
)
from research.engine.duration import Duration
from research.engine.errors import UserError
from research.engine.experiment import Experiment

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def load(location: str, overrides: Sequence[tuple[str, str]] = ()) -> Experiment:
    """The checked experiment of `FILE.py` or `FILE.py:variant`, with overrides applied.

    Overrides are (path, text) pairs such as ("optimizer.learning_rate", "3e-4").

    Raises:
      UserError: naming the file or the path of the setting, and what was expected.
    """
    plain = read_file(location)
    for path, text in overrides:
        _override(plain, path, parse_value(text))
    return check_experiment(plain)


def read_file(location: str) -> dict[str, Any]:
    """What `get_config()`, or `get_config(variant)`, of a config file returns, as plain data."""
    name, separator, variant = location.partition(".py:")
    file = Path(name + ".py" if separator else name)
    if not file.is_file():
        nearby = [str(path) for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise UserError(f"--config={location}: no such file{did_you_mean(str(file), nearby)}")
    module = _import_file(file)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"{file}: defines no function get_config(), which returns the config")
    takes_variant = bool(inspect.signature(get_config).parameters)
    if variant and not takes_variant:
        raise UserError(f"{file}: has no variants, so {variant!r} can't be chosen")
    try:
        config = get_config(variant) if variant else get_config()
    except Exception as error:
        raise UserError(f"{file}:{_line_of(error, file)}{_describe(error)}") from error
    if not isinstance(config, Mapping) and not hasattr(config, "to_dict"):
        raise UserError(f"{file}: get_config() returned {type(config).__name__}, no ConfigDict")
    return _plain(config)


def parse_value(text: str) -> Any:
    """A command-line value: a Python literal, true/false/none, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _WORDS.get(text.lower(), text)


def override(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with settings, given by their paths, set to other values and checked."""
    plain = to_plain(experiment)
    for path, value in settings.items():
        _override(plain, path, value)
    return check_experiment(plain)


def check_experiment(plain: Mapping[str, Any]) -> Experiment:
    """Plain data as an `Experiment`; UserError with the path of the first thing wrong."""
    experiment: Experiment = check_settings(plain, Experiment, "")
    experiment = _with_compute_dtype(experiment)
    _check_together(experiment)
    return experiment


def build(component: Any, path: str) -> Any:
    """The object a component describes, and all those inside it; other data as it is."""
    if isinstance(component, tuple):
        return tuple(build(item, f"{path}.{i}") for i, item in enumerate(component))
    if isinstance(component, Mapping):
        return {key: build(item, f"{path}.{key}") for key, item in component.items()}
    if not isinstance(component, Component):
        return component
    arguments = {
        key: build(value, f"{path}.{key}") for key, value in component.arguments.items()
    }
    try:
        return component.constructor(**arguments)
    except ValueError as error:
        raise UserError(f"{path}: {component.path}: {error}") from error


def to_plain(value: Any) -> Any:
    """Settings as JSON-ready data that `check_experiment` reads back to the same experiment."""
    if isinstance(value, Component):
        return {"name": value.path} | {k: to_plain(v) for k, v in value.arguments.items()}
    if isinstance(value, Duration):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def flatten(plain: Any, path: str = "") -> dict[str, Any]:
    """Nested plain data as {dotted path: leaf}."""
    items: Any = ()
    if isinstance(plain, Mapping):
        items = plain.items()
    elif isinstance(plain, list):
        items = enumerate(plain)
    if not items:
        return {path: plain}
    flat = {}
    for key, value in items:
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat


def differences(old: Any, new: Any) -> list[str]:
    """One line a setting that differs: its path, the old value and the new."""
    before, after = flatten(old), flatten(new)
    return [
        f"{path}: {before.get(path, '(not there)')!r} -> {after.get(path, '(not there)')!r}"
        for path in sorted(before.keys() | after.keys())
        if path not in before or path not in after or before[path] != after[path]
    ]


def document(settings: type = Experiment, path: str = "") -> list[tuple[str, str, str]]:
    """(path, default, documentation) of every setting, for --help."""
    rows = []
    for item in dataclasses.fields(settings):
        place = f"{path}.{item.name}" if path else item.name
        default: Any = item.default
        if default is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if dataclasses.is_dataclass(default) and not isinstance(default, Duration):
            rows += document(type(default), place)
            continue
        shown = "(required)" if default is dataclasses.MISSING else repr(to_plain(default))
        rows.append((place, shown, item.metadata["doc"]))
    return rows


def _import_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_config_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{file}:{_line_of(error, file)}{_describe(error)}") from error
    return module


def _line_of(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.lineno}: "
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == file.name
    ]
    return f"{lines[-1]}: " if lines else " "


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _override(plain: Any, path: str, value: Any) -> None:
    """Sets a place in nested mappings and lists, making the mappings that are not there."""
    *parents, last = path.split(".")
    place = plain
    for depth, key in enumerate(parents):
        here = ".".join(parents[: depth + 1])
        if isinstance(place, list):
            place = place[_index(key, place, here)]
        else:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
        if not isinstance(place, dict | list):
            raise UserError(f"--config.{path}: {here} = {place!r} has no settings inside")
    if isinstance(place, list):
        place[_index(last, place, path)] = value
    else:
        place[last] = value


def _index(key: str, items: list[Any], path: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise UserError(f"--config.{path}: {key!r} is no place in a list of {len(items)}")
    return int(key)


def _with_compute_dtype(experiment: Experiment) -> Experiment:
    """Hands `compute_dtype` to every model that takes a `dtype` and has not set its own."""
    if experiment.compute_dtype == "float32":
        return experiment

    reached = []

    def hand_down(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(hand_down(item) for item in value)
        if not isinstance(value, Component):
            return value
        arguments = {key: hand_down(item) for key, item in value.arguments.items()}
        if "dtype" in component_parameters(value.constructor):
            reached.append(value.path)
            if arguments.get("dtype") is None:
                arguments["dtype"] = experiment.compute_dtype
        return dataclasses.replace(value, arguments=arguments)

    objective = hand_down(experiment.objective)
    if not reached:
        raise UserError(
            f"compute_dtype = {experiment.compute_dtype!r}: no model in `objective` takes a "
            "`dtype`; give the model a field `dtype: str | None = None` and use it in its layers"
        )
    return dataclasses.replace(experiment, objective=objective)


def _check_together(experiment: Experiment) -> None:
    """Settings that are possible alone and impossible together."""
    data, step = experiment.data, experiment.micro_batches
    if data.batch_size % step:
        raise UserError(
            f"micro_batches = {step}: data.batch_size = {data.batch_size} is not divisible by it"
        )
    if experiment.duration.unit == "percent":
        raise UserError(f'duration = "{experiment.duration}": say of what, such as "20 epochs"')
    _check_inside_training(experiment)
    _check_parallelism(experiment)
    names = [*experiment.evaluations, *experiment.probes]
    for name in names:
        if "/" in name or names.count(name) > 1:
            raise UserError(f"evaluations, probes: {name!r} must be unique and have no slash")
    for path, metric in (
        ("checkpoints.best_metric", experiment.checkpoints.best_metric),
        ("early_stopping.metric", getattr(experiment.early_stopping, "metric", None)),
        ("reference.metric", getattr(experiment.reference, "metric", None)),
    ):
        if metric is not None and metric.partition("/")[0] not in names:
            raise UserError(
                f"{path} = {metric!r}: must begin with the name of an evaluation or probe and a "
                f'slash, such as "{(names or ["test"])[0]}/loss"'
                f"{did_you_mean(metric.partition('/')[0], names)}"
            )


def _check_inside_training(experiment: Experiment) -> None:
    optimizers = {"optimizer": experiment.optimizer} | {
        f"players.{name}": optimizer for name, optimizer in experiment.players.items()
    }
    for path, optimizer in optimizers.items():
        warmup, schedule = optimizer.schedule.warmup, f"{path}.schedule"
        if optimizer.schedule.name == "step" and not optimizer.schedule.boundaries:
            raise UserError(f"{schedule}.boundaries: missing; the step schedule drops there")
        same_unit = warmup.unit == experiment.duration.unit
        if (same_unit and warmup.value > experiment.duration.value > 0) or (
            warmup.unit == "percent" and warmup.value > 100
        ):
            raise UserError(
                f'{schedule}.warmup = "{warmup}": longer than the training, '
                f'duration = "{experiment.duration}"'
            )


def _check_parallelism(experiment: Experiment) -> None:
    parallelism = experiment.parallelism
    if parallelism.mode == "vmap" and not parallelism.trials:
        raise UserError('parallelism.trials: missing; vmap wants such as {"seed": (0, 1, 2)}')
    if parallelism.mode != "vmap" and parallelism.trials:
        raise UserError(
            f"parallelism.trials: trials run under mode 'vmap', not {parallelism.mode!r}"
        )
    lengths = {len(values) for values in parallelism.trials.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise UserError("parallelism.trials: every setting must have as many values as there are trials")
    if parallelism.mode != "mesh" and (parallelism.fsdp, parallelism.tensor) != (1, 1):
        raise UserError("parallelism.fsdp, parallelism.tensor: these axes need mode 'mesh'")
