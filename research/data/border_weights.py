"""How much each pixel of a segmented image counts, by the class and by the gaps between cells."""

import numpy as np
from jaxtyping import Float32, Int

# Where exp(-d²/2σ²) is nothing beside the weights of the classes.
_REACH = 6


def border_weights(
    labels: Int[np.ndarray, "height width"], border_weight: float, sigma: float
) -> Float32[np.ndarray, "height width"]:
    """w_c(x) + w₀ exp(-(d₁(x) + d₂(x))² / (2σ²)), the second in class 0 only (Ronneberger et al.
    2015, equation 2).

    w_c balances the classes of the map: the number of pixels over that of the pixel's class, scaled
    so that its mean is 1. d₁ and d₂ are the distances, in pixels, to the nearest and the second
    nearest cell, that is to a pixel of it. Cells are the connected regions (by edges, not corners)
    that are not of class 0. With fewer than two cells there are no gaps.
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    counts = np.bincount(labels.ravel())
    balance = labels.size / np.maximum(counts, 1) / np.count_nonzero(counts)
    cells, _ = label(labels > 0)
    nearest = np.full((2, *labels.shape), np.inf)
    reach = int(np.ceil(_REACH * sigma))
    for number, box in enumerate(find_objects(cells), 1):
        near = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        distance = distance_transform_edt(cells[near] != number)
        first, second = nearest[:, *near]
        second[:] = np.minimum(second, np.maximum(first, distance))
        first[:] = np.minimum(first, distance)
    gap = border_weight * np.exp(-(nearest.sum(0) ** 2) / (2 * sigma**2))
    return (balance[labels] + np.where(labels == 0, gap, 0)).astype(np.float32)
