"""Classifying whole sequences: texts, recordings, series."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.engine.display import ConfusionMatrix, Display, Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.sequence_batch import (
    check_tokens,
    initialise,
    outputs_of,
    sequences_of,
    training_outputs_of,
)

NUM_SHOWN = 16


@dataclass(frozen=True)
class SequenceClassification:
    """A model's logits against the labels of sequences.

    A batch has `label` int32 (N,), and `tokens` int32 (N, length) with `token_mask` or `inputs`
    float32 (N, length, features) with `input_mask`, 0 where there is padding. The model is called
    `model(tokens or inputs, train, mask=mask)`, true where there is none, and gives the features
    before the last layer where its `num_classes` is None. `label_smoothing` moves that share of the
    target to the uniform distribution (Szegedy et al., 2016).

    Only `show` needs `class_names`, and the `tokenizer` of texts.
    """

    model: nn.Module
    label_smoothing: float = 0.0
    tokenizer: Tokenizer | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_classes: int | None = getattr(self.model, "num_classes", None)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(
                f"objective.label_smoothing = {self.label_smoothing}: must be in [0, 1)"
            )
        if self.class_names and num_classes not in (None, len(self.class_names)):
            raise UserError(
                f"objective.class_names: {len(self.class_names)} names, but the model has "
                f"objective.model.num_classes = {num_classes}"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables. Raises UserError where sequences are longer than it takes."""
        return initialise(self.model, rng, batch)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary, or a label none of its
        `num_classes`."""
        check_tokens(arrays, self.model)
        num_classes: int | None = getattr(self.model, "num_classes", None)
        if num_classes is None or "label" not in arrays:
            return
        labels = np.asarray(arrays["label"])
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(wrong):
            raise UserError(
                f"the labels go from {labels.min()} to {labels.max()}, but the model has "
                f"objective.model.num_classes = {num_classes}; the first that is no class is "
                f"that of example {wrong[0]}"
            )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean cross-entropy in nats, with the accuracy of the logits it was computed from."""
        logits, collections = training_outputs_of(self.model, params, collections, batch, rng)
        targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        targets = optax.smooth_labels(targets, self.label_smoothing)
        losses = optax.softmax_cross_entropy(logits, targets)
        return losses.mean(), Aux({"accuracy": accuracy(logits, batch["label"])}, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss without smoothing in nats, and the accuracy in [0, 1]."""
        logits, mask = self.logits(params, collections, batch), batch.get("mask")
        return {
            "loss": mean_of(cross_entropy(logits, batch["label"]), mask),
            "accuracy": accuracy(logits, batch["label"], mask),
        }

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch classes"]:
        """The model's output in evaluation mode, in float32."""
        return outputs_of(self.model, params, collections, batch)

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """What the last layer sees: the output of the same model with `num_classes=None`."""
        return outputs_of(self.model.clone(num_classes=None), params, collections, batch)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """The confusion matrix and, of texts, some that are wrongly classified, the surest first:
        `true → predicted`, the probability of that, and the text."""
        labels = np.asarray(batch["label"])
        logits = self._compiled_logits(params, collections, batch)
        probabilities = np.asarray(jax.nn.softmax(logits))
        predictions = probabilities.argmax(-1)
        counts = np.zeros((logits.shape[-1], logits.shape[-1]), int)
        np.add.at(counts, (labels, predictions), 1)
        displays: dict[str, Display] = {
            "confusion_matrix": ConfusionMatrix(counts, self.class_names)
        }
        wrong = np.flatnonzero(predictions != labels)
        if self.tokenizer is None or "tokens" not in batch or not len(wrong):
            return displays
        wrong = wrong[np.argsort(-probabilities.max(-1)[wrong], kind="stable")][:NUM_SHOWN]
        names = self.class_names or [str(k) for k in range(logits.shape[-1])]
        tokens, mask = sequences_of(batch)
        texts = []
        for i in wrong:
            ids = np.asarray(tokens[i] if mask is None else tokens[i][mask[i]])
            true, predicted = names[labels[i]], names[predictions[i]]
            title = f"{true} → {predicted} ({probabilities[i].max():.1%})"
            texts.append(f"{title}\n{self.tokenizer.decode(ids)}")
        return displays | {"wrongly_classified": Text(texts)}

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self.logits)
