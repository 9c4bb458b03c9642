"""What transforms ask of their settings and of the images they are given."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

# What is outside an image: 0, the image mirrored at its outermost pixels, or those pixels.
PadMode = Literal["constant", "reflect", "edge"]
PAD_MODES = ("constant", "reflect", "edge")


def check_range(field: str, value: float, low: float, high: float | None = None) -> None:
    """Raises ValueError unless low <= value <= high (no upper limit where it is None)."""
    if not low <= value or (high is not None and not value <= high):
        allowed = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{field} must be {allowed}, got {value}")


def check_positive(field: str, value: float) -> None:
    """Raises ValueError unless value > 0."""
    if not value > 0:
        raise ValueError(f"{field} must be above 0, got {value}")


def check_interval(
    field: str, interval: tuple[float, float], low: float, high: float | None = None
) -> None:
    """Raises ValueError unless interval is (from, to) in order, both within [low, high]."""
    for value in interval:
        check_range(field, value, low, high)
    if len(interval) != 2 or interval[0] > interval[1]:
        raise ValueError(f"{field} must be (smallest, largest), got {interval}")


def check_size(field: str, size: Sequence[int]) -> None:
    """Raises ValueError unless size is (height, width), both positive."""
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"{field} must be (height, width) of at least 1, got {tuple(size)}")


def check_mode(mode: str) -> None:
    """Raises ValueError unless mode is one of PAD_MODES."""
    if mode not in PAD_MODES:
        raise ValueError(f"mode must be one of {PAD_MODES}, got {mode!r}")


def require_images(transform: object, image: jax.Array) -> None:
    """Raises ValueError unless image is (batch, height, width, channels)."""
    if image.ndim != 4:
        raise ValueError(
            f"{type(transform).__name__} takes images (batch, height, width, channels), "
            f"got shape {image.shape}"
        )


def require_float(transform: object, image: jax.Array) -> None:
    """Raises ValueError unless image is floating point."""
    require_images(transform, image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"{type(transform).__name__} takes floating-point images, got {image.dtype}: "
            "put data.augment.ToFloat before it"
        )


def require_colour(transform: object, image: jax.Array, why: str) -> None:
    """Raises ValueError unless image is floating point with three channels."""
    require_float(transform, image)
    if image.shape[-1] != 3:
        raise ValueError(
            f"{type(transform).__name__} {why} takes RGB images, got {image.shape[-1]} channel(s)"
        )


def require_class_labels(transform: object, label: jax.Array) -> None:
    """Raises ValueError unless label has one class an example."""
    if label.ndim != 1:
        raise ValueError(
            f"{type(transform).__name__} mixes one class an example, got labels of shape "
            f"{label.shape}: leave it out where labels are maps"
        )
