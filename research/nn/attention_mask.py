"""Which keys a query may attend to."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def attention_mask(
    query_positions: Int[Array, " queries"],
    key_positions: Int[Array, " keys"],
    *,
    causal: bool = False,
    window: int | None = None,
    key_mask: Bool[Array, "batch keys"] | None = None,
) -> Bool[Array, "#batch 1 queries keys"] | None:
    """True where a query may attend to a key; None where all may attend to all.

    `causal`: keys at the query's place and before. `window`: those less than so many places away.
    `key_mask`: true for keys that are no padding.
    """
    masks = []
    distance = query_positions[:, None] - key_positions
    if causal:
        masks.append((distance >= 0)[None])
    if window is not None:
        masks.append((jnp.abs(distance) < window)[None])
    if key_mask is not None:
        masks.append(key_mask[:, None, :])
    if not masks:
        return None
    mask = masks[0]
    for other in masks[1:]:
        mask = mask & other
    return mask[:, None]
