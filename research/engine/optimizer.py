"""From settings to optax: the chain every optimizer is, its schedule and its rules."""

from typing import Any

import jax
import optax
from optax import contrib

from research.engine.duration import Steps
from research.engine.errors import UserError
from research.engine.experiment import Optimizer, Schedule
from research.engine.objective import Params
from research.engine.rules import apply_rules, path_of

_DECOUPLED = ("adamw", "lion", "muon")


def make_optimizer(
    settings: Optimizer, params: Params, steps: Steps, path: str = "optimizer"
) -> optax.GradientTransformation:
    """The optax chain of `settings` for parameters of this structure.

    clip -> L2 decay -> the optimizer's direction -> decoupled decay -> learning-rate rules ->
    learning rate. Numbers in `settings` may be traced: that is how trials with different
    hyperparameters share one program.

    Raises:
      UserError: naming the setting below `path`, for a rule that matches no parameter or a
        warm-up longer than the training.
    """
    parts: list[optax.GradientTransformation] = []
    if settings.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(settings.clip_norm))
    decay = _weight_decay(settings, params, path)
    if settings.name not in _DECOUPLED:
        parts += decay
    parts.append(_direction(settings))
    if settings.name in _DECOUPLED:
        parts += decay
    if settings.learning_rate_rules:
        rules_path = f"{path}.learning_rate_rules"
        multipliers = apply_rules(settings.learning_rate_rules, params, 1.0, rules_path)
        parts.append(_scale_each(multipliers))
    schedule = make_schedule(settings, steps, path)
    chain = optax.chain(*parts, optax.scale_by_learning_rate(schedule))
    if not settings.freeze:
        return chain
    rules = [(pattern, "frozen") for pattern in settings.freeze]
    labels = apply_rules(rules, params, "trained", f"{path}.freeze")
    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)


def make_schedule(settings: Optimizer, steps: Steps, path: str = "optimizer") -> optax.Schedule:
    """The learning rate as a function of the step; warm-up is part of the training."""
    schedule = settings.schedule
    warmup = steps(schedule.warmup)
    if warmup > steps.total:
        raise UserError(
            f'{path}.schedule.warmup = "{schedule.warmup}": {warmup} steps, longer than the '
            f"training of {steps.total}"
        )
    after = _after_warmup(schedule, settings.learning_rate, steps, warmup)
    if warmup == 0:
        return after
    rise = optax.linear_schedule(0.0, settings.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def _after_warmup(schedule: Schedule, peak: Any, steps: Steps, warmup: int) -> optax.Schedule:
    remaining = max(1, steps.total - warmup)
    match schedule.name:
        case "constant":
            return optax.constant_schedule(peak)
        case "cosine":
            return optax.cosine_decay_schedule(peak, remaining, schedule.final_fraction)
        case "linear":
            return optax.linear_schedule(peak, peak * schedule.final_fraction, remaining)
        case "step":
            drops = {steps(boundary) - warmup: schedule.factor for boundary in schedule.boundaries}
            return optax.piecewise_constant_schedule(peak, drops)
        case "rsqrt":
            # big_vision's form: flat up to the timescale, continuous there, then 1/sqrt(step).
            timescale = steps(schedule.timescale)
            return lambda count: peak * jax.numpy.sqrt(
                timescale / jax.numpy.maximum(count + warmup, timescale)
            )


def _direction(settings: Optimizer) -> optax.GradientTransformation:
    match settings.name:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(settings.momentum)
        case "nesterov":
            return optax.trace(settings.momentum, nesterov=True)
        case "rmsprop":
            rms = optax.scale_by_rms(settings.b2, settings.eps)
            return optax.chain(rms, optax.trace(settings.momentum))
        case "adagrad":
            return optax.scale_by_rss(initial_accumulator_value=0.0, eps=settings.eps)
        case "adam" | "adamw":
            return optax.scale_by_adam(settings.b1, settings.b2, settings.eps)
        case "lion":
            return optax.scale_by_lion(settings.b1, settings.b2)
        case "muon":
            # optax.contrib.muon ends with the sign and rate of descent, which this chain adds.
            muon = contrib.muon(
                1.0,
                beta=settings.momentum,
                eps=settings.eps,
                adam_b1=settings.b1,
                adam_b2=settings.b2,
                muon_weight_dimension_numbers=_muon_dimensions,
            )
            return optax.chain(muon, optax.scale(-1.0))


def _muon_dimensions(params: Params) -> Any:
    """Muon for kernels (Jordan 2024); embeddings, biases and scales follow Adam.

    A convolution is one matrix from all its inputs to its outputs; leading axes of other
    kernels, such as stacked layers, are matrices of their own.
    """

    def dimensions(path: tuple[Any, ...], leaf: Any) -> Any:
        if not path_of(path).endswith("kernel") or leaf.ndim < 2:
            return None
        if leaf.ndim == 4:
            return contrib.MuonDimensionNumbers((0, 1, 2), 3)
        return contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(dimensions, params)


def _weight_decay(
    settings: Optimizer, params: Params, path: str
) -> list[optax.GradientTransformation]:
    # A traced decay has no truth value, and is used.
    if isinstance(settings.weight_decay, float) and settings.weight_decay == 0:
        return []
    rules_path = f"{path}.weight_decay_rules"
    multipliers = apply_rules(settings.weight_decay_rules, params, 0.0, rules_path)

    def add(updates: Any, params: Any) -> Any:
        return jax.tree.map(
            lambda update, param, multiplier: (
                update + settings.weight_decay * multiplier * param if multiplier else update
            ),
            updates,
            params,
            multipliers,
        )

    return [optax.stateless(add)]


def _scale_each(multipliers: Any) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u, multiplier: u * multiplier, updates, multipliers)
    )
