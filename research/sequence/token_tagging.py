"""Tagging tokens: names of persons and places, parts of speech."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.engine.display import ConfusionMatrix, Display, Displays, Text
from research.engine.metrics import Mean, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.nn.crf import CRF
from research.sequence.sequence_batch import check_ids
from research.sequence.spans import are_of_spans, bracketed, count_spans, spans_of

NUM_SHOWN = 16


@dataclass(frozen=True)
class TokenTagging:
    """A model's logits of a tag for each token that has one.

    A batch has `tokens` and `token_mask`, `tags` (N, length), -1 for tokens without, and whatever
    else the model takes of `characters`, as of `data.sources.ConllColumns`, whose `tags` these are
    in their order. The model is called `model(tokens, train, mask=mask)`, mask true for what is no
    padding, with `characters=characters` where the batch has them.

    With `crf` the tags of a sentence are one sequence to a conditional random field (`nn.crf.CRF`)
    whose parameters, `crf`, are beside the model's.
    """

    model: nn.Module
    tags: tuple[str, ...]
    crf: bool = False

    def __post_init__(self) -> None:
        outputs = getattr(self.model, "num_tags", getattr(self.model, "num_classes", None))
        if outputs not in (None, len(self.tags)):
            raise UserError(
                f"objective.tags: {len(self.tags)} tags, but objective.model has {outputs}"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables and the field's."""
        variables = self.model.init(rng, batch["tokens"], train=False, **_inputs(batch))
        if not self.crf:
            return variables
        logits = jnp.zeros((1, 2, len(self.tags)))
        field = self._field.init(rng, logits, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))
        return {**variables, "params": {**variables["params"], "crf": field["params"]}}

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token, character or tag is none of the model's."""
        vocab_size = getattr(self.model, "vocab_size", None)
        num_characters = getattr(self.model, "num_characters", None)
        for name, row, setting, lowest, size in (
            ("tokens", "example", "model.vocab_size", 0, vocab_size),
            ("spellings", "word", "model.num_characters", 0, num_characters),
            ("tags", "example", "tags, their number,", -1, len(self.tags)),
        ):
            if name in arrays and size is not None:
                complaint = f"in {name} there is {{}}, but objective.{setting} = {size}"
                check_ids(arrays[name], size, complaint, lowest=lowest, row=row)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The negative log-likelihood of the tags in nats, the mean over tags."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["tokens"],
            train=True,
            **_inputs(batch),
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        logits, tags = _tagged_first(logits, batch["tags"])
        total, weight = self._losses(params, logits, tags).sum(), (tags >= 0).sum()
        return total / jnp.maximum(weight, 1), Aux({}, collections, weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss; the `accuracy` of tags; and, of tags O, B-… and I-…, the `precision`, `recall`
        and `f1` of spans, all types together, in [0, 1]."""
        predicted, tags, losses = self._predictions(params, collections, batch)
        rows = batch.get("mask", jnp.ones(len(tags)))
        has_tag = (tags >= 0) * rows[:, None]
        metrics = {
            "loss": Mean((losses * rows).sum(), has_tag.sum()),
            "accuracy": mean_of(predicted == tags, has_tag),
        }
        if are_of_spans(self.tags):
            counts = count_spans(spans_of(predicted, self.tags), spans_of(tags, self.tags))
            found, there, true = (counts * rows[:, None]).sum(0)
            metrics |= {
                "precision": Mean(found, there),
                "recall": Mean(found, true),
                "f1": Mean(2 * found, there + true),
            }
        return metrics

    def predict(
        self, params: Params, collections: Collections, batch: Batch
    ) -> tuple[Int[Array, "batch length"], Int[Array, "batch length"]]:
        """The predicted and the true tags of each sentence, by their places in `tags`; tokens
        without are left out, and -1 is behind the end."""
        predicted, tags, _ = self._compiled_predictions(params, collections, batch)
        return predicted, tags

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """How often a tag was taken for another and, where there are characters and spans,
        sentences with what is true (=) and, where it is something else, what is predicted (>)."""
        predicted, tags = (np.asarray(x) for x in self.predict(params, collections, batch))
        counts = np.zeros((len(self.tags), len(self.tags)), int)
        np.add.at(counts, (tags[tags >= 0], predicted[tags >= 0]), 1)
        displays: dict[str, Display] = {"confusion_matrix": ConfusionMatrix(counts, self.tags)}
        if "characters" not in batch or not are_of_spans(self.tags):
            return displays
        texts = []
        for row, characters in enumerate(np.asarray(batch["characters"][:NUM_SHOWN])):
            length = (tags[row] >= 0).sum()
            words = ["".join(map(chr, word[word > 0])) for word in characters[:length]]
            true, guess = (
                bracketed(words, places[row, :length], self.tags) for places in (tags, predicted)
            )
            texts.append(f"= {true}" if true == guess else f"= {true}\n> {guess}")
        return displays | {"sentences": Text(texts)}

    def _predictions(
        self, params: Params, collections: Collections, batch: Batch
    ) -> tuple[Int[Array, "batch length"], Int[Array, "batch length"], Float[Array, " batch"]]:
        """As of `predict`, and the loss of each sentence, the sum over its tags."""
        logits: Any = self.model.apply(
            {"params": params, **collections}, batch["tokens"], train=False, **_inputs(batch)
        )
        logits, tags = _tagged_first(logits, batch["tags"])
        predicted = logits.argmax(-1)
        if self.crf:
            predicted = self._field.apply(
                {"params": params["crf"]}, logits, tags >= 0, method="decode"
            )
        losses = self._losses(params, logits, tags)
        return jnp.where(tags >= 0, predicted, -1), tags, losses

    def _losses(
        self,
        params: Params,
        logits: Float[Array, "batch length tags"],
        tags: Int[Array, "batch length"],
    ) -> Float[Array, " batch"]:
        """Of each sentence, the sum over its tags."""
        has_tag = tags >= 0
        if self.crf:
            field: Any = self._field.apply({"params": params["crf"]}, logits, tags, has_tag)
            return -field
        return jnp.where(has_tag, cross_entropy(logits, jnp.maximum(tags, 0)), 0).sum(1)

    @property
    def _field(self) -> CRF:
        return CRF(len(self.tags))

    @cached_property
    def _compiled_predictions(self) -> Callable[..., Any]:
        return jax.jit(self._predictions)


def _inputs(batch: Batch) -> dict[str, Any]:
    """What the model is given beside the tokens."""
    inputs: dict[str, Any] = {"mask": batch["token_mask"] > 0}
    return inputs | ({"characters": batch["characters"]} if "characters" in batch else {})


def _tagged_first(
    logits: Float[Array, "batch length tags"], tags: Int[Array, "batch length"]
) -> tuple[Float[Array, "batch length tags"], Int[Array, "batch length"]]:
    """Both with the tokens that have tags, in their order, before all others."""
    order = jnp.argsort(tags < 0, axis=1)
    tags = jnp.take_along_axis(tags, order, 1)
    return jnp.take_along_axis(logits.astype(jnp.float32), order[..., None], 1), tags
