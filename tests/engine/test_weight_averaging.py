"""Stochastic weight averaging: what is evaluated is the even mean of a run's own parameters."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
import small

START, EVERY = 4, 3
SETTINGS = {
    **small.HARD,
    "ema_decay": None,
    "swa_start": f"{START} steps",
    "swa_every": f"{EVERY} steps",
    "optimizer__learning_rate": 0.5,
}


def on_host(state: Any) -> Any:
    return jax.device_get(state.replace(rng=None))


@pytest.fixture(scope="module")
def alone() -> tuple[Any, Any, list[Any]]:
    """A run of ten steps, its compiled program, and its state before the first step and after
    each."""
    run = small.ready(**SETTINGS)
    state = run.init()
    compiled = small.compile_train(run, state)
    states = [on_host(state)]
    for step in range(10):
        state, _ = small.advance(run, state, step, [1], compiled)
        states.append(on_host(state))
    return run, compiled, states


def test_the_average_is_the_mean_of_the_parameters_of_some_steps(alone):
    _, _, states = alone
    for step, state in enumerate(states):
        entered = [states[k].params for k in range(START, step + 1, EVERY)] or [state.params]
        mean = jax.tree.map(lambda *x: np.mean(x, axis=0, dtype=np.float64), *entered)
        assert small.largest_difference(state.evaluated_params, mean) < 1e-7, f"step {step}"
        if len(entered) == 1:
            assert small.largest_difference(state.ema, entered[0]) == 0, f"step {step}"
    assert small.largest_difference(states[10].ema, states[10].params) > 1e-2


def test_batch_statistics_become_those_of_the_average(alone):
    run, _, states = alone

    @jax.jit
    def statistics(params, collections, batch):
        _, aux = run.program.objective.loss(params, collections, batch, None)
        return aux.collections["batch_stats"]

    for step, (before, after) in enumerate(itertools.pairwise(states)):
        batch = run.dataset.gather(run.dataset.arrays, run.orders[0].indices(step))
        own, raw = (
            statistics(params, before.collections, batch) for params in (before.ema, before.params)
        )
        found = after.collections["batch_stats"]
        assert small.largest_difference(found, own) < 1e-6, f"step {step}"
        if step > START:
            assert small.largest_difference(found, raw) > 1e-4, f"step {step}"


def test_a_run_cut_before_and_after_the_start_ends_with_the_same_bits(alone):
    run, compiled, states = alone
    for cut in (START - 1, START + EVERY + 1):
        again = run.init()
        placed = jax.device_put(states[cut])
        state = again.replace(**{k: v for k, v in vars(placed).items() if k != "rng"})
        state, _ = small.advance(run, state, cut, [1] * (10 - cut), compiled)
        assert small.largest_difference(on_host(state), states[10]) == 0, f"cut at {cut}"


def test_trials_average_as_they_would_alone(alone):
    _, _, states = alone
    trials = {"seed": (3, 0), "optimizer.learning_rate": (0.2, 0.5)}
    _, together, _ = small.trained(**SETTINGS, parallelism={"mode": "vmap", "trials": trials})
    trial = jax.tree.map(lambda x: x[1], on_host(together.replace(hyperparameters={})))
    assert small.largest_difference(trial, states[10]) < 1e-5


def test_an_exponential_average_has_the_average_of_the_statistics():
    run = small.ready(**small.HARD)
    state = run.init()
    compiled = small.compile_train(run, state)
    before = on_host(state)
    for step in range(4):
        state, _ = small.advance(run, state, step, [1], compiled)
        after = on_host(state)
        for mean, past, now in (
            (after.ema, before.ema, after.params),
            (
                after.evaluated_collections["batch_stats"],
                before.evaluated_collections["batch_stats"],
                after.collections["batch_stats"],
            ),
        ):
            expected = jax.tree.map(lambda x, y: 0.9 * x + 0.1 * y, past, now)
            assert small.largest_difference(mean, expected) < 1e-6, f"step {step}"
        before = after
    statistics = after.evaluated_collections["batch_stats"]
    assert small.largest_difference(statistics, after.collections["batch_stats"]) > 1e-3
    # What is evaluated with the parameters' average.
    measured = run.evaluators["test"](state)
    raw = run.evaluators["test"](state.replace(ema_collections={}))
    assert abs(measured["loss"] - raw["loss"]) > 1e-4
