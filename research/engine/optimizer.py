"""From settings to optax: the chain every optimizer is, its schedule and its rules."""

import re
from typing import Any

import jax
import optax
from optax import contrib

from research.engine.duration import Steps
from research.engine.experiment import Optimizer, Schedule
from research.engine.layer_decay import layer_multipliers
from research.engine.objective import Params
from research.engine.rules import apply_rules, path_of
from research.errors import UserError

_DECOUPLED = ("adafactor", "adamw", "lion", "muon")

# Kernels of attention keep heads apart: (features, 3, heads, head_dim), of which query, key and
# value are a matrix each, and (heads, head_dim, features).
_MATRICES = (
    (r"(.*/)?attention/qkv/kernel", (-4,), (-2, -1)),
    (r"(.*/)?attention/out/kernel", (-3, -2), (-1,)),
)


def make_optimizer(
    settings: Optimizer, params: Params, steps: Steps, path: str = "optimizer"
) -> optax.GradientTransformation:
    """The optax chain of `settings` for parameters of this structure.

    clip -> L2 decay -> the optimizer's direction -> decoupled decay -> decay over layers ->
    learning-rate rules -> learning rate. Numbers in `settings` may be traced: that is how trials
    with different hyperparameters share one program.

    Raises:
      UserError: naming the setting below `path`, for a rule that matches no parameter or a
        warm-up longer than the training.
    """
    frozen = apply_rules(
        [(pattern, True) for pattern in settings.freeze], params, False, f"{path}.freeze"
    )

    def trained_only(values: Any) -> Any:
        # Frozen parameters are masked in all that the chain sees, so also in what goes along.
        return jax.tree.map(
            lambda value, frozen: optax.MaskedNode() if frozen else value, values, frozen
        )

    def multipliers(rules: Any, default: float, setting: str) -> Any:
        return trained_only(apply_rules(rules, params, default, f"{path}.{setting}"))

    parts: list[optax.GradientTransformation] = []
    if settings.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(settings.clip_norm))
    # Without decay the chain is as long: the state's structure does not depend on a number. A
    # traced decay has no truth value, and is used.
    decay = optax.identity()
    if not (isinstance(settings.weight_decay, float) and settings.weight_decay == 0):
        decayed = multipliers(settings.weight_decay_rules, 0.0, "weight_decay_rules")
        decay = _weight_decay(settings.weight_decay, decayed)
    if settings.name in _DECOUPLED:
        parts += [_direction(settings), decay]
    else:
        parts += [decay, _direction(settings)]
    if settings.layer_decay is not None:
        falling = layer_multipliers(settings.layer_decay, settings.layers, params, f"{path}.layers")
        parts.append(_scale_each(trained_only(falling)))
    if settings.learning_rate_rules:
        rates = multipliers(settings.learning_rate_rules, 1.0, "learning_rate_rules")
        parts.append(_scale_each(rates))
    schedule = make_schedule(settings, steps, path)
    chain = optax.chain(*parts, optax.scale_by_learning_rate(schedule))
    if not settings.freeze:
        return chain
    labels = jax.tree.map(lambda frozen: "frozen" if frozen else "trained", frozen)
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
    peak = settings.learning_rate
    after = _after_warmup(schedule, peak, steps, warmup)
    if warmup == 0:
        return after
    rise = optax.linear_schedule(peak * schedule.initial_fraction, peak, warmup)
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
        case "exponential":
            fall = optax.exponential_decay(
                peak, steps(schedule.every), schedule.factor, staircase=True
            )
            return lambda count: fall(count + warmup)
        case "rsqrt":
            # big_vision's form: flat up to the timescale, continuous there, then 1/sqrt(step).
            timescale = steps(schedule.timescale)
            return lambda count: (
                peak * jax.numpy.sqrt(timescale / jax.numpy.maximum(count + warmup, timescale))
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
            rms = optax.scale_by_rms(settings.b2, settings.eps, eps_in_sqrt=False)
            return optax.chain(rms, optax.trace(settings.momentum))
        case "adagrad":
            return optax.scale_by_rss(initial_accumulator_value=0.0, eps=settings.eps)
        case "adafactor":
            return optax.chain(
                optax.scale_by_factored_rms(),
                optax.clip_by_block_rms(1.0),
                optax.scale_by_param_block_rms(),
            )
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
                muon_weight_dimension_numbers=_muon_dimensions,
            )
            adam = optax.scale_by_adam(settings.b1, settings.b2, settings.eps)
            directions = {"muon": optax.chain(muon, optax.scale(-1.0)), "adam": adam}
            return optax.partition(directions, _muon_labels)


def _muon_labels(params: Params) -> Any:
    """Muon for kernels (Jordan 2024); embeddings, biases and scales follow Adam."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            "muon" if path_of(path).endswith("kernel") and leaf.ndim >= 2 else "adam"
        ),
        params,
    )


def _muon_dimensions(kernels: Params) -> Any:
    """Which axes of a kernel are the rows and columns of its matrix; the others, such as stacked
    layers, count matrices of their own. A convolution is one matrix from all its inputs."""

    def dimensions(path: tuple[Any, ...], kernel: Any) -> contrib.MuonDimensionNumbers:
        name = path_of(path)
        for pattern, rows, columns in _MATRICES:
            if re.fullmatch(pattern, name):
                return contrib.MuonDimensionNumbers(rows, columns)
        return contrib.MuonDimensionNumbers((-4, -3, -2) if kernel.ndim == 4 else (-2,), (-1,))

    return jax.tree_util.tree_map_with_path(dimensions, kernels)


def _weight_decay(weight_decay: Any, multipliers: Any) -> optax.GradientTransformation:
    def add(updates: Any, params: Any) -> Any:
        return jax.tree.map(
            lambda update, param, multiplier: (
                update + weight_decay * multiplier * param if multiplier else update
            ),
            updates,
            params,
            multipliers,
        )

    return optax.stateless(add)


def _scale_each(multipliers: Any) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, _: jax.tree.map(
            lambda u, multiplier: u * jax.numpy.asarray(multiplier, u.dtype), updates, multipliers
        )
    )
