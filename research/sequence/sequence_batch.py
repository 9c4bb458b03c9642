"""Batches of sequences, of tokens or of vectors, and what a model makes of one."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.engine.objective import Batch, Collections, Params, Variables
from research.errors import UserError

CHECKED_TOKENS = 10_000_000  # the first ones: a corpus may be too large to read through

Sequences = Int[Array, "batch length"] | Float[Array, "batch length features"]


def sequences_of(batch: Batch) -> tuple[Sequences, Bool[Array, "batch length"] | None]:
    """A batch's `tokens`, else its `inputs`, and what of them is no padding by `token_mask` or
    `input_mask`; None where all is."""
    name = "token" if "tokens" in batch else "input"
    mask = batch.get(f"{name}_mask")
    return batch[f"{name}s"], None if mask is None else mask > 0


def initialise(model: nn.Module, rng: PRNGKeyArray, batch: Batch) -> Variables:
    """The model's variables. Raises UserError where the sequences are longer than it takes."""
    sequences, mask = sequences_of(batch)
    length = sequences.shape[1]
    if length > getattr(model, "block_size", length):
        raise UserError(
            f"the model has block_size = {model.block_size}: the data's sequences have {length} "
            "positions; cut them, or let the model take more"
        )
    if "token_types" in batch and "token_types" not in signature(type(model).__call__).parameters:
        raise UserError(
            f"the data has pairs of texts, and {type(model).__name__} takes no token_types, which "
            "tell them apart; sequence.BERTClassifier does"
        )
    return model.init(rng, sequences, train=False, mask=mask, **_token_types(batch))


def outputs_of(
    model: nn.Module, params: Params, collections: Collections, batch: Batch
) -> Float[Array, "batch ..."]:
    """What `model(sequences, train, mask=mask)` gives in evaluation mode, in float32; where the
    batch has `token_types`, the model is given those, too."""
    sequences, mask = sequences_of(batch)
    outputs: Any = model.apply(
        {"params": params, **collections}, sequences, train=False, mask=mask, **_token_types(batch)
    )
    return outputs.astype(jnp.float32)


def training_outputs_of(
    model: nn.Module, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
) -> tuple[Float[Array, "batch ..."], Collections]:
    """What it gives in training, in float32, and the collections that changed."""
    sequences, mask = sequences_of(batch)
    outputs, collections = model.apply(
        {"params": params, **collections},
        sequences,
        train=True,
        mask=mask,
        mutable=list(collections),
        rngs={"dropout": rng},
        **_token_types(batch),
    )
    return outputs.astype(jnp.float32), collections


def _token_types(batch: Batch) -> dict[str, Any]:
    return {name: batch[name] for name in ("token_types",) if name in batch}


def check_segments(batch: Batch, model: nn.Module) -> None:
    """Raises UserError where the batch has packed documents and the model takes no segments."""
    if "segments" in batch and "segments" not in signature(model.__call__).parameters:
        raise UserError(
            f"objective.model: {type(model).__name__} takes no segments, and the data has packed "
            "documents; set packed=False in its source"
        )


def packed_documents(segments: Int[Array, "batch length"]) -> dict[str, Int[Array, "batch length"]]:
    """What a model must know of documents that are packed into rows: their `segments`, and
    `positions` that begin at 0 in each."""
    places = jnp.arange(segments.shape[1])[None]
    is_first = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    starts = lax.cummax(jnp.where(is_first, places, 0), axis=1)
    return {"segments": segments, "positions": places - starts}


def check_tokens(
    arrays: Mapping[str, Any], model: nn.Module, at_most: int | None = CHECKED_TOKENS
) -> None:
    """Raises UserError where a token, of the first `at_most`, is none of the model's vocabulary."""
    vocab_size = getattr(model, "vocab_size", None)
    if "tokens" in arrays and vocab_size is not None:
        check_ids(
            arrays["tokens"],
            vocab_size,
            f"there is a token {{}}, but the model has objective.model.vocab_size = {vocab_size}",
            at_most=at_most,
        )


def check_ids(
    ids: Any,
    size: int,
    complaint: str,
    *,
    lowest: int = 0,
    row: str = "example",
    at_most: int | None = None,
) -> None:
    """Raises UserError where one of these ids is not in [lowest, size).

    The `complaint` has a pair of braces for the first one; its place follows, in which `row` and
    position of a matrix of ids. Only the first `at_most` are looked at.
    """
    flat = np.ravel(ids)[:at_most]
    if not flat.size or (flat.min() >= lowest and flat.max() < size):
        return
    first = np.flatnonzero((flat < lowest) | (flat >= size))[0]
    *rows, position = np.unravel_index(first, np.shape(ids))
    place = f"position {position}" + "".join(f" of {row} {number}" for number in rows[:1])
    raise UserError(f"{complaint.format(flat[first])}; the first such one is at {place}")
