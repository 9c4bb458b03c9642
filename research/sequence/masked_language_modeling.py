"""Masked language modelling: fill in tokens from those on both sides (Devlin et al., 2019)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.data.tokenizers import (
    Tokenizer,
    named_id,
    pieces_of,
    special_ids,
    word_edges,
)
from research.engine.display import Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import (
    Aux,
    Batch,
    Collections,
    Params,
    Variables,
    example_keys,
)
from research.errors import UserError
from research.sequence.sequence_batch import (
    CHECKED_TOKENS,
    check_ids,
    check_segments,
    packed_documents,
)

NUM_SHOWN = 8
BLANK = "[MASK]"  # in a prompt


class Masked(NamedTuple):
    """Sequences of which some tokens are hidden.

    `positions` has as many entries as may be hidden; only where `chosen` are they.
    """

    inputs: Int[Array, "*batch length"]
    positions: Int[Array, "*batch masked"]
    targets: Int[Array, "*batch masked"]
    chosen: Bool[Array, "*batch masked"]


@dataclass(frozen=True)
class MaskedLanguageModeling:
    """The mean cross-entropy of hidden tokens, in nats.

    Of every sequence's text, special tokens aside, the share `mask_rate` is drawn anew at each
    step, rounded and at least one token; in `whole_words`, as many as fit into that share. A drawn
    token becomes the mask with probability 0.8 and a random token with 0.1, and stays as it is with
    0.1. The mask is `mask_token` of the tokenizer or, of one without names of tokens, the id behind
    its vocabulary.

    A batch has `tokens` int32 (N, length) and `token_mask` (N, length), 0 for padding; or windows
    of `data.sources.Text`, whose first token is left out: it is the last one of the window before.
    Where it has `segments`, which number the documents that are packed into a row, attention stays
    within documents, whose positions begin at 0.
    The model has a `vocab_size`, may have a `block_size`, and `model(tokens, train,
    key_mask=key_mask, masked_positions=positions)` gives the logits there, as of `BERT`. `generate`
    puts `start_token` and `end_token` around a prompt, by their names in the tokenizer; they are
    those that the data has around its texts, None where it has none.
    """

    model: nn.Module
    tokenizer: Tokenizer
    mask_token: str = "[MASK]"
    mask_rate: float = 0.15
    whole_words: bool = False
    start_token: str | None = None
    end_token: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_rate < 1.0:
            raise UserError(f"objective.mask_rate = {self.mask_rate}: must be in (0, 1)")

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where the sequences are longer than the model's, the model has no place
        for all tokens and the mask or takes no segments that there are, or the tokenizer lacks the
        mask or a token around texts.
        """
        check_segments(batch, self.model)
        self._around()
        tokens, _ = _texts(batch)
        length = tokens.shape[1]
        if length > getattr(self.model, "block_size", length):
            raise UserError(
                f"objective.model.block_size = {self.model.block_size}: the data's sequences have "
                f"{length} tokens"
            )
        needed = max(self._mask_id + 1, self.tokenizer.vocab_size)
        if self.model.vocab_size < needed:
            raise UserError(
                f"objective.model.vocab_size = {self.model.vocab_size}: must be at least {needed}, "
                "for the tokenizer's tokens and the mask"
            )
        positions = jnp.zeros((len(tokens), self._num_positions(length)), jnp.int32)
        return self.model.init(rng, tokens, train=False, masked_positions=positions)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the tokenizer's."""
        size = self.tokenizer.vocab_size
        check_ids(
            arrays.get("tokens", ()),
            size,
            f"there is a token {{}}, but objective.tokenizer has {size} tokens",
            at_most=CHECKED_TOKENS,
        )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the hidden tokens of the batch, with perplexity and accuracy."""
        mask_rng, dropout_rng = jax.random.split(rng)
        tokens, is_text = _texts(batch)
        masked = self.masked(jax.random.split(mask_rng, len(tokens)), tokens, is_text)
        logits, collections = self.model.apply(
            {"params": params, **collections},
            masked.inputs,
            train=True,
            key_mask=is_text,
            masked_positions=masked.positions,
            mutable=list(collections),
            rngs={"dropout": dropout_rng},
            **_documents(batch, tokens),
        )
        metrics = _metrics(logits, masked.targets, masked.chosen)
        total, weight = metrics["loss"].total, metrics["loss"].weight
        return total / jnp.maximum(weight, 1.0), Aux(metrics, collections, weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Loss in nats, perplexity and accuracy over hidden tokens, the same ones at each time."""
        tokens, is_text = _texts(batch)
        masked = self.masked(example_keys(rng, batch), tokens, is_text)
        documents = _documents(batch, tokens)
        logits = self._logits(params, collections, masked, is_text, documents)
        chosen = masked.chosen
        if "mask" in batch:
            chosen = chosen & (batch["mask"] > 0)[:, None]
        return _metrics(logits, masked.targets, chosen)

    def masked(
        self,
        keys: PRNGKeyArray,
        tokens: Int[Array, "batch length"],
        is_text: Bool[Array, "batch length"] | None,
    ) -> Masked:
        """Each sequence with tokens hidden by its own key."""
        if is_text is None:
            is_text = jnp.ones(tokens.shape, bool)
        return jax.vmap(self._mask)(keys, tokens, is_text)

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str = BLANK,
    ) -> Displays:
        """The prompt with the likeliest token for each [MASK] in it.

        Raises UserError where there is none, or for a text that cannot be encoded or is too long.
        """
        blanks = prompt.count(BLANK)
        if not blanks:
            raise UserError(f"prompt = {prompt!r}: write {BLANK} where a token is to be filled in")
        before, behind = self._around()
        ids: list[int] = [*before]
        positions: list[int] = []
        for place, text in enumerate(prompt.split(BLANK)):
            if place:
                positions.append(len(ids))
                ids.append(self._mask_id)
            try:
                ids += [int(index) for index in self.tokenizer.encode(text)]
            except UserError as error:
                raise UserError(f"prompt = {prompt!r}: {error}") from error
        ids += behind
        if len(ids) > getattr(self.model, "block_size", len(ids)):
            raise UserError(
                f"prompt: has {len(ids)} tokens; the model has room for {self.model.block_size}"
            )
        tokens, places = jnp.asarray([ids]), jnp.asarray([positions])
        everywhere = jnp.ones(places.shape, bool)
        masked = Masked(tokens, places, jnp.zeros_like(places), everywhere)
        guesses = np.asarray(self._compiled_guesses(params, collections, masked, None))
        filled = np.asarray(ids)
        filled[positions] = guesses[0]
        inside = filled[len(before) : len(filled) - len(behind)]
        return {"filled": Text([self.tokenizer.decode(inside)])}

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Texts with hidden tokens in brackets: the guess and, where it is wrong, → what is
        right."""
        few = {name: batch[name][:NUM_SHOWN] for name in batch}
        tokens, is_text = _texts(few)
        masked = self.masked(example_keys(rng, few), tokens, is_text)
        given = masked, is_text, _documents(few, tokens)
        guesses = np.asarray(self._compiled_guesses(params, collections, *given))
        whole = np.ones(tokens.shape, bool) if is_text is None else np.asarray(is_text)
        pieces = pieces_of(self.tokenizer)
        texts = []
        for row in range(len(tokens)):
            shown = [pieces[index] for index in np.asarray(tokens[row])]
            chosen = np.asarray(masked.chosen[row])
            places = np.asarray(masked.positions[row])[chosen]
            for place, guess in zip(places, guesses[row][chosen], strict=True):
                shown[place] = _bracketed(pieces[guess], shown[place])
            texts.append("".join(np.asarray(shown, object)[whole[row]]).strip())
        return {"filled": Text(texts)}

    def _mask(
        self, key: PRNGKeyArray, tokens: Int[Array, " length"], is_text: Bool[Array, " length"]
    ) -> Masked:
        """One sequence with tokens hidden."""
        draw_key, kind_key, token_key = jax.random.split(key, 3)
        count = self._num_positions(len(tokens))
        candidates = is_text & jnp.asarray(self._may_be_hidden)[tokens]
        positions, fits = self._drawn(draw_key, tokens, candidates)
        positions, chosen = positions[:count], (fits & candidates[positions])[:count]
        targets = tokens[positions]
        kind = jax.random.uniform(kind_key, (count,))
        others = jax.random.choice(token_key, self._ordinary, (count,))
        hidden = jnp.where(kind < 0.8, self._mask_id, jnp.where(kind < 0.9, others, targets))
        inputs = tokens.at[positions].set(jnp.where(chosen, hidden, targets))
        return Masked(inputs, positions, targets, chosen)

    def _drawn(
        self, key: PRNGKeyArray, tokens: Int[Array, " length"], candidates: Bool[Array, " length"]
    ) -> tuple[Int[Array, " length"], Bool[Array, " length"]]:
        """All places, by words in a random order and candidates first, and whether those up to the
        end of each one's word fit into the share that is hidden."""
        length = len(tokens)
        word = jnp.arange(length)
        if self.whole_words:
            begins, ends = (jnp.asarray(table) for table in word_edges(self.tokenizer))
            alone = ~candidates
            starts = begins[tokens] | alone
            starts = starts.at[1:].set(starts[1:] | (ends[tokens] | alone)[:-1])
            word = jnp.cumsum(starts)
        draws = jax.random.uniform(key, (length + 1,))[word]
        order = jnp.argsort(jnp.where(candidates, draws, 2.0))
        place, word = jnp.arange(length), word[order]
        is_last = jnp.append(word[1:] != word[:-1], True)
        end = jax.lax.cummin(jnp.where(is_last, place, length), reverse=True)
        share = jnp.floor(self.mask_rate * candidates.sum() + 0.5)
        return order, end < jnp.clip(share, 1, self._num_positions(length))

    def _logits(
        self,
        params: Params,
        collections: Collections,
        masked: Masked,
        is_text: Bool[Array, "batch length"] | None,
        documents: Mapping[str, Any],
    ) -> Float[Array, "batch masked vocab_size"]:
        return jnp.asarray(
            self.model.apply(
                {"params": params, **collections},
                masked.inputs,
                train=False,
                key_mask=is_text,
                masked_positions=masked.positions,
                **documents,
            )
        )

    @cached_property
    def _compiled_guesses(self) -> Callable[..., Array]:
        """The likeliest token at each position that may be hidden, special ones aside."""

        def guesses(
            params: Params,
            collections: Collections,
            masked: Masked,
            is_text: Array | None,
            documents: Mapping[str, Any] = FrozenDict(),
        ) -> Int[Array, "batch masked"]:
            logits = self._logits(params, collections, masked, is_text, documents)
            return self._ordinary[logits[..., self._ordinary].argmax(-1)]

        return jax.jit(guesses)

    @property
    def _mask_id(self) -> int:
        if not hasattr(self.tokenizer, "token_id"):
            return self.tokenizer.vocab_size
        try:
            return self.tokenizer.token_id(self.mask_token)
        except UserError as error:
            raise UserError(f"objective.mask_token = {self.mask_token!r}: {error}") from error

    def _around(self) -> tuple[list[int], list[int]]:
        """What is put before a prompt and behind it."""
        around: tuple[list[int], list[int]] = ([], [])
        for ids, setting in zip(around, ("start_token", "end_token"), strict=True):
            name = getattr(self, setting)
            if name is None:
                continue
            try:
                ids.append(named_id(self.tokenizer, name))
            except UserError as error:
                raise UserError(f"objective.{setting} = {name!r}: {error}") from error
        return around

    @property
    def _may_be_hidden(self) -> Bool[np.ndarray, " vocab_size"]:
        """Of each token of the tokenizer, whether it is a piece of text."""
        special = [*special_ids(self.tokenizer), self._mask_id]
        return ~np.isin(np.arange(self.tokenizer.vocab_size), special)

    @property
    def _ordinary(self) -> Int[Array, " ordinary"]:
        """The tokens that are pieces of text."""
        return jnp.asarray(np.flatnonzero(self._may_be_hidden))

    def _num_positions(self, length: int) -> int:
        """The most tokens of a sequence that may be hidden."""
        return max(1, int(self.mask_rate * length + 0.5))


