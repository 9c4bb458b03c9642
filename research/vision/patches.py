"""Images as patches side by side."""

from collections.abc import Sequence


def check_patches(image_shape: Sequence[int], patch_size: int) -> None:
    """Raises ValueError where patches do not cover images (batch, height, width, channels)."""
    height, width = image_shape[1:3]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size = {patch_size} must divide the sides of the images, {height}×{width} "
            "pixels; take another, or other images (data.augment.Resize, data.augment.Pad)"
        )
