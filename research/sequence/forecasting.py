"""Forecasting: the next steps of a series from those before them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Curve, Curves, Displays
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError

_SHOWN = 3


@dataclass(frozen=True)
class Forecasting:
    """The error of a model's forecasts, the mean over windows, steps and channels.

    `model(inputs, train)` gives as many steps as the targets have. A batch has `inputs` (N,
    input_length, channels) and `targets` (N, horizon, channels), as of `data.sources.TimeSeries`;
    errors are in their units. `loss_function` "huber" is quadratic up to `huber_delta` (Huber
    1964).
    """

    model: nn.Module
    loss_function: Literal["mse", "mae", "huber"] = "mse"
    huber_delta: float = 1.0

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where its forecasts have not the shape of the targets.
        """
        forecasts, variables = self.model.init_with_output(rng, batch["inputs"], train=False)
        if forecasts.shape != batch["targets"].shape:
            raise UserError(
                f"the model forecasts {_told(forecasts)}, the data's targets are "
                f"{_told(batch['targets'])}; make objective.model.horizon the source's horizon"
            )
        return variables

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a value is NaN or infinite."""
        for name in ("inputs", "targets"):
            values = np.asarray(arrays.get(name, 0.0))
            wrong = np.argwhere(~np.isfinite(values))
            if len(wrong):
                raise UserError(
                    f"{name} of example {wrong[0][0]}: there is a value that is NaN or infinite; "
                    "leave the example out of the data, or mend it"
                )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean of `loss_function`, with the other errors of the same forecasts."""
        forecasts, collections = self.model.apply(
            {"params": params, **collections},
            batch["inputs"],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        errors = self._errors(forecasts, batch["targets"])
        metrics = {name: mean_of(errors[name]) for name in ("mse", "mae")}
        return errors["loss"].mean(), Aux(metrics, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """`mse` and `mae`, the mean squared and absolute error, and `loss`."""
        forecasts = self.forecasts(params, collections, batch)
        errors = self._errors(forecasts, batch["targets"])
        return {name: mean_of(error, batch.get("mask")) for name, error in errors.items()}

    def forecasts(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch horizon channels"]:
        """The model's output in evaluation mode, in float32."""
        variables = {"params": params, **collections}
        forecasts: Any = self.model.apply(variables, batch["inputs"], train=False)
        return forecasts.astype(jnp.float32)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Past, truth and forecast of the first and the last channel of some windows, with at most
        twice as much past as forecast."""
        windows = np.unique(np.linspace(0, len(batch["inputs"]) - 1, _SHOWN).astype(int))
        few = {name: batch[name][windows] for name in ("inputs", "targets")}
        forecasts = np.asarray(self._compiled_forecasts(params, collections, few))
        inputs, targets = np.asarray(few["inputs"]), np.asarray(few["targets"])
        horizon, channels = targets.shape[1:]
        inputs = inputs[:, -2 * horizon :]
        past, future = np.arange(-inputs.shape[1], 0), np.arange(horizon)
        panels = {}
        for i, window in enumerate(windows):
            for channel in sorted({0, channels - 1}):
                error = np.mean((forecasts - targets)[i, :, channel] ** 2)
                panels[f"window {window}, channel {channel}: MSE {error:.3f}"] = [
                    Curve("past", past, inputs[i, :, channel]),
                    Curve("truth", future, targets[i, :, channel]),
                    Curve("forecast", future, forecasts[i, :, channel]),
                ]
        return {"forecasts": Curves(panels, ("step", "value"))}

    def _errors(
        self,
        forecasts: Float[Array, "batch horizon channels"],
        targets: Float[Array, "batch horizon channels"],
    ) -> dict[str, Float[Array, "batch horizon channels"]]:
        forecasts = forecasts.astype(jnp.float32)
        errors = {
            "mse": optax.squared_error(forecasts, targets),
            "mae": jnp.abs(forecasts - targets),
        }
        if self.loss_function == "huber":
            return errors | {"loss": optax.huber_loss(forecasts, targets, delta=self.huber_delta)}
        return errors | {"loss": errors[self.loss_function]}

    @cached_property
    def _compiled_forecasts(self) -> Callable[..., Array]:
        return jax.jit(self.forecasts)


def _told(array: Array) -> str:
    steps, channels = array.shape[1:]
    return f"{steps} steps of {channels} channels"
