"""Which of two equal implementations of a layer runs."""

from typing import Literal

import jax

Implementation = Literal["auto", "fast", "plain"]
"""`fast` is written for XLA on CPU, `plain` is XLA's own operation; `auto` picks by backend."""


def is_fast(implementation: Implementation) -> bool:
    """Whether the CPU formulation runs; `auto` asks for the default backend when traced.

    Raises ValueError for any other name.
    """
    match implementation:
        case "auto":
            return jax.default_backend() == "cpu"
        case "fast" | "plain":
            return implementation == "fast"
    raise ValueError(f"implementation must be 'auto', 'fast' or 'plain', got {implementation!r}")
