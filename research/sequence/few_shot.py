"""What a language model knows of a task from being asked in words (Brown et al., 2020)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.sources.labelled_text import LabelledText
from research.engine.metrics import cross_entropy
from research.engine.objective import Objective, Variables
from research.errors import UserError
from research.sequence.language_modeling import LanguageModeling

logger = logging.getLogger(__name__)

Ids = list[int]


@dataclass(frozen=True)
class FewShotReport:
    r"""How often a language model finds the most probable label word behind a text to be that of
    its class, in [0, 1].

    `template`, such as "Review: {text}\nIt was{label}.\n\n", is written out for each of k examples
    of `train`, drawn by `seed` with classes as even as k allows, and up to the label for a text of
    `source`, of which the first `num_texts` are asked for. `label_words` are in the order of the
    source's classes. What is before, in and behind the fields is made tokens piece by piece, so
    that a word after a space is " good". `num_examples` are several k, one number each.

    A word's score is the sum of its tokens' log probabilities, or their mean with
    `length_normalized`. `calibrated` takes off the score behind `content_free_text` with the same
    examples (Zhao et al., 2021). Texts are cut to `max_text_tokens`; a prompt that does not fit the
    model's `block_size` loses tokens from its beginning, as far as they are of examples.
    """

    source: LabelledText
    train: LabelledText
    template: str
    label_words: tuple[str, ...]
    num_examples: tuple[int, ...] = (0, 4)
    num_texts: int | None = None
    max_text_tokens: int | None = None
    length_normalized: bool = False
    calibrated: bool = False
    content_free_text: str = "N/A"
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_words", tuple(self.label_words))
        object.__setattr__(self, "num_examples", tuple(self.num_examples))
        fields = [self.template.count(field) for field in ("{text}", "{label}")]
        if fields != [1, 1] or self.template.index("{text}") > self.template.index("{label}"):
            raise UserError(
                "FewShotReport.template must have {text} once and {label} once behind it; got "
                f"{self.template!r}"
            )
        for name, source in (("source", self.source), ("train", self.train)):
            if source.second_text is not None:
                raise UserError(
                    f"FewShotReport.{name}.second_text = {source.second_text!r}: the template has "
                    "one {text}; leave it out"
                )
            if len(source.classes) != len(self.label_words) or len(self.label_words) < 2:
                raise UserError(
                    f"FewShotReport.label_words: {len(self.label_words)} words for the "
                    f"{len(source.classes)} classes of {name}; at least two, one each"
                )
        for name in ("num_texts", "max_text_tokens", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(
                    f"FewShotReport.{name} must be at least 1; got {getattr(self, name)}"
                )
        if not self.num_examples or min(self.num_examples) < 0:
            raise UserError(
                f"FewShotReport.num_examples must be some numbers from 0; got {self.num_examples}"
            )

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`<k>_shot_accuracy` for each k of `num_examples`."""
        checked, numbers = _checked(objective), {}
        for k in self.num_examples:
            scores, labels = self.scores(checked, variables, data_dir, k)
            numbers[f"{k}_shot_accuracy"] = float(np.mean(scores.argmax(-1) == labels))
        return numbers

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing, the objective is no language model of text, or a
        text does not fit the model."""
        for k in self.num_examples:
            self._prompts(_checked(objective), data_dir, k)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return tuple(f"{k}_shot_accuracy" for k in self.num_examples)

    def scores(
        self, objective: LanguageModeling, variables: Variables, data_dir: str, num_examples: int
    ) -> tuple[Float[np.ndarray, "texts classes"], Int[np.ndarray, " texts"]]:
        """The score of each label word behind each text, and the texts' classes."""
        prompts, content_free, words, labels = self._prompts(objective, data_dir, num_examples)
        prompts = [*prompts, content_free]
        sequences = [(prompt, word) for prompt in prompts for word in words]
        width = max(len(prompt) + len(word) for prompt, word in sequences)
        room = max(map(len, words))
        found: list[np.ndarray] = []
        for start in range(0, len(sequences), self.batch_size):
            tokens = np.zeros((self.batch_size, width), np.int32)
            first = np.ones(self.batch_size, np.int32)
            lengths = np.zeros(self.batch_size, np.int32)
            for row, (prompt, word) in enumerate(sequences[start : start + self.batch_size]):
                tokens[row, : len(prompt) + len(word)] = [*prompt, *word]
                first[row], lengths[row] = len(prompt), len(word)
            log_probabilities = _continuation_log_probabilities(
                objective.model, variables, tokens, first, lengths, room
            )
            found.append(np.asarray(log_probabilities))
        scores = np.concatenate(found)[: len(sequences)].reshape(len(prompts), len(words))
        if self.length_normalized:
            scores = scores / [len(word) for word in words]
        return scores[:-1] - (scores[-1] if self.calibrated else 0.0), labels

    def _prompts(
        self, objective: LanguageModeling, data_dir: str, num_examples: int
    ) -> tuple[list[Ids], Ids, list[Ids], Int[np.ndarray, " texts"]]:
        """The prompt of each text, that of the text without content, the label words, and the
        texts' classes."""
        before, _, rest = self.template.partition("{text}")
        between, _, behind = rest.partition("{label}")
        pieces = [_ids(objective, piece) for piece in (before, between, behind)]
        words = [_ids(objective, word) for word in self.label_words]
        if not all(words):
            raise UserError(f"FewShotReport.label_words: one of {self.label_words} has no token")

        def query(text: str) -> Ids:
            return [*pieces[0], *_ids(objective, text)[: self.max_text_tokens], *pieces[1]]

        examples: Ids = []
        for text, label in self._drawn(data_dir, num_examples):
            examples += [*query(text), *words[label], *pieces[2]]
        texts = self.source.texts(Path(data_dir))[: self.num_texts]
        block_size = getattr(objective.model, "block_size", None)
        # The last token of a word is not read.
        room = None if block_size is None else block_size - max(map(len, words)) + 1
        num_cut, prompts = 0, []
        for text in [*(text for text, _ in texts), self.content_free_text]:
            own = query(text)
            if not own:
                raise UserError(f"FewShotReport: the prompt of {text!r} has no token")
            if room is not None and len(own) > room:
                raise UserError(
                    f"FewShotReport: the prompt of {text[:40]!r}… has {len(own)} tokens without "
                    f"examples, and the model takes {room} beside a label word; set "
                    "max_text_tokens"
                )
            kept = len(examples) if room is None else min(len(examples), room - len(own))
            num_cut += kept < len(examples)
            prompts.append([*examples[len(examples) - kept :], *own])
        if num_cut:
            logger.warning(
                "FewShotReport: %d of %d prompts with %d examples do not fit block_size = %d and "
                "lost the beginning of their examples.",
                num_cut,
                len(prompts),
                num_examples,
                block_size,
            )
        return prompts[:-1], prompts[-1], words, np.asarray([label for _, label in texts], int)

    def _drawn(self, data_dir: str, num_examples: int) -> list[tuple[str, int]]:
        """Texts of `train`, one class after the other, in an order drawn like them."""
        if not num_examples:
            return []
        texts = self.train.texts(Path(data_dir))
        generator = np.random.default_rng([self.seed, num_examples])
        labels = np.asarray([label for _, label in texts])
        num_classes = len(self.label_words)
        classes = np.resize(generator.permutation(num_classes), num_examples)
        drawn: list[int] = []
        for k in range(num_classes):
            of_class, wanted = np.flatnonzero(labels == k), int((classes == k).sum())
            if len(of_class) < wanted:
                raise UserError(
                    f"FewShotReport.num_examples = {num_examples}: {wanted} of class "
                    f"{self.train.classes[k]!r} are to be drawn, and train has {len(of_class)}"
                )
            drawn += generator.choice(of_class, wanted, replace=False).tolist()
        return [(texts[i][0], int(labels[i])) for i in generator.permutation(drawn)]


