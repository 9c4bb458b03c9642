"""Population-based training: the worst go on from the best, with changed hyperparameters."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from research.engine.loop import train
from research.engine.population import exploit_and_explore
from research.engine.record import Record, read_metrics
from research.engine.restore import load_checkpoint, read_experiment
from research.engine.state import TrainState

LEARNING_RATE = "optimizer.learning_rate"
BOUNDS = {LEARNING_RATE: (0.01, 1.0)}


def population(scores, **changed):
    """Members whose parameters, learning rates and seeds are their numbers."""
    trials = len(scores)
    numbers = jnp.arange(float(trials))
    state = TrainState(
        step=jnp.full(trials, 7),
        params={"w": jnp.stack([numbers, numbers], 1)},
        collections={"batch_stats": numbers},
        opt_state={"model": numbers},
        ema={"w": numbers},
        ema_collections={"batch_stats": numbers},
        rng=jax.random.split(jax.random.key(0), trials),
        hyperparameters={LEARNING_RATE: 0.1 + 0.01 * numbers, "seed": jnp.arange(trials)},
    )
    return state.replace(**changed), jnp.asarray(scores, jnp.float32)


def evolve(state, scores, seed=0, quantile=0.25, factors=(0.8, 1.25), bounds=BOUNDS):
    rng = jax.random.key(seed)
    return exploit_and_explore(rng, state, scores, quantile, factors, bounds)


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_quarter_descends_from_the_best_quarter(seed):
    state, scores = population([0.1, 0.9, 0.5, 0.2, 0.8, 0.4, 0.3, 0.6])
    after, parent = jax.jit(evolve)(state, scores, seed)
    assert set(parent[np.array([0, 3])].tolist()) <= {1, 4}
    kept = np.array([1, 2, 4, 5, 6, 7])
    np.testing.assert_array_equal(parent[kept], kept)
    for copied in (after.params["w"][:, 0], after.ema["w"]):
        np.testing.assert_array_equal(copied, parent)
    for collections in (after.collections, after.ema_collections):
        np.testing.assert_array_equal(collections["batch_stats"], parent)
    np.testing.assert_array_equal(after.opt_state["model"], parent)
    inherited = np.asarray(0.1 + 0.01 * parent)
    rates = np.asarray(after.hyperparameters[LEARNING_RATE])
    np.testing.assert_allclose(rates[kept], inherited[kept])
    for member in (0, 3):
        factor = rates[member] / inherited[member]
        assert min(abs(factor - 0.8), abs(factor - 1.25)) < 1e-5


def test_everyone_keeps_its_seed_step_and_random_numbers():
    state, scores = population([0.1, 0.9, 0.5, 0.4])
    after, _ = evolve(state, scores)
    np.testing.assert_array_equal(after.hyperparameters["seed"], np.arange(4))
    np.testing.assert_array_equal(after.step, state.step)
    np.testing.assert_array_equal(jax.random.key_data(after.rng), jax.random.key_data(state.rng))


def test_whoever_is_not_finite_is_replaced_and_nobody_descends_from_it():
    state, scores = population([0.5, np.nan, np.inf, 0.6, 0.4, 0.3, 0.2, 0.1])
    state = state.replace(params={"w": state.params["w"].at[3].set(jnp.nan)})
    after, parent = evolve(state, scores)
    assert np.isfinite(after.params["w"]).all()
    # They are the worst quarter, and more; the best two of those that are left are 0 and 4.
    assert set(parent[np.array([1, 2, 3])].tolist()) <= {0, 4}
    np.testing.assert_array_equal(parent[np.array([0, 4, 5, 6, 7])], [0, 4, 5, 6, 7])


def test_where_nobody_is_finite_nobody_is_replaced():
    state, scores = population([np.nan, np.nan])
    _, parent = evolve(state, scores)
    np.testing.assert_array_equal(parent, [0, 1])


def test_a_single_finite_member_is_everybodys_parent():
    state, scores = population([np.nan, 0.3, np.nan])
    _, parent = evolve(state, scores)
    np.testing.assert_array_equal(parent, [1, 1, 1])


def test_hyperparameters_stay_within_their_bounds():
    state, scores = population([0.1, 0.9, 0.5, 0.4])
    after, parent = evolve(state, scores, bounds={LEARNING_RATE: (0.105, 0.1101)})
    assert parent.tolist() == [1, 1, 2, 3]
    assert after.hyperparameters[LEARNING_RATE][0] in (np.float32(0.105), np.float32(0.1101))


SETTINGS = {
    "evaluations": {
        "test": {"source": {"name": "small.Examples", "size": 50, "seed": 1}, "every": "4 steps"}
    },
    "duration": "12 steps",
    "checkpoints": {"every": "6 steps"},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "parallelism": {
        "mode": "vmap",
        "trials": {"seed": (0, 1, 2, 3), LEARNING_RATE: (0.01, 1e6, 0.05, 0.1)},
        "population": {
            "metric": "test/loss",
            "mode": "min",
            "bounds": {LEARNING_RATE: (1e-3, 1e6)},
        },
    },
}


def run(workdir, stop_at=None):
    """Trains the population; a bar that raises at a step stands for a killed process."""

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, step, *_, **__):
            if step == stop_at:
                raise KeyboardInterrupt

        def message(self, text):
            pass

    with Record(workdir, tensorboard=False) as record:
        train(small.experiment(**SETTINGS), workdir, Path(), record, lambda *_: Bar())


def test_a_population_saves_its_diverging_member_and_resumes_bit_for_bit(tmp_path):
    run(tmp_path / "whole")
    rows = read_metrics(tmp_path / "whole")
    parents = {row["step"]: row["population/parent"] for row in rows if "population/parent" in row}
    assert list(parents) == [4, 8], "a round after every evaluation but the last"
    assert parents[4][1] != 1, "the learning rate of 1e6 did not come through"
    assert all(np.isfinite(rows[-1]["test/loss"]))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_at=9)
    run(tmp_path / "cut")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    _, restored = load_checkpoint(read_experiment(tmp_path / "cut"), tmp_path / "cut", "latest")
    assert restored.step == 12
    assert max(restored.state.hyperparameters[LEARNING_RATE]) < 1e3
