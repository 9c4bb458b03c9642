"""The training step and the evaluation step: pure functions, the same for every experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import PRNGKeyArray

from research.data.augment.transform import Transform, apply_transforms
from research.engine.metrics import Mean
from research.engine.objective import (
    Batch,
    Collections,
    HasAfterUpdate,
    HasPlayers,
    Objective,
    Params,
    Player,
    split_variables,
)
from research.engine.state import TrainState
from research.errors import UserError

Optimizers = Mapping[str, optax.GradientTransformation]
Metrics = dict[str, Mean]


@dataclass(frozen=True)
class StepSettings:
    """What a step must know besides the objective and its optimizers."""

    total_steps: int
    transforms: Sequence[Transform] = ()
    micro_batches: int = 1
    ema_decay: float | None = None
    swa_start: int | None = None
    swa_every: int = 1
    log_norms: bool = True
    axis_name: str | None = None


def players_of(objective: Objective, params: Params) -> tuple[Player, ...]:
    """The objective's players, or the one player "model" that trains everything."""
    if not isinstance(objective, HasPlayers):
        return (Player("model", tuple(params), objective.loss),)
    players = objective.players()
    trained = sorted(module for player in players for module in player.modules)
    if trained != sorted(params):
        raise UserError(
            f"{type(objective).__name__}.players(): they train {trained}, but the parameters "
            f"are {sorted(params)}; each must belong to exactly one player"
        )
    return players


def init_state(
    objective: Objective,
    optimizers: Optimizers,
    settings: StepSettings,
    variables: Mapping[str, Any],
    rng: PRNGKeyArray,
    hyperparameters: Mapping[str, Any],
) -> TrainState:
    """The state before the first step, from the objective's initial variables; with places for the
    averages that the settings ask for."""
    params, collections = split_variables(variables)
    opt_state = {
        player.name: optimizers[player.name].init(_part(params, player))
        for player in players_of(objective, params)
    }
    averages = settings.ema_decay is not None or settings.swa_start is not None
    ema = jax.tree.map(jnp.copy, params) if averages else None
    averaged = jax.tree.map(jnp.copy, _averaged_collections(settings, collections))
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, collections, opt_state, ema, averaged, rng, hyperparameters)


