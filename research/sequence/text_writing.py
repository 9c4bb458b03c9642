"""Texts behind prompts: searched for or drawn, cut where they end, and streamed as they grow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.data.tokenizers.base import Ids
from research.errors import UserError
from research.sequence.beam_search import BeamSearch
from research.sequence.decoding import search, write
from research.sequence.sampling import Sampling

STOPPING_TOKENS = 16  # so many are written before a text is looked through for its end
NOT_WHOLE = "\ufffd"  # what is decoded of a character whose last bytes are still to come


@dataclass(frozen=True)
class TextWriter:
    """Writes at most `max_new_tokens` behind prompts, up to the first `end_token` or one of the
    strings in `stop`, neither of which is a part of the text; what a beam finds is cut at a string.
    The prompt is a part of it where `with_prompt`.

    For the model and its variables see `decoding`. Raises UserError for an empty string in `stop`.
    """

    model: Any
    variables: Mapping[str, Any]
    tokenizer: Tokenizer
    decoder: Sampling | BeamSearch
    max_new_tokens: int
    end_token: int | None = None
    stop: Sequence[str] = ()
    with_prompt: bool = True

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens = {self.max_new_tokens}: must be at least 1")
        if "" in self.stop:
            raise UserError("stop: an empty string is everywhere; leave it out")

    def texts(
        self, rng: PRNGKeyArray, prompts: Sequence[Ids], sample_numbers: Sequence[int] | None = None
    ) -> list[str]:
        """The text behind each prompt; for `sample_numbers` see `decoding.write`."""
        if isinstance(self.decoder, BeamSearch):
            tokens, mask = _padded(prompts)
            beam = search(
                self.model,
                self.variables,
                tokens,
                vocab_size=self.tokenizer.vocab_size,
                max_new_tokens=self.max_new_tokens,
                beams=self.decoder,
                prompt_mask=mask,
                end_token=self.end_token,
            )
            best = np.asarray(beam.tokens[:, 0])
            written = [
                self._text(*row) for row in zip(prompts, self._starts(prompts), best, strict=True)
            ]
        else:
            # Only text that has been read can be looked through for its end.
            tokens_at_a_time = STOPPING_TOKENS if self.stop else None
            *_, written = self._drawn(self.decoder, rng, prompts, sample_numbers, tokens_at_a_time)
        return [text for text, _ in written]

    def stream(self, rng: PRNGKeyArray, prompt: Ids) -> Iterator[str]:
        """The text as it is drawn, as far as nothing that follows can change it; at last all."""
        if isinstance(self.decoder, BeamSearch):
            raise UserError("a beam is searched for as a whole: it cannot be streamed")
        (start,), shown, text = self._starts([prompt]), None, ""
        for ((text, has_ended),) in self._drawn(self.decoder, rng, [prompt], None, 1):
            sure = text if has_ended else _undecided_cut(text, self.stop, start)
            if shown is None or (sure != shown and sure.startswith(shown)):
                shown = sure
                yield sure
        if text != shown:
            yield text

    def _drawn(
        self,
        sampling: Sampling,
        rng: PRNGKeyArray,
        prompts: Sequence[Ids],
        sample_numbers: Sequence[int] | None,
        tokens_at_a_time: int | None,
    ) -> Iterator[list[tuple[str, bool]]]:
        """The texts so far, and whether each has ended."""
        tokens, mask = _padded(prompts)
        starts = self._starts(prompts)
        for rows in write(
            self.model,
            self.variables,
            rng,
            tokens,
            vocab_size=self.tokenizer.vocab_size,
            max_new_tokens=self.max_new_tokens,
            sampling=sampling,
            prompt_mask=mask,
            end_token=self.end_token,
            tokens_at_a_time=tokens_at_a_time,
            sample_numbers=sample_numbers,
        ):
            new = rows[:, tokens.shape[1] :]
            written = [self._text(*row) for row in zip(prompts, starts, new, strict=True)]
            yield written
            if all(has_ended for _, has_ended in written):
                return

    def _starts(self, prompts: Sequence[Ids]) -> list[int]:
        """Where each text's new part begins."""
        return [len(self._decoded(prompt, ())) for prompt in prompts]

    def _text(self, prompt: Ids, start: int, new: Int[np.ndarray, " length"]) -> tuple[str, bool]:
        """The text up to its end, and whether it has one."""
        ends = np.flatnonzero(new == self.end_token)
        text = self._decoded(prompt, new[: ends[0]] if ends.size else new)
        # The first that is whole: a longer one around it may not have been written yet.
        found = [
            (place + len(string), place)
            for string in self.stop
            if (place := text.find(string, start)) >= 0
        ]
        return text[: min(found)[1]] if found else text, bool(found) or ends.size > 0

    def _decoded(self, prompt: Ids, new: Ids) -> str:
        return self.tokenizer.decode([*prompt, *new] if self.with_prompt else new)


def choose_decoder(
    default: Sampling | BeamSearch,
    *,
    num_beams: int | None = None,
    length_penalty: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
) -> Sampling | BeamSearch:
    """What texts are decoded by: a beam where one of its options is given, draws where one of
    theirs is, else `default`.

    Raises UserError for options of both, and for those out of range.
    """
    searched = _given(num_beams=num_beams, length_penalty=length_penalty)
    drawn = _given(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    if searched and drawn:
        raise UserError(
            f"{_told(searched)}: a beam is searched for and nothing is drawn, but there is "
            f"{_told(drawn)}; leave one of the two out"
        )
    if drawn:
        return Sampling(**drawn)
    if searched:
        return replace(default if isinstance(default, BeamSearch) else BeamSearch(), **searched)
    return default


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _told(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items())


def _padded(
    prompts: Sequence[Ids],
) -> tuple[Int[Array, "batch length"], Bool[Array, "batch length"]]:
    """Prompts behind their padding, and where they are."""
    shape = len(prompts), max(map(len, prompts))
    tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for row, ids in enumerate(prompts):
        tokens[row, shape[1] - len(ids) :] = ids
        mask[row, shape[1] - len(ids) :] = True
    return jnp.asarray(tokens), jnp.asarray(mask)


def _undecided_cut(text: str, stop: Sequence[str], start: int) -> str:
    """The text without what may be half of a character or the beginning of a stop."""
    text = text.rstrip(NOT_WHOLE)
    new = text[start:]
    begun = [
        length
        for string in stop
        for length in range(1, len(string))
        if new.endswith(string[:length])
    ]
    return text[: len(text) - max(begun, default=0)]
