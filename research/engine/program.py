"""An experiment as pure functions of arrays: what gets compiled."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from research.data.augment.transform import apply_transforms
from research.data.dataset import Dataset
from research.engine.config import build
from research.engine.duration import Steps
from research.engine.experiment import Experiment
from research.engine.metrics import Mean, Packed, pack
from research.engine.objective import HasPlayers, Objective, Params
from research.engine.optimizer import make_optimizer, make_schedule
from research.engine.state import TrainState
from research.engine.step import (
    Optimizers,
    StepSettings,
    eval_step,
    init_state,
    players_of,
    train_step,
)
from research.errors import UserError

Trial = Mapping[str, Any]
_EVALUATION_KEY = 0x5EED  # folded into the seed's key for everything but training


@dataclass(frozen=True)
class Program:
    """The functions of one experiment.

    A feed is a tree of arrays with a leading axis of steps; where the data set is on the
    device it is {"indices": …}, else it is the batches themselves.
    """

    experiment: Experiment
    objective: Objective
    train_transforms: Sequence[Any]
    steps: Steps
    axis_name: str | None = None

    def init(self, trial: Trial, batch: Any) -> TrainState:
        """The state before the first step; `trial` holds the settings in which trials differ,
        `batch` shows the shapes of the data."""
        experiment, objective, transforms = self._of(trial)
        init_rng, rng = jax.random.split(jax.random.key(experiment.seed))
        batch = apply_transforms(transforms, init_rng, batch)
        variables = objective.init(init_rng, batch)
        optimizers = self.optimizers(experiment, objective, variables["params"])
        hyperparameters = {path: jnp.asarray(value) for path, value in trial.items()}
        settings = self._settings(experiment, transforms)
        return init_state(objective, optimizers, settings, variables, rng, hyperparameters)

    def train(
        self, dataset: Dataset, state: TrainState, arrays: Any, feed: Any, count: Any
    ) -> tuple[TrainState, Packed]:
        """The first `count` steps of a feed; metrics have a leading axis of steps.

        The number of steps is not known to the compiler: however a run is cut into calls, it is
        the same program that makes each step, and the same bits come out.
        """
        experiment, objective, transforms = self._of(state.hyperparameters)
        optimizers = self.optimizers(experiment, objective, state.params)
        schedules = self.schedules(experiment, objective)
        settings = self._settings(experiment, transforms)

        def one(state: TrainState, item: Any) -> tuple[TrainState, Packed]:
            batch = _gather(dataset, arrays, item)
            rates = {
                name: Mean(jnp.asarray(schedule(state.step), jnp.float32), jnp.ones(()))
                for name, schedule in schedules.items()
            }
            state, metrics = train_step(objective, optimizers, settings, state, batch)
            return state, pack(metrics | rates)

        length = jax.tree.leaves(feed)[0].shape[0]
        if length == 1:
            state, metrics = one(state, jax.tree.map(lambda x: x[0], feed))
            return state, jax.tree.map(lambda x: x[None], metrics)

        def item_at(index: Any) -> Any:
            return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, keepdims=False), feed)

        def body(index: Any, carry: Any) -> Any:
            state, history = carry
            state, metrics = one(state, item_at(index))
            write = lambda past, x: lax.dynamic_update_index_in_dim(past, x, index, 0)  # noqa: E731
            return state, jax.tree.map(write, history, metrics)

        one = jax.jit(one, inline=True)  # traced once for its shapes and the loop
        shapes = jax.eval_shape(one, state, item_at(0))[1]
        history = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
        return lax.fori_loop(0, count, body, (state, history))

    def evaluate(
        self,
        dataset: Dataset,
        transforms: Sequence[Any],
        state: Any,
        arrays: Any,
        feed: Any,
    ) -> Packed:
        """The metrics of one padded batch; `state` is (params, collections, hyperparameters)."""
        params, collections, hyperparameters = state
        experiment, objective, _ = self._of(hyperparameters)
        marks = {"mask": feed["mask"], "index": feed["index"]}
        batch = _gather(dataset, arrays, {k: v for k, v in feed.items() if k not in marks})
        rng = evaluation_key(experiment.seed)
        batch = {**batch, **marks}
        return pack(
            eval_step(objective, transforms, params, collections, batch, rng, self.axis_name)
        )

    def optimizers(
        self, experiment: Experiment, objective: Objective, params: Params
    ) -> Optimizers:
        """Every player's optimizer, for the parameters it trains."""
        players = players_of(objective, params)
        return {
            player.name: make_optimizer(
                experiment.players.get(player.name, experiment.optimizer),
                {module: params[module] for module in player.modules},
                self.steps,
                f"players.{player.name}" if player.name in experiment.players else "optimizer",
            )
            for player in players
        }

    def schedules(self, experiment: Experiment, objective: Objective) -> dict[str, Any]:
        """The learning rates to log, by metric name."""
        if not isinstance(objective, HasPlayers):
            return {"learning_rate": make_schedule(experiment.optimizer, self.steps)}
        return {
            f"learning_rate/{player.name}": make_schedule(
                experiment.players.get(player.name, experiment.optimizer), self.steps
            )
            for player in objective.players()
        }

    def with_axis(self, axis_name: str | None) -> "Program":
        """The same program, averaging over another axis or none."""
        return dataclasses.replace(self, axis_name=axis_name)

    def _settings(self, experiment: Experiment, transforms: Sequence[Any]) -> StepSettings:
        start = experiment.swa_start
        return StepSettings(
            total_steps=max(1, self.steps.total),
            transforms=transforms,
            micro_batches=experiment.micro_batches,
            ema_decay=experiment.ema_decay,
            swa_start=None if start is None else self.steps(start),
            swa_every=max(1, self.steps(experiment.swa_every)),
            log_norms=experiment.log_norms,
            axis_name=self.axis_name,
        )

    def _of(self, trial: Trial) -> tuple[Experiment, Objective, Sequence[Any]]:
        """The experiment, objective and transforms with a trial's traced values in place."""
        experiment, objective, transforms = self.experiment, self.objective, self.train_transforms
        for path, value in trial.items():
            if path.startswith("objective."):
                objective = _replace(objective, path.split(".")[1:], value)
            elif path.startswith("data.transforms."):
                transforms = _replace(transforms, path.split(".")[2:], value)
            else:
                experiment = _replace(experiment, path.split("."), value)
        return experiment, objective, transforms


