"""The objective of a class for every step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.engine.metrics import compute
from research.engine.objective import HasCheckData, HasShow, Objective
from research.errors import UserError
from research.sequence import RecurrentNetwork, SequenceLabeling
from tests.random_variables import random_variables

KEY = jax.random.key(0)
OBJECTIVE = SequenceLabeling(RecurrentNetwork(6, "gru", out_features=4), background=0)


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    return {
        "inputs": jnp.asarray(generator.normal(size=(3, 5, 2)), jnp.float32),
        "targets": jnp.asarray(generator.integers(0, 4, (3, 5)), jnp.int32),
    }


@pytest.fixture(scope="module")
def params(batch):
    return random_variables(OBJECTIVE.init, batch)["params"]


def test_every_step_counts_in_the_loss_and_all_but_the_background_in_the_accuracy(params, batch):
    assert isinstance(OBJECTIVE, Objective) and isinstance(OBJECTIVE, HasShow)
    logits = OBJECTIVE.model.apply({"params": params}, batch["inputs"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    counted = np.asarray(batch["targets"]) != 0
    right = np.asarray(logits.argmax(-1) == batch["targets"])
    loss, aux = jax.jit(OBJECTIVE.loss)(params, {}, batch, KEY)
    assert float(loss) == pytest.approx(float(losses.mean()), rel=1e-5)
    evaluated = compute(OBJECTIVE.evaluate(params, {}, batch, KEY))
    assert evaluated == pytest.approx(
        {"loss": float(loss), "accuracy": right[counted].mean()}, rel=1e-5
    )
    assert compute(aux.metrics)["accuracy"] == pytest.approx(evaluated["accuracy"])


def test_refuses_what_is_no_class_of_the_model():
    assert isinstance(OBJECTIVE, HasCheckData)
    OBJECTIVE.check_data({"targets": np.asarray([[0, 3]])})
    for wrong in (-1, 4):
        told = f"a target {wrong}, but objective.model has 4 classes; .* position 1 of example 2"
        with pytest.raises(UserError, match=told):
            OBJECTIVE.check_data({"targets": np.asarray([[0, 3], [0, 0], [0, wrong]])})
        with pytest.raises(UserError, match=f"objective.background = {wrong}: must be a class"):
            dataclasses.replace(OBJECTIVE, background=wrong)


def test_padding_does_not_count(params, batch):
    first = {name: x[:1] for name, x in batch.items()}
    masked = {**batch, "mask": jnp.asarray([1.0, 0.0, 0.0])}
    expected = compute(OBJECTIVE.evaluate(params, {}, first, KEY))
    assert compute(OBJECTIVE.evaluate(params, {}, masked, KEY)) == pytest.approx(expected, rel=1e-5)


def test_shows_predictions_and_how_far_the_last_loss_reaches_back(params, batch):
    displays = OBJECTIVE.show(params, {}, {**batch, "mask": jnp.ones(3)}, KEY)
    target, prediction = displays["prediction"].maps
    np.testing.assert_array_equal(target.values.argmax(0), batch["targets"][0])
    np.testing.assert_allclose(prediction.values.sum(0), 1, rtol=1e-5)
    ((initial, trained),) = displays["gradient_by_time"].panels.values()
    assert (initial.label, trained.label) == ("initial", "trained")
    for curve in (initial, trained):
        assert curve.y.shape == (5,) and (curve.y > 0).all()
    assert (initial.y != trained.y).all()
