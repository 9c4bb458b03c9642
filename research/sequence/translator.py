"""What all models of two sequences of tokens have."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int


class Translator(nn.Module):
    """An encoder of a source and a decoder of its target; abstract."""

    def __call__(
        self,
        source: Int[Array, "batch source_length"],
        target: Int[Array, "batch length"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits of the target's token after each of its positions, float32; dropout only where
        `train`. Masks are true for tokens that are no padding."""
        memory = self.encode(source, train, source_mask=source_mask)
        return self.decode(target, memory, train, source_mask=source_mask, target_mask=target_mask)

    def encode(
        self,
        source: Int[Array, "batch source_length"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
    ) -> Any:
        """What the decoder needs of the source: arrays whose first axis is the batch."""
        raise NotImplementedError

    def decode(
        self,
        target: Int[Array, "batch length"],
        memory: Any,
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "1 length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits of the token after each position of the target.

        With `use_cache` what was read is kept in the collection "cache", which a call without one
        makes, for as many tokens as its target has; calls with it go on from there, and
        `positions` say where in the target their tokens are.
        """
        raise NotImplementedError
