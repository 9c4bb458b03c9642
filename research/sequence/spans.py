"""Spans of tags B-X, I-X and O, as the CoNLL shared tasks and seqeval count them: a span begins at
B-X, and at an I-X that goes on with nothing."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Spans(NamedTuple):
    """Where spans begin, where they end, and what each word's type is."""

    starts: Bool[Array, "batch length"]
    ends: Bool[Array, "batch length"]
    types: Int[Array, "batch length"]


def are_of_spans(tags: Sequence[str]) -> bool:
    """Whether all tags are O, B-… or I-…."""
    return all(tag == "O" or tag[:2] in ("B-", "I-") for tag in tags)


def spans_of(places: Int[Array, "batch length"], tags: Sequence[str]) -> Spans:
    """The spans of sequences of tags, given by their places in `tags`; negative ones are O."""
    names = sorted({tag[2:] for tag in tags if tag != "O"})
    types = jnp.asarray([-1 if tag == "O" else names.index(tag[2:]) for tag in tags] + [-1])
    goes_on = jnp.asarray([tag.startswith("I-") for tag in tags] + [False])
    places = jnp.where(places < 0, len(tags), places)
    types, goes_on = types[places], goes_on[places]
    outside = jnp.zeros((len(places), 1), bool)
    joined = goes_on[:, 1:] & (types[:, 1:] == types[:, :-1])
    inside = types >= 0
    starts = inside & ~jnp.concatenate([outside, joined], 1)
    ends = inside & ~jnp.concatenate([joined, outside], 1)
    return Spans(starts, ends, types)


def count_spans(predicted: Spans, true: Spans) -> Float[Array, "batch 3"]:
    """How many spans of each sequence are found with their type, are predicted, and are there."""
    predicted_end, true_end = (_next_end(spans) for spans in (predicted, true))
    found = predicted.starts & true.starts & (predicted.types == true.types)
    found &= predicted_end == true_end
    counts = [x.sum(1) for x in (found, predicted.starts, true.starts)]
    return jnp.stack(counts, 1).astype(jnp.float32)


def bracketed(words: Sequence[str], places: Int[np.ndarray, " length"], tags: Sequence[str]) -> str:
    """A sentence with its spans in brackets: "[PER Ana Paz] reads"."""
    starts, ends, _ = (np.asarray(x)[0] for x in spans_of(jnp.asarray(places)[None], tags))
    shown = [
        f"[{tags[place][2:]} " * bool(start) + word + "]" * bool(end)
        for word, place, start, end in zip(words, places, starts, ends, strict=True)
    ]
    return " ".join(shown)


def _next_end(spans: Spans) -> Int[Array, "batch length"]:
    length = spans.ends.shape[1]
    places = jnp.where(spans.ends, jnp.arange(length), length)
    return lax.cummin(places, axis=1, reverse=True)