def evaluation_key(seed: Any) -> jax.Array:
    """The key of evaluations, pictures and probes: the same throughout a run."""
    return jax.random.fold_in(jax.random.key(seed), _EVALUATION_KEY)


def make_program(experiment: Experiment, steps: Steps, axis_name: str | None) -> Program:
    """Builds the experiment's objective and transforms."""
    objective = build(experiment.objective, "objective")
    transforms = build(experiment.data.transforms, "data.transforms")
    return Program(experiment, objective, transforms, steps, axis_name)


def _gather(dataset: Dataset, arrays: Any, item: Any) -> Any:
    return dataset.gather(arrays, item["indices"]) if "indices" in item else item


def _replace(value: Any, path: Sequence[str], leaf: Any) -> Any:
    """A copy of nested frozen dataclasses with one field, at the path, another."""
    name, *rest = path
    if isinstance(value, Mapping):
        return {**value, name: _replace(value[name], rest, leaf) if rest else leaf}
    if isinstance(value, Sequence):
        place = int(name)
        return (*value[:place], _replace(value[place], rest, leaf), *value[place + 1 :])
    names = [item.name for item in dataclasses.fields(value)]
    if name not in names:
        raise UserError(f"parallelism.trials: {type(value).__name__} has no {name!r}")
    # Not dataclasses.replace: checks in __post_init__ can't be made of a traced number.
    changed = copy.copy(value)
    object.__setattr__(changed, name, _replace(getattr(value, name), rest, leaf) if rest else leaf)
    return changed
