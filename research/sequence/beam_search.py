"""The most likely sequence behind a prompt, as far as a beam finds it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from research.errors import UserError

NextLogits = Callable[
    [Int[Array, "sequences 1"], Int[Array, ""], Any],
    tuple[Float[Array, "sequences vocab_size"], Any],
]
"""From the newest tokens, how many there are before them in what is written, and a cache: the
logits of the next ones, and the cache with these in it."""


@dataclass(frozen=True)
class BeamSearch:
    """How wide a beam is, and how much longer sequences are preferred (`beam_search`).

    Raises UserError for numbers out of range.
    """

    num_beams: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UserError(f"num_beams = {self.num_beams}: must be at least 1")
        if not math.isfinite(self.length_penalty):
            raise UserError(f"length_penalty = {self.length_penalty}: must be finite; 0 is none")


class Beam(NamedTuple):
    """The best sequences, best first, and their scores: log probabilities over the penalty."""

    tokens: Int[Array, "batch num_beams length"]
    scores: Float[Array, "batch num_beams"]


class _State(NamedTuple):
    length: Array
    live: Beam
    finished: Beam
    logits: Array
    cache: Any


def beam_search(
    next_logits: NextLogits,
    logits: Float[Array, "batch vocab_size"],
    cache: Any,
    batch_axes: Any,
    *,
    num_beams: int,
    max_new_tokens: int,
    end_token: Int[Array, ""] | int,
    length_penalty: float = 0.6,
) -> Beam:
    """Extends each example's `num_beams` best sequences until none can become better.

    `logits` are of the first token, `cache` is of one sequence an example, and `batch_axes` says
    which axis of each of its leaves they are along, -1 for none. A sequence of n tokens has its
    log probability divided by ((5 + n) / 6)^length_penalty (Wu et al., 2016, equation 14), so that
    longer ones are not worse for being long; 0 is none. Behind its end a sequence has more of
    `end_token`. Those that do not end within `max_new_tokens` come behind all that do.
    """
    batch_size, vocab_size = logits.shape
    lowest = jnp.finfo(jnp.float32).min

    def each(function: Callable[[Array, int], Array], tree: Any) -> Any:
        """Applies to the leaves that have an axis of sequences."""
        return jax.tree.map(
            lambda leaf, axis: leaf if axis < 0 else function(leaf, axis), tree, batch_axes
        )

    def penalty(length: Any) -> Any:
        return ((5.0 + length) / 6.0) ** length_penalty

    def goes_on(state: _State) -> Array:
        # Log probabilities only fall, and the largest penalty is that of now or of the longest.
        largest = jnp.maximum(penalty(state.length + 1), penalty(max_new_tokens))
        best = state.live.scores[:, 0] / largest
        can_improve = best > state.finished.scores[:, -1]
        return (state.length < max_new_tokens) & can_improve.any()

    def extend(state: _State) -> _State:
        log_probabilities = jax.nn.log_softmax(state.logits.astype(jnp.float32))
        scores = state.live.scores[..., None] + log_probabilities.reshape(
            batch_size, num_beams, vocab_size
        )
        # Of twice as many, half may end and there are still enough that do not.
        scores, places = lax.top_k(scores.reshape(batch_size, -1), 2 * num_beams)
        parents, drawn = places // vocab_size, places % vocab_size
        tokens = jnp.take_along_axis(state.live.tokens, parents[..., None], axis=1)
        tokens = tokens.at[:, :, state.length].set(drawn.astype(tokens.dtype))
        has_ended = drawn == end_token

        going = jnp.where(has_ended, lowest, scores)
        kept = lax.top_k(going, num_beams)[1]
        live = _take(Beam(tokens, going), kept)
        ended = jnp.where(has_ended, scores / penalty(state.length + 1), lowest)
        finished = _best(
            Beam(
                jnp.concatenate([state.finished.tokens, tokens], axis=1),
                jnp.concatenate([state.finished.scores, ended], axis=1),
            ),
            num_beams,
        )
        parents = jnp.take_along_axis(parents, kept, axis=1)
        sequences = (parents + num_beams * jnp.arange(batch_size)[:, None]).reshape(-1)
        cache = each(lambda leaf, axis: jnp.take(leaf, sequences, axis=axis), state.cache)
        newest = live.tokens[:, :, state.length].reshape(-1, 1)
        logits, cache = next_logits(newest, state.length, cache)
        return _State(state.length + 1, live, finished, logits, cache)

    tokens = jnp.full((batch_size, num_beams, max_new_tokens), end_token, jnp.int32)
    nothing = jnp.full((batch_size, num_beams), lowest)
    start = _State(
        length=jnp.asarray(0),
        # All sequences are the same at first: one of them counts.
        live=Beam(tokens, nothing.at[:, 0].set(0.0)),
        finished=Beam(tokens, nothing),
        logits=jnp.repeat(logits, num_beams, axis=0),
        cache=each(partial(_repeat, num_beams), cache),
    )
    end = lax.while_loop(goes_on, extend, start)
    unfinished = end.live._replace(scores=end.live.scores / penalty(max_new_tokens))
    num_finished = (end.finished.scores > lowest).sum(axis=1, keepdims=True)
    place = jnp.arange(num_beams) - num_finished
    other = _take(unfinished, jnp.maximum(place, 0))
    return Beam(
        jnp.where(place[..., None] < 0, end.finished.tokens, other.tokens),
        jnp.where(place < 0, end.finished.scores, other.scores),
    )


def batch_axes(make: Callable[[int], Any]) -> Any:
    """The axis of sequences in each leaf of what `make(batch_size)` makes, -1 for none."""
    one, two = (jax.eval_shape(lambda size=size: make(size)) for size in (1, 2))

    def axis(small: jax.ShapeDtypeStruct, large: jax.ShapeDtypeStruct) -> int:
        differ = [a != b for a, b in zip(small.shape, large.shape, strict=True)]
        return differ.index(True) if any(differ) else -1

    return jax.tree.map(axis, one, two)


def _repeat(count: int, leaf: Array, axis: int) -> Array:
    return jnp.repeat(leaf, count, axis=axis)


def _best(beam: Beam, count: int) -> Beam:
    return _take(beam, lax.top_k(beam.scores, count)[1])


def _take(beam: Beam, places: Array) -> Beam:
    return Beam(
        jnp.take_along_axis(beam.tokens, places[..., None], axis=1),
        jnp.take_along_axis(beam.scores, places, axis=1),
    )
