"""Writing on from prompts, token by token."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.nn.transformer import unscanned
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
    model: nn.Module,
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
) -> Iterator[Int[np.ndarray, "batch _length"]]:
    """Prompts with the tokens written so far, after every so many, or once with all of them.

    Tokens are below `vocab_size`. Prompts of several lengths are padded on the left, where
    `prompt_mask` is false. Behind an `end_token` there are only more of it, and when all have one,
    that is all. The model keeps what it has seen in a cache; a model with a `block_size` sees that
    many last tokens, at positions from 0. Row i is the same however many there are.
    """
    model, variables = unscanned(model, variables)
    prompts = jnp.asarray(prompts)
    batch_size, prompt_length = prompts.shape
    if prompt_mask is None:
        prompt_mask = jnp.ones(prompts.shape, bool)
    room = prompt_length + max_new_tokens
    block_size = getattr(model, "block_size", room)
    size = min(block_size, room)
    keys = jax.vmap(partial(jax.random.fold_in, rng))(jnp.arange(batch_size))
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


@partial(jax.jit, static_argnames=("model", "size"))
def _read(
    model: nn.Module,
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
    model: nn.Module,
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
        each = jax.vmap(lambda key: jax.random.fold_in(key, length))(keys)
        drawn = draw(each, logits, writing.seen, sampling).astype(writing.tokens.dtype)
        finished = writing.finished
        if end_token is not None:
            drawn = jnp.where(finished, end_token, drawn)
            finished = finished | (drawn == end_token)
        tokens = lax.dynamic_update_slice_in_dim(writing.tokens, drawn[:, None], length, axis=1)
        cache = writing.cache
        if window is None:
            before = jnp.arange(writing.mask.shape[1]) < length
            position = (writing.mask & before).sum(1, keepdims=True)
            following, cached = model.apply(
                {**variables, "cache": cache},
                drawn[:, None],
                positions=position,
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


def _positions(mask: Array) -> Array:
    """Of tokens behind their padding: 0, 1, …"""
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)


def _seen(tokens: Array, mask: Array, vocab_size: int) -> Array:
    """Which tokens there are in each row."""
    rows = jnp.arange(tokens.shape[0])[:, None]
    places = jnp.where(mask, tokens, vocab_size)
    return jnp.zeros((tokens.shape[0], vocab_size), bool).at[rows, places].set(True, mode="drop")
