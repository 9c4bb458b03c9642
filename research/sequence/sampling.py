"""Drawing tokens from a language model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray


def sample(
    model: nn.Module,
    variables: Mapping[str, Any],
    rng: PRNGKeyArray,
    prompts: Int[Array, "num_samples length"],
    *,
    vocab_size: int,
    max_new_tokens: int,
    temperature: float | Float[Array, ""] = 1.0,
    top_k: int | None = None,
) -> Int[Array, "num_samples total_length"]:
    """The prompts, each followed by `max_new_tokens` tokens below `vocab_size`.

    The model sees the last `model.block_size` tokens, at positions from 0. `temperature` divides
    the logits, and at 0 the most likely token is taken; `top_k` draws from the k most likely ones.
    """
    greedy = isinstance(temperature, int | float) and temperature == 0
    return _sample(
        model,
        variables,
        rng,
        prompts,
        1.0 if greedy else temperature,
        vocab_size=vocab_size,
        max_new_tokens=max_new_tokens,
        greedy=greedy,
        top_k=top_k,
    )


@partial(jax.jit, static_argnames=("model", "vocab_size", "max_new_tokens", "greedy", "top_k"))
def _sample(
    model: nn.Module,
    variables: Mapping[str, Any],
    rng: PRNGKeyArray,
    prompts: Int[Array, "num_samples length"],
    temperature: Float[Array, ""],
    *,
    vocab_size: int,
    max_new_tokens: int,
    greedy: bool,
    top_k: int | None,
) -> Int[Array, "num_samples total_length"]:
    num_samples, prompt_length = prompts.shape
    total_length = prompt_length + max_new_tokens
    window_size = min(model.block_size, total_length)
    sample_keys = jax.vmap(partial(jax.random.fold_in, rng))(jnp.arange(num_samples))

    def append(tokens: Array, length: Array) -> tuple[Array, None]:
        # Tokens from `length` on are not written yet; a causal model doesn't see them.
        start = jnp.maximum(length - window_size, 0)
        window = lax.dynamic_slice_in_dim(tokens, start, window_size, axis=1)
        logits = model.apply(variables, window, train=False)
        logits = lax.dynamic_index_in_dim(logits, length - 1 - start, axis=1, keepdims=False)
        logits = logits[:, :vocab_size].astype(jnp.float32) / temperature
        if top_k is not None:
            smallest = lax.top_k(logits, min(top_k, vocab_size))[0][:, -1:]
            logits = jnp.where(logits < smallest, -jnp.inf, logits)
        if greedy:
            drawn = jnp.argmax(logits, axis=-1)
        else:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, length))(sample_keys)
            drawn = jax.vmap(jax.random.categorical)(keys, logits)
        drawn = drawn.astype(tokens.dtype)[:, None]
        return lax.dynamic_update_slice_in_dim(tokens, drawn, length, axis=1), None

    tokens = jnp.pad(prompts, ((0, 0), (0, max_new_tokens)))
    tokens, _ = lax.scan(append, tokens, jnp.arange(prompt_length, total_length))
    return tokens
