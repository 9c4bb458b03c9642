"""Filters that whiten small patches of images, as first layer of a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from research.data.augment.transform import apply_transforms
from research.data.files import default_data_dir
from research.engine.objective import Objective
from research.errors import UserError

_CHUNK = 500


@dataclass(frozen=True)
class Whitening:
    """Starts the layer `layer` of a run as filters that whiten patches (Jordan 2024, section 3.2).

    The filters are the eigenvectors of the covariance of patches of the first `num_images` images
    of `source`, after `transforms`, each divided by the root of its eigenvalue plus `epsilon`, and
    the same with the other sign. The layer is a convolution with that many outputs: 24 for 2×2
    patches of three channels.
    """

    source: Any
    transforms: tuple[Any, ...] = ()
    layer: str = "whitening"
    num_images: int = 5000
    epsilon: float = 5e-4

    def __call__(
        self, objective: Objective, variables: Mapping[str, jax.ShapeDtypeStruct]
    ) -> Mapping[str, np.ndarray]:
        """The kernel of the layer.

        Raises UserError where the layer is not there, or has another number of outputs.
        """
        path = f"params/{self.layer}/kernel"
        if path not in variables:
            raise UserError(f"init_from.layer = {self.layer!r}: the run has no {path}")
        shape = variables[path].shape
        dataset = self.source.open(default_data_dir())
        rows = np.arange(min(self.num_images, dataset.size))
        batch = dataset.gather(dataset.arrays, rows)
        batch = apply_transforms(self.transforms, jax.random.key(0), batch)
        kernel = whitening_kernel(np.asarray(batch["image"]), shape[:2], self.epsilon)
        if kernel.shape != shape:
            raise UserError(
                f"init_from: {path} has the shape {shape}; whitening filters have {kernel.shape}"
            )
        return {path: kernel}


def whitening_kernel(
    images: Float[np.ndarray, "batch height width channels"],
    size: tuple[int, ...],
    epsilon: float = 5e-4,
) -> Float[np.ndarray, "rows columns channels filters"]:
    """Filters on patches of `size` (rows, columns), from the largest eigenvalue to the least and
    then with the other sign; patches are not centred, as in the paper's program."""
    length = size[0] * size[1] * images.shape[-1]
    total, count = np.zeros((length, length)), 0
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        windows = np.lib.stride_tricks.sliding_window_view(chunk, size, axis=(1, 2))
        patches = np.moveaxis(windows, 3, -1).reshape(-1, length).astype(np.float64)
        total, count = total + patches.T @ patches, count + len(patches)
    covariance = total / count
    values, vectors = np.linalg.eigh(covariance)
    filters = (vectors / np.sqrt(values + epsilon))[:, ::-1]
    kernel = np.concatenate([filters, -filters], axis=1)
    return kernel.reshape(*size, images.shape[-1], -1).astype(np.float32)