def train_step(
    objective: Objective,
    optimizers: Optimizers,
    settings: StepSettings,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    """One step of every player on one batch; the state after it and the metrics of it."""
    rng = jax.random.fold_in(state.rng, state.step)
    if settings.axis_name is not None:
        rng = jax.random.fold_in(rng, lax.axis_index(settings.axis_name))
    transform_rng, loss_rng = jax.random.split(rng)
    batch = apply_transforms(settings.transforms, transform_rng, batch)

    params, collections, opt_state = state.params, state.collections, dict(state.opt_state)
    all_grads: Params = {}
    all_updates: Params = {}
    metrics: Metrics = {}
    players = players_of(objective, params)
    for turn, player in enumerate(players):
        grads, collections, player_metrics = _gradients(
            player, params, collections, batch, jax.random.fold_in(loss_rng, turn), state, settings
        )
        trained = _part(params, player)
        updates, opt_state[player.name] = optimizers[player.name].update(
            grads, opt_state[player.name], trained
        )
        params = {**params, **optax.apply_updates(trained, updates)}
        all_grads, all_updates = {**all_grads, **grads}, {**all_updates, **updates}
        metrics |= player_metrics

    ema = _averaged(settings, state.ema, params, state.step + 1)
    now = _averaged_collections(settings, collections)
    ema_collections = _averaged(settings, state.ema_collections, now, state.step + 1) if now else {}
    if isinstance(objective, HasAfterUpdate):
        progress = (state.step + 1) / settings.total_steps
        collections = objective.after_update(params, collections, progress)
    metrics |= _norms(all_grads, all_updates, params, settings.log_norms)
    state = TrainState(
        state.step + 1,
        params,
        collections,
        opt_state,
        ema,
        ema_collections,
        state.rng,
        state.hyperparameters,
    )
    return state, metrics


def eval_step(
    objective: Objective,
    transforms: Sequence[Transform],
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKeyArray,
    axis_name: str | None = None,
) -> Metrics:
    """The metrics of one padded batch, as sums and weights over all devices."""
    batch = apply_transforms(transforms, rng, batch)
    metrics = dict(objective.evaluate(params, collections, batch, rng))
    return metrics if axis_name is None else lax.psum(metrics, axis_name)


def _part(params: Params, player: Player) -> dict[str, Any]:
    return {module: params[module] for module in player.modules}


def _averaged_collections(settings: StepSettings, collections: Collections) -> Collections:
    """Those of which an average is evaluated. The exponential average of parameters is behind them,
    and so must be the statistics that go with it; an even one has its own (`_gradients`)."""
    if settings.ema_decay is None:
        return {}
    return {name: x for name, x in collections.items() if name == "batch_stats"}


def _averaged(settings: StepSettings, past: Params | None, params: Params, step: Any) -> Any:
    """The average after so many steps, from the one before and the parameters; None without."""
    if settings.ema_decay is not None:
        return optax.incremental_update(params, past, 1 - settings.ema_decay)
    if settings.swa_start is None:
        return None
    since = step - settings.swa_start
    enters, count = since % settings.swa_every == 0, since // settings.swa_every + 1

    def average(mean: Any, now: Any) -> Any:
        moved = mean + (now - mean) / count.astype(now.dtype)
        return jnp.where(since <= 0, now, jnp.where(enters, moved, mean))

    return jax.tree.map(average, past, params)


def _gradients(
    player: Player,
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKeyArray,
    state: TrainState,
    settings: StepSettings,
) -> tuple[Params, Collections, Metrics]:
    """The gradient of a player's mean loss over the batches of all devices.

    Micro-batches and devices count by `Aux.weight`, so that the mean is the large batch's
    even where they hold different numbers of tokens. `state` is that before the step.
    """
    name = "loss" if player.name == "model" else f"{player.name}_loss"

    def one(collections: Collections, batch: Batch, rng: PRNGKeyArray) -> Any:
        # The gradient of the sum, not of the mean: sums add up over micro-batches and devices.
        def total(part: Params) -> Any:
            loss, aux = player.loss({**params, **part}, collections, batch, rng)
            weight = lax.stop_gradient(jnp.asarray(aux.weight, jnp.float32))
            return loss * weight, (weight, aux)

        compute = jax.value_and_grad(total, has_aux=True)
        (loss, (weight, aux)), grads = compute(_part(params, player))
        metrics = dict(aux.metrics) | {name: Mean(loss, weight)}
        changed = dict(aux.collections)
        if settings.swa_start is not None and "batch_stats" in changed:
            statistics = changed["batch_stats"]

            def of_average() -> Any:
                _, aux = player.loss(state.evaluated_params, collections, batch, rng)
                return aux.collections["batch_stats"]

            # What is evaluated needs statistics of its own; training reads none.
            averaging = state.step > settings.swa_start
            changed["batch_stats"] = lax.cond(averaging, of_average, lambda: statistics)
        return (grads, weight, metrics), {**collections, **changed}

    if settings.micro_batches == 1:
        sums, collections = one(collections, batch, rng)
    else:
        sums, collections = _accumulate(one, collections, batch, rng, settings.micro_batches)
    if settings.axis_name is not None:
        sums = lax.psum(sums, settings.axis_name)
        collections = _mean_over_devices(collections, settings.axis_name)
    grads, weight, metrics = sums
    return jax.tree.map(lambda grad: grad / weight, grads), collections, metrics


def _mean_over_devices(collections: Collections, axis_name: str) -> Collections:
    """Equal statistics everywhere, also from layers that saw one device's examples only."""
    return jax.tree.map(
        lambda x: lax.pmean(x, axis_name) if jnp.issubdtype(x.dtype, jnp.inexact) else x,
        collections,
    )


def _accumulate(one: Any, collections: Any, batch: Batch, rng: Any, count: int) -> Any:
    """The sums over micro-batches, one after the other."""
    # Each micro-batch takes every count-th example, so that it stays spread over the devices.
    parts = jax.tree.map(
        lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def body(carry: Any, part_and_rng: Any) -> Any:
        sums, collections = carry
        more, collections = one(collections, *part_and_rng)
        return (jax.tree.map(jnp.add, sums, more), collections), None

    rngs = jax.random.split(rng, count)
    first = jax.tree.map(lambda x: x[0], (parts, rngs))
    one = jax.jit(one, inline=True)  # traced once for its shapes and the loop
    shapes, _ = jax.eval_shape(one, collections, *first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    carry, _ = lax.scan(body, (zeros, collections), (parts, rngs))
    return carry


def _norms(grads: Params, updates: Params, params: Params, per_module: bool) -> Metrics:
    """The gradient's global norm, and norms per top-level module where they are asked for."""
    trees = {"grad_norm": grads, "update_norm": updates, "param_norm": params}
    norms = {"grad_norm": optax.tree.norm(grads)}
    if per_module:
        for name, tree in trees.items():
            norms |= {f"{name}/{module}": optax.tree.norm(tree[module]) for module in tree}
    one = jnp.ones((), jnp.float32)
    return {name: Mean(norm.astype(jnp.float32), one) for name, norm in norms.items()}
