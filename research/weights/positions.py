"""Learned positions of a grid of patches for a grid of another size."""

import math

import jax
import numpy as np
from jaxtyping import Float

from research.errors import UserError


def resize_positions(
    positions: Float[np.ndarray, "positions features"], length: int
) -> Float[np.ndarray, "length features"]:
    """Positions of a square grid, interpolated bicubically (Dosovitskiy et al. 2021, section 3.2).

    What is before the grid, the class token's, stays as it is.

    Raises UserError where either is no square grid with at most one position before it.
    """
    if len(positions) == length:
        return positions
    old_side, new_side = _side(len(positions)), _side(length)
    tokens = len(positions) - old_side**2
    if tokens != length - new_side**2:
        raise UserError(
            f"positions: {len(positions)} in the file and {length} in the model differ in the "
            "class token, not only in the size of the grid"
        )
    grid = positions[tokens:].reshape(old_side, old_side, -1)
    shape = (new_side, new_side, grid.shape[-1])
    resized = np.asarray(jax.image.resize(grid, shape, "bicubic")).astype(positions.dtype)
    return np.concatenate([positions[:tokens], resized.reshape(new_side**2, -1)])


def _side(length: int) -> int:
    for tokens in (0, 1):
        side = math.isqrt(length - tokens)
        if side * side == length - tokens:
            return side
    raise UserError(f"positions: {length} are no square grid")
