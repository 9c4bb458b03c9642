"""Linear-chain conditional random field (Lafferty et al., 2001)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class CRF(nn.Module):
    """Scores of sequences of tags: the sum of each tag's logit and of a learned score for each tag
    behind the one before it, at the start and at the end (Lample et al., 2016, equation 1).

    Where `mask` is true there are tags; that is at the beginning of each sequence.
    """

    num_tags: int
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        init, shape = nn.initializers.zeros, (self.num_tags,)
        self.transitions = self.param("transitions", init, 2 * shape, self.param_dtype)
        self.start = self.param("start", init, shape, self.param_dtype)
        self.end = self.param("end", init, shape, self.param_dtype)

    def __call__(
        self,
        logits: Float[Array, "batch length tags"],
        tags: Int[Array, "batch length"],
        mask: Bool[Array, "batch length"],
    ) -> Float[Array, " batch"]:
        """The log-probability of the tags among all sequences of tags, in nats; 0 for none."""
        logits = logits.astype(jnp.float32)
        tags = jnp.where(mask, tags, 0)
        own = jnp.take_along_axis(logits, tags[..., None], -1)[..., 0]
        between = jnp.where(mask[:, 1:], self.transitions[tags[:, :-1], tags[:, 1:]], 0)
        last = jnp.take_along_axis(tags, jnp.maximum(mask.sum(1, keepdims=True) - 1, 0), 1)[:, 0]
        score = jnp.where(mask, own, 0).sum(1) + between.sum(1)
        score += self.start[tags[:, 0]] + self.end[last]

        def advance(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
            logit, is_inside = at
            after = jax.nn.logsumexp(total[:, :, None] + self.transitions, axis=1) + logit
            return jnp.where(is_inside[:, None], after, total), None

        rest = (logits[:, 1:].swapaxes(0, 1), mask[:, 1:].swapaxes(0, 1))
        total, _ = lax.scan(advance, self.start + logits[:, 0], rest)
        return jnp.where(mask[:, 0], score - jax.nn.logsumexp(total + self.end, axis=1), 0)

    def decode(
        self, logits: Float[Array, "batch length tags"], mask: Bool[Array, "batch length"]
    ) -> Int[Array, "batch length"]:
        """The most probable sequence of tags (Viterbi, 1967); anything where `mask` is false."""
        logits = logits.astype(jnp.float32)
        itself = jnp.arange(self.num_tags)

        def advance(best: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            logit, is_inside = at
            scores = best[:, :, None] + self.transitions
            after = jnp.where(is_inside[:, None], scores.max(1) + logit, best)
            return after, jnp.where(is_inside[:, None], scores.argmax(1), itself)

        rest = (logits[:, 1:].swapaxes(0, 1), mask[:, 1:].swapaxes(0, 1))
        best, before = lax.scan(advance, self.start + logits[:, 0], rest)
        last = (best + self.end).argmax(1)

        def go_back(tag: Array, before: Array) -> tuple[Array, Array]:
            previous = jnp.take_along_axis(before, tag[:, None], 1)[:, 0]
            return previous, previous

        _, tags = lax.scan(go_back, last, before, reverse=True)
        return jnp.append(tags.swapaxes(0, 1), last[:, None], axis=1)
