"""What a model of two sequences makes of a source."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from research.sequence.beam_search import Beam, batch_axes, beam_search
from research.sequence.translator import Translator


@partial(jax.jit, static_argnames=("model", "vocab_size", "num_beams", "max_new_tokens"))
def translate(
    model: Translator,
    variables: Mapping[str, Any],
    source: Int[Array, "batch source_length"],
    source_mask: Bool[Array, "batch source_length"],
    *,
    vocab_size: int | None = None,
    start_token: Int[Array, ""] | int,
    end_token: Int[Array, ""] | int,
    num_beams: int,
    max_new_tokens: int,
    length_penalty: float = 0.6,
) -> Beam:
    """The best targets of each source, best first: greedy with one beam. `vocab_size` is the number
    of the model's tokens that may be written, where it has more than the tokenizer.

    For the scores see `beam_search`.
    """
    memory = model.apply(variables, source, source_mask=source_mask, method="encode")
    room = max_new_tokens + 1

    def make(memory: Any, mask: Any) -> Any:
        blank = jnp.zeros((mask.shape[0], room), jnp.int32)
        decode = partial(model.apply, variables, blank, memory, source_mask=mask, method="decode")
        return decode(use_cache=True, mutable=["cache"])[1]["cache"]

    def abstract(batch_size: int) -> Any:
        like = jax.tree.map(
            lambda x: jnp.zeros((batch_size, *x.shape[1:]), x.dtype), (memory, source_mask)
        )
        return make(*like)

    def read(tokens: Any, place: Any, cache: Any, memory: Any, mask: Any) -> Any:
        logits, cached = model.apply(
            {**variables, "cache": cache},
            tokens,
            memory,
            source_mask=mask,
            positions=jnp.full((1, 1), place),
            use_cache=True,
            mutable=["cache"],
            method="decode",
        )
        logits = logits[:, -1]
        if vocab_size is not None:
            unknown = jnp.arange(logits.shape[-1]) >= vocab_size
            logits = jnp.where(unknown, jnp.finfo(logits.dtype).min, logits)
        return logits, cached["cache"]

    start = jnp.full((source.shape[0], 1), start_token)
    logits, cache = read(start, 0, make(memory, source_mask), memory, source_mask)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, num_beams, axis=0), (memory, source_mask))
    return beam_search(
        lambda tokens, length, cache: read(tokens, length + 1, cache, *repeated),
        logits,
        cache,
        batch_axes(abstract),
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        end_token=end_token,
        length_penalty=length_penalty,
    )
