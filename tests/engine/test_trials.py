"""Trials in one program are the runs they would be alone."""

import jax
import numpy as np
import pytest
import small

SETTINGS = {**small.HARD, "data__transforms": [{"name": "small.Jitter"}]}
TRIALS = {
    "seed": (0, 7),
    "optimizer.learning_rate": (0.05, 0.2),
    "objective.scale": (1.0, 0.5),
}


def test_each_trial_is_the_run_it_would_be_alone():
    run, together, history = small.trained(
        **SETTINGS, parallelism={"mode": "vmap", "trials": TRIALS}, steps_per_call=5
    )
    together = together.replace(rng=None)
    measured = run.evaluators["test"](together)
    ends = []
    for index in range(2):
        settings = {path.replace(".", "__"): values[index] for path, values in TRIALS.items()}
        alone_run, alone, alone_history = small.trained(**SETTINGS, **settings)
        alone = alone.replace(rng=None)
        trial = jax.tree.map(lambda x, i=index: x[i], together.replace(hyperparameters={}))
        assert small.largest_difference(trial, alone) < 1e-5
        for name, values in alone_history.items():
            assert history[name].shape == (10, 2)
            np.testing.assert_allclose(history[name][:, index], values, rtol=1e-4, atol=1e-5)
        for name, value in alone_run.evaluators["test"](alone).items():
            assert measured[name][index] == pytest.approx(value, rel=1e-5)
        ends.append(alone)
    assert small.largest_difference(*ends) > 1e-2, "the trials differ"
