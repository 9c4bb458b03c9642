"""Forecasting: its errors by hand, and what it shows and refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.engine import metrics
from research.engine.display import Curves
from research.engine.objective import HasCheckData, HasShow, Objective
from research.errors import UserError
from research.sequence import DLinear, Forecasting


class Repeat(nn.Module):
    """The last value, again and again, plus a number."""

    horizon: int

    @nn.compact
    def __call__(self, inputs, train=False):
        added = self.param("added", nn.initializers.constant(0.5), ())
        return jnp.repeat(inputs[:, -1:], self.horizon, 1) + added


def make(**settings):
    generator = np.random.default_rng(0)
    batch = {
        "inputs": jnp.asarray(generator.normal(size=(6, 8, 2)), jnp.float32),
        "targets": jnp.asarray(2 * generator.normal(size=(6, 4, 2)), jnp.float32),
        "index": jnp.arange(6),
        "mask": jnp.ones(6),
    }
    objective = Forecasting(Repeat(4), **settings)
    differences = np.asarray(batch["inputs"][:, -1:] + 0.5 - batch["targets"], np.float64)
    return objective, batch, objective.init(jax.random.key(0), batch)["params"], differences


def huber(x, delta):
    return np.where(np.abs(x) <= delta, x**2 / 2, delta * (np.abs(x) - delta / 2))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, np.square),
        ({"loss_function": "mae"}, np.abs),
        ({"loss_function": "huber"}, lambda x: huber(x, 1.0)),
        ({"loss_function": "huber", "huber_delta": 0.3}, lambda x: huber(x, 0.3)),
    ],
)
def test_errors_are_means_over_windows_steps_and_channels(settings, error, evaluate_in_parts):
    objective, batch, params, differences = make(**settings)
    loss, aux = objective.loss(params, {}, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, error(differences).mean(), rtol=1e-5)
    expected = {
        "loss": error(differences).mean(),
        "mse": np.square(differences).mean(),
        "mae": np.abs(differences).mean(),
    }
    whole, in_parts = evaluate_in_parts(objective, params, {}, batch)
    assert metrics.compute(whole) == pytest.approx(expected, rel=1e-5)
    assert metrics.compute(in_parts) == pytest.approx(expected, rel=1e-5)
    assert metrics.compute(aux.metrics)["mse"] == pytest.approx(expected["mse"], rel=1e-5)


def test_it_is_an_objective_with_curves_to_show():
    objective, batch, params, differences = make()
    for protocol in (Objective, HasCheckData, HasShow):
        assert isinstance(objective, protocol)
    display = objective.show(params, {}, batch, jax.random.key(0))["forecasts"]
    assert isinstance(display, Curves)
    assert len(display.panels) == 6, "three windows, the first and the last channel"
    error = np.square(differences[5, :, 1]).mean()
    past, truth, forecast = display.panels[f"window 5, channel 1: MSE {error:.3f}"]
    np.testing.assert_array_equal(past.y, batch["inputs"][5, :, 1])
    np.testing.assert_array_equal(past.x, np.arange(-8, 0))
    np.testing.assert_array_equal(truth.y, batch["targets"][5, :, 1])
    np.testing.assert_allclose(forecast.y - truth.y, differences[5, :, 1], rtol=1e-5)
    one = {name: x[:1, ..., :1] for name, x in batch.items() if x.ndim == 3}
    assert len(objective.show(params, {}, one, jax.random.key(0))["forecasts"].panels) == 1


def test_a_model_of_another_horizon_is_refused():
    _, batch, _, _ = make()
    with pytest.raises(UserError, match=r"forecasts 5 steps of 2 channels, .* targets are 4 steps"):
        Forecasting(DLinear(5)).init(jax.random.key(0), batch)


def test_values_that_are_no_numbers_are_refused():
    objective, batch, _, _ = make()
    arrays = {name: np.array(batch[name]) for name in ("inputs", "targets")}
    objective.check_data(arrays)
    arrays["targets"][3, 1, 0] = np.inf
    with pytest.raises(UserError, match="targets of example 3: there is a value that is NaN or"):
        objective.check_data(arrays)
