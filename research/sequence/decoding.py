"""Writing on from prompts, token by token: drawn, or searched for by a beam.

The model is a language model such as `GPT`, or what `translation.conditioned` makes of a
translator. A collection "source" of its variables has a row a prompt, as a batch has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.nn.transformer import unscanned
from research.sequence.beam_search import Beam, BeamSearch, batch_axes, beam_search
from research.sequence.sampling import Sampling, draw


class Writing(NamedTuple):
    """Prompts and what is written behind them so far, `length` tokens of the room that there is.

    `mask` is false for padding of prompts, `seen` true for tokens that are there, `logits` are of
    the next token while the model's cache holds all before it.
    """

    tokens: Int[Array, "batch room"]
    mask: Bool[Array, "batch room"]
    length: Int[Array, ""]
    finished: Bool[Array, " batch"]
    seen: Bool[Array, "batch vocab_size"]
    logits: Float[Array, "batch vocab_size"]
    cache: Any


def write(
    model: Any,
    variables: Mapping[str, Any],
    rng: PRNGKeyArray,
    prompts: Int[Array, "batch prompt_length"],
    *,
    vocab_size: int,
    max_new_tokens: int,
    sampling: Sampling,
    prompt_mask: Bool[Array, "batch prompt_length"] | None = None,
    end_token: int | None = None,
    tokens_at_a_time: int | None = None,
    sample_numbers: Sequence[int] | None = None,
) -> Iterator[Int[np.ndarray, "batch _length"]]:
    """Prompts with the tokens written so far, after every so many, or once with all of them.

    Tokens are below `vocab_size`. Prompts of several lengths are padded on the left, where
    `prompt_mask` is false. Behind an `end_token` there are only more of it, and when all have one,
    that is all. The model keeps what it has seen in a cache; a model with a `block_size` sees that
    many last tokens, at positions from 0. Row i is drawn as sample `sample_numbers[i]`, by default
    i: of one prompt and number it is the same whatever other rows there are.
    """
    model, variables = unscanned(model, variables)
    prompts, prompt_mask = _with_mask(prompts, prompt_mask)
    batch_size, prompt_length = prompts.shape
    room = prompt_length + max_new_tokens
    block_size = getattr(model, "block_size", room)
    size = min(block_size, room)
    numbers = jnp.arange(batch_size) if sample_numbers is None else jnp.asarray(sample_numbers)
    keys = jax.vmap(partial(jax.random.fold_in, rng))(numbers)
    padding = ((0, 0), (0, max_new_tokens))
    writing = Writing(
        tokens=jnp.pad(prompts, padding),
        mask=jnp.pad(prompt_mask, padding, constant_values=True),
        length=jnp.asarray(prompt_length),
        finished=jnp.zeros(batch_size, bool),
        seen=_seen(prompts, prompt_mask, vocab_size),
        logits=jnp.zeros((batch_size, vocab_size)),
        cache={},
    )
    advance = partial(_advance, model, variables, keys, sampling=sampling, end_token=end_token)
    if prompt_length < size:
        logits, cache = _read(model, variables, prompts, prompt_mask, size)
        writing = writing._replace(logits=logits[:, :vocab_size], cache=cache)
    length, step = prompt_length, tokens_at_a_time or room
    while length < room:
        limit = min(length + step, room)
        if length < size:
            limit = min(limit, size)
            writing = advance(writing, limit, window=None)
        else:
            writing = advance(writing._replace(cache={}), limit, window=size)
        length = int(writing.length)
        is_last = length == room or bool(writing.finished.all())
        if tokens_at_a_time is not None or is_last:
            yield np.asarray(writing.tokens)[:, :length]  # on the host: no slice is compiled
        if is_last:
            return


def search(
    model: Any,
    variables: Mapping[str, Any],
    prompts: Int[Array, "batch prompt_length"],
    *,
    vocab_size: int,
    max_new_tokens: int,
    beams: BeamSearch,
    prompt_mask: Bool[Array, "batch prompt_length"] | None = None,
    end_token: int | None = None,
) -> Beam:
    """What is likeliest behind each prompt, best first and without the prompt; arguments as of
    `write`. A model with a `block_size` must have room for the prompts and all new tokens."""
    model, variables = unscanned(model, variables)
    prompts, prompt_mask = _with_mask(prompts, prompt_mask)
    end = -1 if end_token is None else end_token  # -1 is no token
    return _search(model, variables, prompts, prompt_mask, end, vocab_size, max_new_tokens, beams)


@partial(jax.jit, static_argnames=("model", "vocab_size", "max_new_tokens", "beams"))
def _search(
    model: Any,
    variables: Mapping[str, Any],
    prompts: Array,
    prompt_mask: Array,
    end_token: Array,
    vocab_size: int,
    max_new_tokens: int,
    beams: BeamSearch,
) -> Beam:
    room = prompts.shape[1] + max_new_tokens
    repeat = partial(jnp.repeat, repeats=beams.num_beams, axis=0)
    repeated, lengths = _each_row(repeat, variables), repeat(prompt_mask.sum(1, keepdims=True))

    def read(tokens: Array, length: Array, cache: Any) -> tuple[Array, Any]:
        logits, cached = model.apply(
            {**repeated, "cache": cache},
            tokens,
            positions=lengths + length,
            use_cache=True,
            mutable=["cache"],
        )
        return logits[:, -1, :vocab_size], cached["cache"]

    def make(batch_size: int) -> Any:
        rows = _each_row(lambda x: jnp.zeros((batch_size, *x.shape[1:]), x.dtype), variables)
        blank = jnp.zeros((batch_size, room), prompts.dtype)
        return model.apply(rows, blank, use_cache=True, mutable=["cache"])[1]["cache"]

    logits, cache = _read(model, variables, prompts, prompt_mask, room)
    return beam_search(
        read,
        logits[:, :vocab_size],
        cache,
        batch_axes(make),
        num_beams=beams.num_beams,
        max_new_tokens=max_new_tokens,
        end_token=end_token,
        length_penalty=beams.length_penalty,
    )


@partial(jax.jit, static_argnames=("model", "size"))
def _read(
    model: Any,
    variables: Mapping[str, Any],
    prompts: Array,
    prompt_mask: Array,
    size: int,
) -> tuple[Array, Any]:
    """Logits behind the prompts, and a cache with them in it."""
    blank = jnp.zeros((prompts.shape[0], size), prompts.dtype)
    apply = partial(model.apply, use_cache=True, mutable=["cache"])
    _, made = apply(variables, blank)
    positions = _positions(prompt_mask)
    logits, cached = apply(
        {**variables, **made}, prompts, key_mask=prompt_mask, positions=positions
    )
    return logits[:, -1], cached["cache"]


@partial(
    jax.jit,
    static_argnames=("model", "sampling", "end_token", "window"),
    donate_argnames="writing",  # or the whole cache is copied for every token that is streamed
)
def _advance(
    model: Any,
    variables: Mapping[str, Any],
    keys: PRNGKeyArray,
    writing: Writing,
    limit: Array,
    *,
    sampling: Sampling,
    end_token: int | None,
    window: int | None,
) -> Writing:
    """Writes on until there are `limit` tokens or all have ended: from the cache, or from the
    last tokens of a `window`."""
    vocab_size = writing.logits.shape[-1]
    rows = jnp.arange(writing.tokens.shape[0])

    def goes_on(writing: Writing) -> Array:
        return (writing.length < limit) & ~writing.finished.all()

    def append(writing: Writing) -> Writing:
        length, logits = writing.length, writing.logits
        before = jnp.arange(writing.mask.shape[1]) < length
        position = (writing.mask & before).sum(1)
        following: Any
        if window is not None:
            part = partial(
                lax.dynamic_slice_in_dim, start_index=length - window, slice_size=window, axis=1
            )
            mask = part(writing.mask)
            following = model.apply(
                variables, part(writing.tokens), key_mask=mask, positions=_positions(mask)
            )
            logits = following[:, -1, :vocab_size]
        each = jax.vmap(jax.random.fold_in)(keys, position)
        drawn = draw(each, logits, writing.seen, sampling).astype(writing.tokens.dtype)
        finished = writing.finished
        if end_token is not None:
            drawn = jnp.where(finished, end_token, drawn)
            finished = finished | (drawn == end_token)
        tokens = lax.dynamic_update_slice_in_dim(writing.tokens, drawn[:, None], length, axis=1)
        cache = writing.cache
        if window is None:
            following, cached = model.apply(
                {**variables, "cache": cache},
                drawn[:, None],
                positions=position[:, None],
                use_cache=True,
                mutable=["cache"],
            )
            logits, cache = following[:, -1, :vocab_size], cached["cache"]
        return writing._replace(
            tokens=tokens,
            length=length + 1,
            finished=finished,
            seen=writing.seen.at[rows, drawn].set(True),
            logits=logits.astype(writing.logits.dtype),
            cache=cache,
        )

    return lax.while_loop(goes_on, append, writing)


def _with_mask(prompts: Any, mask: Array | None) -> tuple[Array, Array]:
    prompts = jnp.asarray(prompts)
    return prompts, jnp.ones(prompts.shape, bool) if mask is None else jnp.asarray(mask)


def _each_row(function: Callable[[Array], Array], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with the function of what has a row a prompt."""
    rows = {name: tree for name, tree in variables.items() if name == "source"}
    return {**variables, **jax.tree.map(function, rows)}


def _positions(mask: Array) -> Array:
    """Of tokens behind their padding: 0, 1, …"""
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)


def _seen(tokens: Array, mask: Array, vocab_size: int) -> Array:
    """Which tokens there are in each row."""
    rows = jnp.arange(tokens.shape[0])[:, None]
    places = jnp.where(mask, tokens, vocab_size)
    return jnp.zeros((tokens.shape[0], vocab_size), bool).at[rows, places].set(True, mode="drop")