@partial(jax.jit, static_argnames=("model", "room"))
def _continuation_log_probabilities(
    model: nn.Module,
    variables: Mapping[str, Any],
    tokens: Int[Array, "batch width"],
    first: Int[Array, " batch"],
    lengths: Int[Array, " batch"],
    room: int,
) -> Float[Array, " batch"]:
    """The log probability of the `lengths` ≤ `room` tokens from place `first` on after those before
    them; what is behind them does not matter."""
    logits: Any = model.apply(variables, tokens[:, :-1], train=False)
    places = jnp.minimum(first[:, None] + jnp.arange(room), tokens.shape[1] - 1)
    logits = jnp.take_along_axis(logits, places[..., None] - 1, axis=1)
    losses = cross_entropy(logits, jnp.take_along_axis(tokens, places, axis=1))
    return -jnp.where(jnp.arange(room) < lengths[:, None], losses, 0.0).sum(-1)


def _ids(objective: LanguageModeling, text: str) -> Ids:
    assert objective.tokenizer is not None
    try:
        return list(objective.tokenizer.encode(text))
    except UserError as error:
        raise UserError(f"FewShotReport: {text[:40]!r}: {error}") from error


def _checked(objective: Objective) -> LanguageModeling:
    if not isinstance(objective, LanguageModeling):
        raise UserError(
            f"FewShotReport measures sequence.LanguageModeling, not {type(objective).__name__}"
        )
    if objective.tokenizer is None:
        raise UserError("objective.tokenizer: missing; FewShotReport asks in words")
    return objective
