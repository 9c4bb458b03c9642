"""Variables of scanned layers as those of layers side by side, and back."""

from collections.abc import Mapping

import numpy as np

from research.engine.stacking import layer_paths
from research.weights.entries import Path

Flat = dict[Path, np.ndarray]


def unstacked(arrays: Mapping[Path, np.ndarray]) -> Flat:
    """Arrays of `blocks` or `stage_0_blocks`, whose leading axis is the layer's, as those of
    `block_0`, `block_1`, … or `stage_0_block_0`, …"""
    flat: Flat = {}
    for path, array in arrays.items():
        layers = _layers(path, array)
        flat |= dict(zip(layers, array, strict=True)) if layers else {path: array}
    return flat


def stacked(arrays: Mapping[Path, np.ndarray], like: Mapping[Path, np.ndarray]) -> Flat:
    """The inverse: arrays with the paths of `like`."""
    flat: Flat = {}
    for path, target in like.items():
        layers = _layers(path, target)
        flat[path] = np.stack([arrays[layer] for layer in layers]) if layers else arrays[path]
    return flat


def _layers(path: Path, array: np.ndarray) -> list[Path]:
    """The paths of the layers in a stacked array; none of another."""
    return layer_paths(path, array.shape[0] if array.ndim else 0)
