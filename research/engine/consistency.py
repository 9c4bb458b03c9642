"""Settings that are possible alone and impossible together."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from research.engine.component import Component, build, parameters_of
from research.engine.experiment import Experiment, Parallelism
from research.engine.objective import HasPlayers
from research.engine.rules import compile_patterns
from research.errors import UserError
from research.suggestion import did_you_mean

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_MESH_AXES = ("data", "fsdp", "tensor")


def check_together(experiment: Experiment) -> None:
    """Raises UserError, with the path of a setting, for what could never run.

    Every component is built, so that what a constructor refuses is found before any data is
    opened.
    """
    if experiment.data.batch_size % experiment.micro_batches:
        raise UserError(
            f"micro_batches = {experiment.micro_batches}: "
            f"data.batch_size = {experiment.data.batch_size} is not divisible by it"
        )
    if experiment.duration.unit == "percent":
        raise UserError(f'duration = "{experiment.duration}": say of what, such as "20 epochs"')
    decay, start = experiment.ema_decay, experiment.swa_start
    if decay is not None and start is not None:
        raise UserError(
            f'swa_start = "{start}": ema_decay = {decay} averages the parameters already; set one '
            "of the two to None"
        )
    _check_schedules(experiment)
    _check_rules(experiment)
    _check_parallelism(experiment)
    _check_names(experiment)
    _check_metrics(experiment)
    _check_components(experiment)


def hand_down_dtype(experiment: Experiment) -> Experiment:
    """Gives `compute_dtype` to every model that takes a `dtype` and has not set its own.

    Raises:
      UserError: for a `dtype` that is none, and where nothing takes one.
    """
    lowered = experiment.compute_dtype != "float32"
    reached: list[str] = []

    def hand_down(value: Any, path: str) -> Any:
        if isinstance(value, tuple):
            return tuple(hand_down(item, f"{path}.{i}") for i, item in enumerate(value))
        if isinstance(value, Mapping):
            return {key: hand_down(item, f"{path}.{key}") for key, item in value.items()}
        if not isinstance(value, Component):
            return value
        arguments = hand_down(value.arguments, path)
        if "dtype" in parameters_of(value.constructor):
            reached.append(path)
            if arguments.get("dtype") is None and lowered:
                arguments["dtype"] = experiment.compute_dtype
            _check_dtype(arguments.get("dtype"), f"{path}.dtype")
        return dataclasses.replace(value, arguments=arguments)

    objective = hand_down(experiment.objective, "objective")
    if lowered and not reached:
        raise UserError(
            f"compute_dtype = {experiment.compute_dtype!r}: no model in `objective` takes a "
            "`dtype`; give the model a field `dtype: str | None = None` and use it in its layers"
        )
    return dataclasses.replace(experiment, objective=objective)


def _check_dtype(dtype: Any, path: str) -> None:
    if isinstance(dtype, str) and dtype not in _DTYPES:
        known = ", ".join(map(repr, _DTYPES))
        meant = did_you_mean(dtype, _DTYPES, listed=True)
        raise UserError(f"{path} = {dtype!r}: expected one of {known}{meant}")


def _optimizers(experiment: Experiment) -> dict[str, Any]:
    """Every optimizer's settings by their path."""
    players = {f"players.{name}": settings for name, settings in experiment.players.items()}
    return {"optimizer": experiment.optimizer, **players}


def _check_schedules(experiment: Experiment) -> None:
    for path, optimizer in _optimizers(experiment).items():
        schedule, duration = optimizer.schedule, experiment.duration
        warmup, boundaries = schedule.warmup, schedule.boundaries
        if schedule.name == "step" and not boundaries:
            raise UserError(
                f"{path}.schedule.boundaries: missing; the step schedule drops there, such as "
                '("50%", "75%")'
            )
        if len({boundary.unit for boundary in boundaries}) == 1:
            values = [boundary.value for boundary in boundaries]
            if values != sorted(set(values)):
                listed = ", ".join(map(str, boundaries))
                raise UserError(f"{path}.schedule.boundaries = ({listed}): must increase")
        same_unit = warmup.unit == duration.unit
        if (same_unit and warmup.value > duration.value > 0) or (
            warmup.unit == "percent" and warmup.value > 100
        ):
            raise UserError(
                f'{path}.schedule.warmup = "{warmup}": longer than the training, '
                f'duration = "{duration}"'
            )
        if schedule.initial_fraction > 0 and warmup.value == 0:
            raise UserError(
                f"{path}.schedule.initial_fraction = {schedule.initial_fraction}: is where the "
                f"warm-up starts, and {path}.schedule.warmup is 0"
            )


def _check_rules(experiment: Experiment) -> None:
    """Regular expressions; whether they match a parameter is known when there are parameters."""
    for path, optimizer in _optimizers(experiment).items():
        compile_patterns(optimizer.freeze, f"{path}.freeze")
        for name in ("weight_decay_rules", "learning_rate_rules"):
            rules = getattr(optimizer, name)
            compile_patterns((pattern for pattern, _ in rules), f"{path}.{name}")
    rules = experiment.parallelism.rules
    compile_patterns((pattern for pattern, _ in rules), "parallelism.rules")
    for place, (_, axes) in enumerate(rules):
        for axis in axes:
            if axis is not None and axis not in _MESH_AXES:
                known = did_you_mean(axis, _MESH_AXES)
                raise UserError(f"parallelism.rules.{place}: the mesh has no axis {axis!r}{known}")


