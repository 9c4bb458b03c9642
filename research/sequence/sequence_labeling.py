"""A class for every step of a sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.engine.display import Displays, Heatmap, Heatmaps
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.gradient_by_time import gradient_by_time
from research.sequence.sequence_batch import check_ids


@dataclass(frozen=True)
class SequenceLabeling:
    """The mean cross-entropy of the class of each step, in nats.

    `model(inputs, train)` gives logits for each step. A batch has `inputs` float32 (N, length,
    features) and `targets` int32 (N, length). Steps whose target is the class `background` count in
    the loss, but not in the accuracy.
    """

    model: nn.Module
    background: int | None = None

    def __post_init__(self) -> None:
        background, num_classes = self.background, self._num_classes
        if background is None or num_classes is None:
            return
        if not 0 <= background < num_classes:
            raise UserError(
                f"objective.background = {background}: must be a class, and the model has "
                f"{num_classes}, from 0 on"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables."""
        return self.model.init(rng, batch["inputs"], train=False)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a target is none of the model's classes."""
        size = self._num_classes
        if "targets" in arrays and size is not None:
            complaint = f"there is a target {{}}, but objective.model has {size} classes"
            check_ids(arrays["targets"], size, complaint)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over all steps of the batch, with the accuracy."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["inputs"],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        losses = cross_entropy(logits, batch["targets"])
        metrics = {"accuracy": self._accuracy(logits, batch["targets"])}
        return losses.mean(), Aux(metrics, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss in nats, and the accuracy in [0, 1]."""
        logits, targets = self.logits(params, collections, batch["inputs"]), batch["targets"]
        mask = jnp.ones(len(targets)) if "mask" not in batch else batch["mask"]
        return {
            "loss": mean_of(cross_entropy(logits, targets), mask),
            "accuracy": self._accuracy(logits, targets, mask),
        }

    def logits(
        self,
        params: Params,
        collections: Collections,
        inputs: Float[Array, "batch length features"],
    ) -> Float[Array, "batch length classes"]:
        """The model's output in evaluation mode, in float32."""
        outputs: Any = self.model.apply({"params": params, **collections}, inputs, train=False)
        return outputs.astype(jnp.float32)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """The first example's probabilities beside its targets; and the norm of the gradient of the
        last step's loss with respect to the input of each, now and with the initial parameters."""
        inputs, targets = jnp.asarray(batch["inputs"]), jnp.asarray(batch["targets"])

        def last_losses(params: Params, inputs: Array) -> Array:
            logits = self.logits(params, collections, inputs)
            return cross_entropy(logits[:, -1], targets[:, -1])

        initial = jax.jit(self.init)(rng, {"inputs": inputs})["params"]
        logits = self.logits(params, collections, inputs[:1])[0]
        maps = [
            Heatmap(np.eye(logits.shape[-1])[np.asarray(targets[0])].T, title="target"),
            Heatmap(np.asarray(jax.nn.softmax(logits)).T, title="prediction"),
        ]
        return {
            "prediction": Heatmaps(maps, ("step", "class"), "probability"),
            "gradient_by_time": gradient_by_time(
                last_losses, {"initial": initial, "trained": params}, inputs
            ),
        }

    @property
    def _num_classes(self) -> int | None:
        """How many logits of a step the model has; None where it does not tell."""
        return getattr(self.model, "out_features", getattr(self.model, "num_classes", None))

    def _accuracy(
        self,
        logits: Float[Array, "batch length classes"],
        targets: Int[Array, "batch length"],
        mask: Float[Array, " batch"] | None = None,
    ) -> Mean:
        counted = (
            jnp.ones(targets.shape) if mask is None else mask[:, None] * jnp.ones_like(targets)
        )
        if self.background is not None:
            counted = counted * (targets != self.background)
        return accuracy(logits, targets, counted)
