"""Sequence to sequence: predict each token of a target from a source and the tokens before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.data.tokenizers.base import id_or_none
from research.engine.display import Display, Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.attention_maps import attention_maps, draw_attention
from research.sequence.beam_search import BeamSearch
from research.sequence.sampling import Sampling
from research.sequence.sequence_batch import check_ids
from research.sequence.text_writing import TextWriter, choose_decoder
from research.sequence.translation import conditioned
from research.sequence.translator import Translator

NUM_SHOWN, NUM_MAPS = 8, 4
MAX_NEW_TOKENS = 100


@dataclass(frozen=True)
class SequenceToSequence:
    """The mean cross-entropy of the target's tokens, in nats, with `label_smoothing` (Szegedy et
    al., 2016) in training.

    A batch has `source` and `source_mask`,
    `target` (N, length + 1), all but the last inputs and all but the first targets, and
    `target_mask`, as of `data.sources.TextPairs`. Only text, in `generate` and `show`, needs the
    tokenizers; what begins and ends a target has these names in `target_tokenizer`. It is written
    by a beam of `num_beams`, with `length_penalty` (`beam_search`).
    """

    model: Translator
    source_tokenizer: Tokenizer | None = None
    target_tokenizer: Tokenizer | None = None
    start_token: str = "<s>"
    end_token: str = "</s>"
    label_smoothing: float = 0.0
    num_beams: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(
                f"objective.label_smoothing = {self.label_smoothing}: must be in [0, 1)"
            )
        if self.num_beams < 1:
            raise UserError(f"objective.num_beams = {self.num_beams}: must be at least 1")

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where a tokenizer has more tokens than the model, and for packed documents.
        """
        if "segments" in batch:
            raise UserError(
                "objective: SequenceToSequence takes no segments, and the data has packed "
                "documents; set packed=False in its source"
            )
        for side, size in zip(("source", "target"), self._vocab_sizes(), strict=True):
            tokenizer = getattr(self, f"{side}_tokenizer")
            if tokenizer is not None and tokenizer.vocab_size > size:
                raise UserError(
                    f"objective.{side}_tokenizer has {tokenizer.vocab_size} tokens, and the model "
                    f"{size} for the {side}; it needs at least as many"
                )
        return self.model.init(rng, batch["source"], batch["target"][:, :-1])

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary, or texts are longer
        than the model takes."""
        for side, size in zip(("source", "target"), self._vocab_sizes(), strict=True):
            if side not in arrays:
                continue
            check_ids(
                arrays[side],
                size,
                f"there is a token {{}} in a {side}, but the model has {size} tokens for it",
            )
            length = arrays[side].shape[1] - (side == "target")
            if self._block_size is not None and length > self._block_size:
                raise UserError(
                    f"objective.model.block_size = {self._block_size}: the {side}s have {length} "
                    "tokens; give the model a larger one, or the source a smaller max_length"
                )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the targets of the batch, with perplexity and accuracy."""
        logits, collections = self._logits(
            params,
            collections,
            batch,
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        targets, mask = batch["target"][:, 1:], batch["target_mask"][:, 1:]
        losses = cross_entropy(logits, targets)
        metrics = {
            "perplexity": mean_of(losses, mask, finish="exp"),
            "accuracy": accuracy(logits, targets, mask),
        }
        # Over all tokens alike: the negative mean of their log probabilities.
        even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
        smoothed = (1 - self.label_smoothing) * losses + self.label_smoothing * even
        mean = mean_of(smoothed, mask)
        return mean.total / jnp.maximum(mean.weight, 1.0), Aux(metrics, collections, mean.weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Loss in nats without smoothing, perplexity and accuracy over all targets."""
        logits = self._logits(params, collections, batch, train=False)
        targets, mask = batch["target"][:, 1:], batch["target_mask"][:, 1:]
        if "mask" in batch:
            mask = mask * batch["mask"][:, None]
        losses = cross_entropy(logits, targets)
        return {
            "loss": mean_of(losses, mask),
            "perplexity": mean_of(losses, mask, finish="exp"),
            "accuracy": accuracy(logits, targets, mask),
        }

    def texts(
        self,
        params: Params,
        collections: Collections,
        source: Int[Array, "batch source_length"],
        source_mask: Float[Array, "batch source_length"],
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """The best target of each source, as text, of at most `max_new_tokens`: 100, or as many as
        the model takes.

        Raises UserError without a tokenizer, and where the model takes fewer.
        """
        variables = {"params": params, **collections}
        writer = self._writer(variables, source, source_mask, self._beams, max_new_tokens)
        return writer.texts(jax.random.key(0), self._starts(len(source)))

    def check_new_tokens(self, max_new_tokens: int | None) -> int:
        """How many tokens are written at most: 100 by default, or as many as the model takes.

        Raises UserError where it takes fewer than are asked for.
        """
        room = None if self._block_size is None else self._block_size - 1  # beside the start
        if max_new_tokens is None:
            return MAX_NEW_TOKENS if room is None else min(MAX_NEW_TOKENS, room)
        if max_new_tokens < 1 or (room is not None and max_new_tokens > room):
            most = "" if room is None else f" and at most {room}, as the model's block_size has it"
            raise UserError(f"max_new_tokens = {max_new_tokens}: must be at least 1{most}")
        return max_new_tokens

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str | tuple[str, ...] = "",
        max_new_tokens: int | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        stop: tuple[str, ...] = (),
    ) -> Displays:
        """What becomes of the source `prompt`, a text a line and several prompts one after another:
        the best that the beam finds, or one drawn token by token where `sampling.Sampling` is given
        an option; up to the first of the strings in `stop`. For `max_new_tokens` see `texts`.

        Raises UserError without tokenizers, for lines that cannot be encoded, are empty or longer
        than the model takes, where it takes no `max_new_tokens`, and for options out of range or of
        both decoders.
        """
        decoder = choose_decoder(
            self._beams,
            num_beams=num_beams,
            length_penalty=length_penalty,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        lines = (prompt if isinstance(prompt, str) else "\n".join(prompt)).split("\n")
        variables = {"params": params, **collections}
        writer = self._writer(variables, *self._sources(lines), decoder, max_new_tokens, stop)
        return {"target": Text(writer.texts(rng, self._starts(len(lines))))}

    def stream(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str = "",
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        stop: tuple[str, ...] = (),
    ) -> Iterator[str]:
        """What becomes of a source of one line, as it grows: the most likely token each time, or
        drawn as `generate` does. Each text begins with the one before; errors as of `generate`."""
        sampling = choose_decoder(
            Sampling(temperature=0.0),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        if "\n" in prompt:
            raise UserError(f"prompt = {prompt!r}: one line is streamed at a time")
        variables = {"params": params, **collections}
        writer = self._writer(variables, *self._sources([prompt]), sampling, max_new_tokens, stop)
        (start,) = self._starts(1)
        yield from writer.stream(rng, start)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Sources, their targets and what the model makes of them; the attention to some sources
        while their targets are read, the mean over layers and heads, and each head of the last
        layer for one of them. Nothing without tokenizers."""
        if self.source_tokenizer is None or self.target_tokenizer is None:
            return {}
        tokenizer: Any = self.target_tokenizer
        end = tokenizer.token_id(self.end_token)
        source, source_mask = (batch[name][:NUM_SHOWN] for name in ("source", "source_mask"))
        target = np.asarray(batch["target"][:NUM_SHOWN])
        longest = min(target.shape[1] - 1, self.check_new_tokens(None))
        written = self.texts(params, collections, source, source_mask, longest)
        shown = []
        for tokens, mask, reference, text in zip(
            np.asarray(source), np.asarray(source_mask), target, written, strict=True
        ):
            given = self.source_tokenizer.decode(tokens[mask > 0])
            shown.append(f"{given}\n= {_text(tokenizer, reference[1:], end)}\n> {text}")
        return {"pairs": Text(shown), **self._attention(params, collections, batch)}

    def _attention(self, params: Params, collections: Collections, batch: Batch) -> Displays:
        few = {name: np.asarray(x[:NUM_MAPS]) for name, x in batch.items()}
        maps = np.asarray(
            attention_maps(
                self.model,
                {"params": params, **collections},
                few["source"],
                few["target"][:, :-1],
                few["source_mask"] > 0,
                few["target_mask"][:, :-1] > 0,
            )
        )

        def tokens(side: str, start: int) -> list[list[str]]:
            tokenizer = self._tokenizer(side)
            rows = zip(few[side][:, start:], few[f"{side}_mask"][:, start:] > 0, strict=True)
            return [[tokenizer.decode([token]) for token in row[mask]] for row, mask in rows]

        sources, targets = tokens("source", 0), tokens("target", 1)
        heads = maps[-1, 0]
        displays: dict[str, Display] = {
            "attention": draw_attention(maps.mean((0, 2)), [""] * len(sources), sources, targets)
        }
        if len(heads) > 1:
            titles = [f"head {head}" for head in range(len(heads))]
            displays["attention_heads"] = draw_attention(
                heads, titles, sources[:1] * len(heads), targets[:1] * len(heads)
            )
        return displays

    def _logits(
        self, params: Params, collections: Collections, batch: Batch, **arguments: Any
    ) -> Any:
        return self.model.apply(
            {"params": params, **collections},
            batch["source"],
            batch["target"][:, :-1],
            source_mask=batch["source_mask"] > 0,
            target_mask=batch["target_mask"][:, :-1] > 0,
            **arguments,
        )

    def _sources(
        self, lines: Sequence[str]
    ) -> tuple[Int[Array, "batch source_length"], Float[Array, "batch source_length"]]:
        """Texts as a batch has them, with their mask."""
        tokenizer: Any = self._tokenizer("source")
        end = id_or_none(tokenizer, self.end_token)  # as `data.sources.TextPairs` has it
        rows = []
        for line in lines:
            try:
                ids = list(tokenizer.encode(line))
            except UserError as error:
                raise UserError(f"prompt = {line!r}: {error}") from error
            if not ids:
                raise UserError(f"prompt = {line!r}: has no token; give it at least one")
            ids += [] if end is None else [end]
            if self._block_size is not None and len(ids) > self._block_size:
                raise UserError(
                    f"prompt = {line!r}: has {len(ids)} tokens; the model takes {self._block_size}"
                )
            rows.append(ids)
        source = np.zeros((len(rows), max(map(len, rows))), np.int32)
        mask = np.zeros(source.shape, np.float32)
        for row, ids in enumerate(rows):
            source[row, : len(ids)], mask[row, : len(ids)] = ids, 1.0
        return jnp.asarray(source), jnp.asarray(mask)

    def _writer(
        self,
        variables: Variables,
        source: Int[Array, "batch source_length"],
        source_mask: Float[Array, "batch source_length"],
        decoder: Sampling | BeamSearch,
        max_new_tokens: int | None,
        stop: Sequence[str] = (),
    ) -> TextWriter:
        """What writes the targets of these sources."""
        max_new_tokens = self.check_new_tokens(max_new_tokens)
        tokenizer: Any = self._tokenizer("target")
        model, variables = conditioned(
            self.model, variables, jnp.asarray(source), jnp.asarray(source_mask) > 0
        )
        end = tokenizer.token_id(self.end_token)
        return TextWriter(
            model, variables, tokenizer, decoder, max_new_tokens, end, stop, with_prompt=False
        )

    def _starts(self, count: int) -> list[list[int]]:
        """What so many targets begin with."""
        tokenizer: Any = self._tokenizer("target")
        return [[tokenizer.token_id(self.start_token)]] * count

    @property
    def _beams(self) -> BeamSearch:
        return BeamSearch(self.num_beams, self.length_penalty)

    @property
    def _block_size(self) -> int | None:
        return getattr(self.model, "block_size", None)

    def _vocab_sizes(self) -> tuple[int, int]:
        source = self.model.vocab_size
        return source, getattr(self.model, "target_vocab_size", None) or source

    def _tokenizer(self, side: str) -> Tokenizer:
        tokenizer = getattr(self, f"{side}_tokenizer")
        if tokenizer is None:
            raise UserError(
                f"objective.{side}_tokenizer: missing; text can't be made from tokens without the "
                "data's"
            )
        return tokenizer


def _text(tokenizer: Any, tokens: np.ndarray, end: int) -> str:
    """The text before the first end."""
    ends = np.flatnonzero(tokens == end)
    return tokenizer.decode(tokens[: ends[0]] if ends.size else tokens)
