"""Extractive question answering: where in a passage the answer to a question is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.engine.display import Displays, Text
from research.engine.metrics import Mean, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.sequence_batch import check_tokens

NUM_SHOWN = 16


class Answers(NamedTuple):
    """The best span of each window, its score, and the score of there being none."""

    start: Int[Array, " batch"]
    end: Int[Array, " batch"]
    score: Float[Array, " batch"]
    none: Float[Array, " batch"]


@dataclass(frozen=True)
class QuestionAnswering:
    """The mean cross-entropy, in nats, of where an answer starts and of where it ends (Devlin et
    al., 2019, sections 4.2 and 4.3).

    A batch is as of `data.sources.Squad`; where a window has no answer, both are its first token.
    The model is called `model(tokens, train, mask=mask, token_types=token_types)`, mask true for
    what is no padding, and gives two logits of each token, as `BERTTokenClassifier` with two
    classes. A span's score is the sum of its first token's logit of starts and its last one's of
    ends; it has at most `max_answer_length` tokens. Only `show` needs the `tokenizer`.
    """

    model: nn.Module
    max_answer_length: int = 30
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        outputs = getattr(self.model, "num_classes", 2)
        if outputs != 2:
            raise UserError(
                f"objective.model.num_classes = {outputs}: must be 2, of starts and of ends"
            )
        if self.max_answer_length < 1:
            raise UserError(
                f"objective.max_answer_length = {self.max_answer_length}: must be at least 1"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables. Raises UserError where windows are longer than its blocks."""
        length = batch["tokens"].shape[1]
        if length > getattr(self.model, "block_size", length):
            raise UserError(
                f"objective.model.block_size = {getattr(self.model, 'block_size', None)}: the "
                f"data's windows have {length} tokens"
            )
        return self.model.init(rng, batch["tokens"], train=False, **_inputs(batch))

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary."""
        check_tokens(arrays, self.model, at_most=None)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over windows, with the share of which both ends are right."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["tokens"],
            train=True,
            **_inputs(batch),
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        losses, is_right = _compared(logits, batch)
        return losses.mean(), Aux({"accuracy": mean_of(is_right)}, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss and the share of windows of which both ends are right; `AnswerReport` has exact
        match and F1 of answers."""
        losses, is_right = _compared(self._logits(params, collections, batch), batch)
        mask = batch.get("mask")
        return {"loss": mean_of(losses, mask), "accuracy": mean_of(is_right, mask)}

    def answers(self, params: Params, collections: Collections, batch: Batch) -> Answers:
        """The best span of each window, by the sum of its two logits."""
        return self._compiled_answers(params, collections, batch)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Questions, their answers (=) and the best spans (>); nothing without a tokenizer."""
        if self.tokenizer is None:
            return {}
        few = {name: x[:NUM_SHOWN] for name, x in batch.items()}
        found, texts = self.answers(params, collections, few), []
        host = {name: np.asarray(x) for name, x in few.items()}
        for row, tokens in enumerate(host["tokens"]):
            passage_start = int(host["token_types"][row].argmax())
            spans = (
                (1, passage_start - 2),
                (host["start"][row], host["end"][row]),
                (int(found.start[row]), int(found.end[row])),
            )
            question, true, best = (
                self.tokenizer.decode(tokens[first : last + 1]) if first else "(none)"
                for first, last in spans
            )
            texts.append(f"{question}\n= {true}\n> {best}")
        return {"answers": Text(texts)}

    def _logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch length 2"]:
        return jnp.asarray(
            self.model.apply(
                {"params": params, **collections}, batch["tokens"], train=False, **_inputs(batch)
            )
        )

    @cached_property
    def _compiled_answers(self) -> Callable[..., Answers]:
        def answers(params: Params, collections: Collections, batch: Batch) -> Answers:
            starts, ends = _of_passage(self._logits(params, collections, batch), batch)
            return best_spans(starts, ends, self.max_answer_length)

        return jax.jit(answers)


def best_spans(
    starts: Float[Array, "batch length"], ends: Float[Array, "batch length"], max_length: int
) -> Answers:
    """The span of at most `max_length` tokens with the largest sum of the logit of starts at its
    first and of ends at its last; the first token of all is no part of one, and stands for none."""
    none = starts[:, 0] + ends[:, 0]
    starts, ends = (x.at[:, 0].set(-jnp.inf) for x in (starts, ends))
    max_length = min(max_length, starts.shape[1])
    padded = jnp.pad(ends, ((0, 0), (0, max_length - 1)), constant_values=-jnp.inf)
    later = [padded[:, more : more + starts.shape[1]] for more in range(max_length)]
    scores = (starts[:, None] + jnp.stack(later, 1)).reshape(len(starts), -1)
    more, start = jnp.divmod(scores.argmax(1), starts.shape[1])
    return Answers(start, start + more, scores.max(1), none)


def _inputs(batch: Batch) -> dict[str, Any]:
    return {"mask": batch["token_mask"] > 0, "token_types": batch["token_types"]}


def _of_passage(
    logits: Float[Array, "batch length 2"], batch: Batch
) -> tuple[Float[Array, "batch length"], Float[Array, "batch length"]]:
    """The logits of starts and of ends, in float32, -inf where there can be none."""
    may_answer = batch["answer_mask"][..., None] > 0
    both = jnp.where(may_answer, logits.astype(jnp.float32), -jnp.inf)
    return both[..., 0], both[..., 1]


def _compared(
    logits: Float[Array, "batch length 2"], batch: Batch
) -> tuple[Float[Array, " batch"], Array]:
    """The loss of each window, and whether both ends are right."""
    starts, ends = _of_passage(logits, batch)
    losses = (cross_entropy(starts, batch["start"]) + cross_entropy(ends, batch["end"])) / 2
    is_right = (starts.argmax(-1) == batch["start"]) & (ends.argmax(-1) == batch["end"])
    return losses, is_right
