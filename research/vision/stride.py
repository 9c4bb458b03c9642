"""How much a network shrinks images."""

from collections.abc import Sequence
from typing import Any


def check_stride(model: Any, image_shape: Sequence[int], stride: int) -> None:
    """Raises ValueError where images (batch, height, width, channels) have sides shorter than the
    total stride of the model: padded, they would go through, but what its last maps see would be
    padding for the most part."""
    height, width = image_shape[1:3]
    if min(height, width) < stride:
        raise ValueError(
            f"images of {height}×{width} pixels are too small for {type(model).__name__}, which "
            f"shrinks them {stride} times; make them larger (data.augment.Resize), or take a "
            "network that shrinks them less"
        )