def _texts(batch: Batch) -> tuple[Int[Array, "batch length"], Bool[Array, "batch length"] | None]:
    """The sequences, and what of them is no padding; None where all is."""
    tokens, mask = batch["tokens"], batch.get("token_mask")
    if mask is None:
        return tokens[:, 1:], None
    return tokens[:, tokens.shape[1] - mask.shape[1] :], mask > 0


def _documents(batch: Batch, tokens: Int[Array, "batch length"]) -> dict[str, Any]:
    """What the model must know of packed documents; nothing where there are none."""
    if "segments" not in batch:
        return {}
    return packed_documents(batch["segments"][:, -tokens.shape[1] :])


def _metrics(
    logits: Float[Array, "batch masked vocab_size"],
    targets: Int[Array, "batch masked"],
    chosen: Bool[Array, "batch masked"],
) -> dict[str, Mean]:
    losses = cross_entropy(logits, targets)
    return {
        "loss": mean_of(losses, chosen),
        "perplexity": mean_of(losses, chosen, finish="exp"),
        "accuracy": accuracy(logits, targets, chosen),
    }


def _bracketed(guess: str, truth: str) -> str:
    """In brackets, behind the space that parts it from what is before it."""
    inside = [
        piece if piece == " " else piece.removeprefix(" ").replace("\n", "↵")
        for piece in ((guess,) if guess == truth else (guess, truth))
    ]
    before = " " if truth.startswith(" ") and truth != " " else ""
    return f"{before}[{'→'.join(inside)}]"
