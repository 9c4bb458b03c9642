"""How the next token is drawn from a model's logits."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """What is done to the logits before a token is drawn, in this order.

    `repetition_penalty` divides the positive logits of tokens that are there already and
    multiplies the negative ones (Keskar et al., 2019: 1.2). `temperature` divides all, and at 0
    the most likely token is taken. `top_k` keeps the k most likely tokens, `top_p` the most likely
    ones until they have this probability together (Holtzman et al., 2020), and `min_p` those with
    at least this part of the most likely one's (Nguyen et al., 2024).

    Raises UserError for numbers out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UserError(f"temperature = {self.temperature}: must be at least 0 and finite")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k = {self.top_k}: must be at least 1, or none for all tokens")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= 1.0:
                raise UserError(f"{name} = {value}: must be above 0 and at most 1, or none")
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise UserError(
                f"repetition_penalty = {self.repetition_penalty}: must be above 0 and finite; 1 is "
                "none"
            )


def draw(
    keys: PRNGKeyArray,
    logits: Float[Array, "batch vocab_size"],
    seen: Bool[Array, "batch vocab_size"],
    sampling: Sampling,
) -> Int[Array, " batch"]:
    """The next token of each, by a key of its own; `seen` are the tokens that are there already."""
    logits = logits.astype(jnp.float32)
    if sampling.repetition_penalty != 1.0:
        penalty = sampling.repetition_penalty
        penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
        logits = jnp.where(seen, penalised, logits)
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        smallest = lax.top_k(logits, min(sampling.top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    if sampling.top_p is not None:
        logits = _nucleus(logits, sampling.top_p)
    if sampling.min_p is not None:
        likeliest = logits.max(axis=-1, keepdims=True)
        logits = jnp.where(logits < likeliest + jnp.log(sampling.min_p), -jnp.inf, logits)
    noise = jax.vmap(partial(jax.random.gumbel, shape=logits.shape[-1:]))(keys)
    # As `jax.random.categorical`; but fused with the comparison, which goes number by number on a
    # CPU, drawing the noise would, too.
    return jnp.argmax(logits + lax.optimization_barrier(noise), axis=-1)


def _nucleus(logits: Array, top_p: float) -> Array:
    """The fewest of the most likely tokens that have the probability together, and their equals."""
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    smallest = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < smallest, -jnp.inf, logits)
