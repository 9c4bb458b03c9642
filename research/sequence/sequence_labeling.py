"""A class for every step of a sequence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.engine.display import Displays, Heatmap, Heatmaps
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.sequence.gradient_by_time import gradient_curves, gradient_norms


@dataclass(frozen=True)
class SequenceLabeling:
    """The mean cross-entropy of the class of each step, in nats.

    `model(inputs, train)` gives logits for each step. A batch has `inputs` float32 (N, length,
    features) and `targets` int32 (N, length). Steps whose target is the class `background` count in
    the loss, but not in the accuracy.
    """

    model: nn.Module
    background: int | None = None

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables."""
        return self.model.init(rng, batch["inputs"], train=False)

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
        start = self._compiled_init(rng, {"inputs": jnp.asarray(batch["inputs"])})["params"]
        norms = {
            "initial": self._compiled_norms(start, collections, batch),
            "trained": self._compiled_norms(params, collections, batch),
        }
        logits = self._compiled_logits(params, collections, jnp.asarray(batch["inputs"][:1]))[0]
        targets = np.eye(logits.shape[-1])[np.asarray(batch["targets"][0])]
        maps = [
            Heatmap(targets.T, title="target"),
            Heatmap(np.asarray(jax.nn.softmax(logits)).T, title="prediction"),
        ]
        return {
            "prediction": Heatmaps(maps, ("step", "class"), "probability"),
            "gradient_by_time": gradient_curves(norms),
        }

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

    def _gradient_norms(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, " length"]:
        def last_losses(inputs: Array) -> Array:
            logits = self.logits(params, collections, inputs)
            return cross_entropy(logits[:, -1], batch["targets"][:, -1])

        return gradient_norms(last_losses, jnp.asarray(batch["inputs"]))

    @cached_property
    def _compiled_init(self) -> Callable[..., Variables]:
        return jax.jit(self.init)

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self.logits)

    @cached_property
    def _compiled_norms(self) -> Callable[..., Array]:
        return jax.jit(self._gradient_norms)
