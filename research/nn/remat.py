"""Rematerialisation of blocks by setting."""

from typing import Any

import flax.linen as nn


def apply_block(block: nn.Module, x: Any, train: bool, remat: bool) -> Any:
    """`block(x, train)`; with `remat` the backward pass keeps x only, the rest is recomputed."""

    def apply(block: Any, x: Any) -> Any:
        return block(x, train)

    return (nn.remat(apply) if remat else apply)(block, x)
