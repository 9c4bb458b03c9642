"""A number for a whole sequence: how alike two sentences are, a rating, a dose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Display, Displays, Scatter
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.gradient_by_time import gradient_by_time
from research.sequence.sequence_batch import (
    check_tokens,
    initialise,
    outputs_of,
    training_outputs_of,
)


@dataclass(frozen=True)
class SequenceRegression:
    """A model's one output, with `num_classes=1`, against the numbers of sequences.

    Batches and models are as of `SequenceClassification`, but `label` is float32 (N,). The loss is
    the mean squared error, or the mean absolute one. Correlations with the labels, which are no
    means over examples, are measured by `RegressionReport`.
    """

    model: nn.Module
    loss_function: Literal["squared", "absolute"] = "squared"

    def __post_init__(self) -> None:
        if self.loss_function not in ("squared", "absolute"):
            raise UserError(
                "objective.loss_function must be 'squared' or 'absolute', not "
                f"{self.loss_function!r}"
            )
        num_classes = getattr(self.model, "num_classes", 1)
        if num_classes != 1:
            raise UserError(
                f"objective.model.num_classes = {num_classes}: a regression has one output; make "
                "it 1"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables. Raises UserError where sequences are longer than it takes."""
        return initialise(self.model, rng, batch)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary, or a label no finite
        number."""
        check_tokens(arrays, self.model)
        wrong = np.flatnonzero(~np.isfinite(arrays.get("label", 0.0)))
        if len(wrong):
            raise UserError(f"the label of example {wrong[0]} is NaN or infinite")

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the batch."""
        outputs, collections = training_outputs_of(self.model, params, collections, batch, rng)
        return self._losses(outputs[:, 0], batch["label"]).mean(), Aux({}, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """`loss`, `squared_error` and `absolute_error`, means over examples."""
        predictions, mask = self.predictions(params, collections, batch), batch.get("mask")
        errors = jnp.abs(predictions - batch["label"])
        return {
            "loss": mean_of(self._losses(predictions, batch["label"]), mask),
            "squared_error": mean_of(jnp.square(errors), mask),
            "absolute_error": mean_of(errors, mask),
        }

    def predictions(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, " batch"]:
        """The model's output in evaluation mode, in float32."""
        return outputs_of(self.model, params, collections, batch)[:, 0]

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """What the last layer sees: the output of the same model with `num_classes=None`."""
        return outputs_of(self.model.clone(num_classes=None), params, collections, batch)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Predictions over labels; and, of vectors, the norm of the gradient of the loss with
        respect to the input at each position, now and with the initial parameters."""
        predictions = self.predictions(params, collections, batch)
        points = np.stack([np.asarray(batch["label"]), np.asarray(predictions)], 1)
        displays: dict[str, Display] = {
            "predictions": Scatter(points, axes=("label", "prediction"))
        }
        if "inputs" in batch:
            initial = jax.jit(self.init)(rng, batch)["params"]
            displays["gradient_by_time"] = gradient_by_time(
                lambda params, inputs: self._losses(
                    self.predictions(params, collections, {**batch, "inputs": inputs}),
                    batch["label"],
                ),
                {"initial": initial, "trained": params},
                batch["inputs"],
            )
        return displays

    def _losses(
        self, predictions: Float[Array, " batch"], labels: Float[Array, " batch"]
    ) -> Float[Array, " batch"]:
        errors = predictions - labels
        return jnp.square(errors) if self.loss_function == "squared" else jnp.abs(errors)