def _check_parallelism(experiment: Experiment) -> None:
    parallelism = experiment.parallelism
    for axis, unset in (("data", -1), ("fsdp", 1), ("tensor", 1)):
        size = getattr(parallelism, axis)
        if size != unset and parallelism.mode != "mesh":
            raise UserError(
                f"parallelism.{axis} = {size}: this axis needs parallelism.mode = 'mesh', "
                f"not {parallelism.mode!r}"
            )
    if parallelism.data != -1 and parallelism.data < 1:
        raise UserError(
            f"parallelism.data = {parallelism.data}: must be a number of devices, or -1 for all "
            "that are left"
        )
    if parallelism.mode == "vmap" and not parallelism.trials:
        raise UserError('parallelism.trials: missing; vmap wants such as {"seed": (0, 1, 2)}')
    if parallelism.mode != "vmap" and parallelism.trials:
        raise UserError(
            f"parallelism.trials: trials need parallelism.mode = 'vmap', not {parallelism.mode!r}"
        )
    if parallelism.population is not None:
        _check_population(parallelism)


def _check_population(parallelism: Parallelism) -> None:
    bounds = parallelism.population.bounds if parallelism.population else {}
    explored = [path for path in parallelism.trials if path != "seed"]
    if not explored:
        raise UserError(
            "parallelism.population: the trials differ in no hyperparameter; give "
            'parallelism.trials such as {"optimizer.learning_rate": (1e-3, 3e-3)}'
        )
    for path in bounds:
        if path not in explored:
            raise UserError(
                f"parallelism.population.bounds.{path}: the trials do not differ in it"
                f"{did_you_mean(path, explored)}"
            )
    for path in explored:
        if path not in bounds:
            raise UserError(
                f"parallelism.population.bounds.{path}: missing; give its lowest and highest value"
            )
        low, high = bounds[path]
        outside = [value for value in parallelism.trials[path] if not low <= value <= high]
        if outside:
            raise UserError(
                f"parallelism.population.bounds.{path} = ({low:g}, {high:g}): the trials begin "
                f"outside, with {outside[0]:g}"
            )


def _check_names(experiment: Experiment) -> None:
    for path, names in (("evaluations", experiment.evaluations), ("probes", experiment.probes)):
        for name in names:
            if not re.fullmatch(r"[\w-]+", name):
                raise UserError(f"{path}.{name}: a name has letters, digits, _ and - only")
            if path == "probes" and name in experiment.evaluations:
                raise UserError(f"{path}.{name}: an evaluation has this name; metrics would mix")


def _check_metrics(experiment: Experiment) -> None:
    """Metrics belong to an evaluation or probe; those of an evaluation are known with its data."""
    names = [*experiment.evaluations, *experiment.probes]
    for path, metric in named_metrics(experiment).items():
        group, slash, _ = metric.partition("/")
        if not names:
            raise UserError(f"{path} = {metric!r}: the config has no evaluation to measure it")
        if group not in names or not slash:
            raise UserError(
                f'{path} = {metric!r}: write "NAME/METRIC", such as "{names[0]}/loss"'
                f"{did_you_mean(group, names)}"
            )
        if group in experiment.probes:
            probe = build(experiment.probes[group].probe, f"probes.{group}.probe")
            check_metric_name(path, metric, probe.metric_names())


def named_metrics(experiment: Experiment) -> dict[str, str]:
    """The metrics that settings name, by the setting's path."""
    named = {
        "checkpoints.best_metric": experiment.checkpoints.best_metric,
        "early_stopping.metric": getattr(experiment.early_stopping, "metric", None),
        "reference.metric": getattr(experiment.reference, "metric", None),
        "parallelism.population.metric": getattr(experiment.parallelism.population, "metric", None),
    }
    return {path: metric for path, metric in named.items() if metric is not None}


def check_metric_name(path: str, metric: str, known: Iterable[str]) -> None:
    """Raises UserError where the evaluation or probe of `metric`, NAME/METRIC, has no such one."""
    group, _, name = metric.partition("/")
    if name not in known:
        raise UserError(
            f"{path} = {metric!r}: {group} has no metric {name!r}{did_you_mean(name, known)}"
        )


def _check_components(experiment: Experiment) -> None:
    """Builds everything once."""
    objective = build(experiment.objective, "objective")
    _check_players(experiment.players, objective)
    build(experiment.data.source, "data.source")
    build(experiment.data.transforms, "data.transforms")
    for name, evaluation in experiment.evaluations.items():
        build(evaluation.source, f"evaluations.{name}.source")
        build(evaluation.transforms, f"evaluations.{name}.transforms")
    for name, settings in experiment.probes.items():
        build(settings.probe, f"probes.{name}.probe")


def _check_players(players: Iterable[str], objective: Any) -> None:
    known = [p.name for p in objective.players()] if isinstance(objective, HasPlayers) else []
    alone = "; this objective has one optimizer only, `optimizer`"
    for name in players:
        if name not in known:
            raise UserError(f"players.{name}: no such player{did_you_mean(name, known) or alone}")
