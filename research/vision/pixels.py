"""Pixels: what is asked of them, and how they are shown."""

from typing import Any

import numpy as np
from jaxtyping import Float

from research.errors import UserError

_AT_ONCE = 1024


def check_finite(images: Any) -> None:
    """Raises UserError where a pixel of floating-point images is NaN or infinite."""
    if images is None or not np.issubdtype(images.dtype, np.floating):
        return
    for start in range(0, len(images), _AT_ONCE):
        part = np.asarray(images[start : start + _AT_ONCE])
        finite = np.isfinite(part).reshape(len(part), -1).all(1)
        if not finite.all():
            raise UserError(
                f"image {start + int(np.argmin(finite))} has pixels that are NaN or infinite; "
                "leave it out of the data, or mend it"
            )


def to_unit_range(images: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Undoes whatever affine normalisation the images went through, up to contrast."""
    low, high = images.min(), images.max()
    return (images - low) / max(high - low, 1e-12)
