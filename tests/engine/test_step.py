"""The train step against what its parts add up to by hand."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from research.engine.metrics import Mean
from research.engine.objective import Aux, Player, split_variables
from research.engine.step import StepSettings, init_state, train_step
from research.errors import UserError
from tests.random_variables import random_variables

RATE = 0.1
BATCH = small.Examples(16).open(None).arrays


def start(
    objective: Any, optimizers: Any, variables: Any, batch: Any = BATCH, **options: Any
) -> tuple[Any, Any]:
    """The state before the first step, and the compiled step on always the same batch."""
    settings = StepSettings(**{"total_steps": 4} | options)
    state = init_state(objective, optimizers, settings, variables, jax.random.key(0), {})
    return state, jax.jit(lambda state: train_step(objective, optimizers, settings, state, batch))


def repeat(state: Any, step: Any, count: int) -> list[tuple[Any, dict[str, Mean]]]:
    """State and metrics after each of some steps."""
    results = []
    for _ in range(count):
        state, metrics = step(state)
        results.append((state, metrics))
    return results


@pytest.mark.parametrize("masked", [False, True])
def test_micro_batches_add_up_to_the_large_batch(masked):
    objective = small.Classify(small.Net(), masked=masked)
    # The third of four micro-batches (every fourth example) counts little, the fourth not at all.
    counts = np.ones(16, np.float32)
    counts[2:12:4] = counts[3::4] = 0
    batch = {**BATCH, "counts": counts}
    variables = random_variables(objective.init, batch)
    params = variables["params"]
    compute = jax.value_and_grad(
        lambda params: objective.loss(params, {}, batch, None), has_aux=True
    )
    (loss, aux), grads = jax.jit(compute)(params)
    expected = jax.tree.map(lambda p, g: p - RATE * g, params, grads)

    for micro_batches in (1, 4):
        sgd = {"model": optax.sgd(RATE)}
        state, step = start(objective, sgd, variables, batch, micro_batches=micro_batches)
        state, metrics = step(state)
        difference = small.largest_difference(state.params, expected)
        assert difference < 1e-6, f"{micro_batches} micro-batches: off by {difference}"
        assert float(metrics["loss"].weight) == (9 if masked else 16)
        np.testing.assert_allclose(metrics["loss"].compute(), loss, rtol=1e-6)
        assert metrics["accuracy"].total == aux.metrics["accuracy"].total
        assert metrics["accuracy"].weight == aux.metrics["accuracy"].weight


def test_bfloat16_computes_and_float32_remembers():
    run, state, history = small.trained(compute_dtype="bfloat16", duration="1 steps")
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state)) if leaf.ndim}
    assert kinds == {np.dtype(np.float32)}
    params = run.init().params
    batch = run.dataset.gather(run.dataset.arrays, run.orders[0].indices(0))
    objectives = (run.program.objective, small.Classify(small.Net()))
    compute = jax.jit(lambda params: [o.loss(params, {}, batch, None)[0] for o in objectives])
    half, exact = compute(params)
    assert half.dtype == jnp.float32
    # bfloat16 has 8 bits: results differ by about 2^-9, and not by much more.
    assert 1e-5 < abs(float(half - exact)) < 0.05
    np.testing.assert_allclose(history["loss"][0], half, atol=1e-3)


@dataclass(frozen=True)
class Quadratic:
    """(x + 2y)² / 2 for two modules of a number each: the gradient is (x + 2y, 2x + 4y)."""

    def init(self, rng: Any, batch: Any) -> Any:
        return {"params": {"a": {"x": jnp.float32(3)}, "b": {"y": jnp.float32(-0.5)}}}

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        return 0.5 * (params["a"]["x"] + 2 * params["b"]["y"]) ** 2, Aux()

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Any:
        return {}


def test_average_and_norms_by_hand():
    objective = Quadratic()
    sgd = {"model": optax.sgd(RATE)}
    begin = start(objective, sgd, objective.init(None, None), ema_decay=0.9)
    x, y = 3.0, -0.5
    mean_x, mean_y = x, y
    for state, metrics in repeat(*begin, 3):
        slope = x + 2 * y
        loss = 0.5 * slope**2
        x, y = x - RATE * slope, y - RATE * 2 * slope
        mean_x, mean_y = 0.9 * mean_x + 0.1 * x, 0.9 * mean_y + 0.1 * y
        found = {name: float(mean.compute()) for name, mean in metrics.items()}
        assert found == pytest.approx(
            {
                "loss": loss,
                "grad_norm": np.sqrt(5) * abs(slope),
                "grad_norm/a": abs(slope),
                "grad_norm/b": 2 * abs(slope),
                "update_norm/a": RATE * abs(slope),
                "update_norm/b": RATE * 2 * abs(slope),
                "param_norm/a": abs(x),
                "param_norm/b": abs(y),
            },
            rel=1e-5,
        )
        assert float(state.ema["a"]["x"]) == pytest.approx(mean_x, rel=1e-6)
        assert float(state.ema["b"]["y"]) == pytest.approx(mean_y, rel=1e-6)
        assert state.evaluated_params is state.ema
    state, step = start(objective, sgd, objective.init(None, None), log_norms=False)
    state, metrics = step(state)
    assert metrics.keys() == {"loss", "grad_norm"}
    assert state.ema is None
    assert state.evaluated_params is state.params


@dataclass(frozen=True)
class Game:
    """`left` descends x·y by x, then `right` ascends it by y; a follower keeps what it was told.

    Each loss depends on both parameters. `modules` is what the right player claims to train.
    """

    modules: tuple[str, ...] = ("right",)

    def init(self, rng: Any, batch: Any) -> Any:
        return {
            "params": {"left": {"x": jnp.float32(2)}, "right": {"y": jnp.float32(1)}},
            "turns": {"left": jnp.float32(0), "right": jnp.float32(0)},
            "follower": {"x": jnp.float32(0), "progress": jnp.float32(0)},
        }

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        raise AssertionError("players have losses of their own")

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Any:
        return {}

    def players(self) -> tuple[Player, ...]:
        def left(params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
            turns = collections["turns"]
            counted = {"turns": {**turns, "left": turns["left"] + 1}}
            return params["left"]["x"] * params["right"]["y"], Aux({}, counted)

        def right(params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
            turns = collections["turns"]
            counted = {"turns": {**turns, "right": 10 * turns["left"]}}
            return -params["left"]["x"] * params["right"]["y"], Aux({}, counted)

        return Player("first", ("left",), left), Player("second", self.modules, right)

    def after_update(self, params: Any, collections: Any, progress: Any) -> Any:
        return {**collections, "follower": {"x": params["left"]["x"], "progress": progress}}


def test_players_take_turns_with_optimizers_of_their_own():
    optimizers = {"first": optax.sgd(RATE), "second": optax.sgd(0.5, momentum=0.9)}
    game = Game()
    x, y, velocity = 2.0, 1.0, 0.0
    begin = start(game, optimizers, game.init(None, None), log_norms=False)
    for number, (state, metrics) in enumerate(repeat(*begin, 4), 1):
        assert metrics["first_loss"].compute() == pytest.approx(x * y, rel=1e-6)
        x -= RATE * y
        assert metrics["second_loss"].compute() == pytest.approx(-x * y, rel=1e-6)
        velocity = 0.9 * velocity - x
        y -= 0.5 * velocity
        assert float(state.params["left"]["x"]) == pytest.approx(x, rel=1e-5)
        assert float(state.params["right"]["y"]) == pytest.approx(y, rel=1e-5)
        assert state.opt_state.keys() == {"first", "second"}
        assert float(state.collections["turns"]["right"]) == 10 * number, "it saw the first turn"
        assert float(state.collections["follower"]["x"]) == pytest.approx(x, rel=1e-5)
        assert float(state.collections["follower"]["progress"]) == pytest.approx(number / 4)


@pytest.mark.parametrize("modules", [(), ("left", "right"), ("right", "third")])
def test_players_that_do_not_share_out_the_parameters_are_refused(modules):
    game = Game(modules)
    optimizers = {"first": optax.sgd(RATE), "second": optax.sgd(RATE)}
    with pytest.raises(UserError, match=r"Game\.players\(\).*exactly one player"):
        start(game, optimizers, game.init(None, None))


@dataclass(frozen=True)
class Noisy:
    """Reports a random number as a metric."""

    def init(self, rng: Any, batch: Any) -> Any:
        return {"params": {"a": jnp.float32(0)}}

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        noise = jax.random.normal(rng)
        metrics = {"noise": Mean(noise, 1.0), "square": Mean(noise**2, 1.0)}
        return params["a"] ** 2, Aux(metrics)

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Any:
        return {}


def test_every_step_and_micro_batch_draws_anew_and_every_repetition_the_same():
    noisy, sgd = Noisy(), {"model": optax.sgd(0.0)}

    def draws(begin: Any) -> list[dict[str, float]]:
        return [{k: float(v.compute()) for k, v in row.items()} for _, row in repeat(*begin, 3)]

    for micro_batches in (1, 4):
        begin = start(
            noisy, sgd, noisy.init(None, None), micro_batches=micro_batches, log_norms=False
        )
        first = draws(begin)
        assert len({metrics["noise"] for metrics in first}) == 3
        assert first == draws(begin)
    # The mean of squares is the square of the mean where all draws are equal.
    assert all(metrics["square"] > 1.01 * metrics["noise"] ** 2 for metrics in first)


def test_variables_are_parameters_and_the_rest():
    params, collections = split_variables({"params": {"w": 1}, "batch_stats": {"mean": 2}})
    assert params == {"w": 1} and collections == {"batch_stats": {"mean": 2}}
