"""Biases of attention by how far a key is from a query (Raffel et al., 2020: T5)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Int


class RelativePositionBias(nn.Module):
    """A number for each head and bucket of distances; parameter `embedding` (num_buckets,
    num_heads).

    Near distances have a bucket each, farther ones up to `max_distance` share buckets that grow
    as the logarithm, and the last one has all beyond. `bidirectional` gives half of them to keys
    behind the query; without, all keys behind it count as at its place.
    """

    num_heads: int
    num_buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = True
    param_dtype: Dtype = jnp.float32
    embedding_init: Initializer = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(
        self,
        query_positions: Int[Array, " queries"],
        key_positions: Int[Array, " keys"],
        use_cache: bool = False,
    ) -> Float[Array, "1 num_heads queries _keys"]:
        """The biases of each pair. With `use_cache` (`nn.attention.MultiHeadAttention`), keys are
        those of the call that made the cache."""
        if use_cache:
            key_positions = self.variable("cache", "key_positions", lambda: key_positions).value
        shape = (self.num_buckets, self.num_heads)
        embedding = self.param("embedding", self.embedding_init, shape, self.param_dtype)
        distances = key_positions - query_positions[:, None]
        buckets = relative_position_buckets(
            distances, self.num_buckets, self.max_distance, self.bidirectional
        )
        return jnp.asarray(embedding)[buckets].transpose(2, 0, 1)[None]


def relative_position_buckets(
    distances: Int[Array, "*shape"], num_buckets: int, max_distance: int, bidirectional: bool
) -> Int[Array, "*shape"]:
    """The bucket of a key so many places behind a query."""
    behind: Any = 0
    if bidirectional:
        num_buckets //= 2
        behind = num_buckets * (distances > 0)
    else:
        distances = jnp.minimum(distances, 0)
    # In float32 as published: next to a limit other precisions may give another bucket.
    exact, far = num_buckets // 2, np.arange(max_distance + 1, dtype=np.float32)
    growth = np.log(np.maximum(far, 1) / np.float32(exact)) / np.float32(
        np.log(max_distance / exact)
    )
    large = exact + (growth * np.float32(num_buckets - exact)).astype(np.int32)
    table = np.where(far < exact, far, np.minimum(large, num_buckets - 1)).astype(np.int32)
    return behind + jnp.asarray(table)[jnp.minimum(jnp.abs(distances), max_distance)]
