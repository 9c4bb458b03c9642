"""A translator as a language model of the targets of given sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Bool, Int

from research.sequence.translator import Translator


@dataclass(frozen=True)
class TargetModel:
    """The decoder of a translator, as `decoding` writes with it. The collection "source" of its
    variables is what it needs of each row's source, and which tokens of that are no padding."""

    translator: Translator

    def apply(
        self,
        variables: Mapping[str, Any],
        tokens: Int[Array, "batch length"],
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "batch length"] | None = None,
        **arguments: Any,
    ) -> Any:
        """Logits of the target's token after each of these, as of a Linen module. All rows begin
        with the same token: `key_mask` is not looked at, and all have the positions of the first.
        """
        own = {name: tree for name, tree in variables.items() if name != "source"}
        memory, source_mask = variables["source"]
        return self.translator.apply(
            own,
            tokens,
            memory,
            source_mask=source_mask,
            positions=None if positions is None else positions[:1],
            method="decode",
            **arguments,
        )


def conditioned(
    model: Translator,
    variables: Mapping[str, Any],
    source: Int[Array, "batch source_length"],
    source_mask: Bool[Array, "batch source_length"],
) -> tuple[TargetModel, dict[str, Any]]:
    """What writes the targets of these sources, a row each, and its variables."""
    memory = _encode(model, variables, source, source_mask)
    return TargetModel(model), {**variables, "source": (memory, source_mask)}


@partial(jax.jit, static_argnames="model")
def _encode(
    model: Translator, variables: Mapping[str, Any], source: Array, source_mask: Array
) -> Any:
    return model.apply(variables, source, source_mask=source_mask, method="encode")
