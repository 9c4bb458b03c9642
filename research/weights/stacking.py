"""Variables of scanned layers as those of layers side by side, and back."""

import re
from collections.abc import Mapping

import numpy as np

from research.weights.entries import Path

Flat = dict[Path, np.ndarray]


def unstacked(arrays: Mapping[Path, np.ndarray]) -> Flat:
    """Arrays of `blocks` or `stage_0_blocks`, whose leading axis is the layer's, as those of
    `block_0`, `block_1`, … or `stage_0_block_0`, …"""
    flat: Flat = {}
    for path, array in arrays.items():
        place = _place(path)
        if place is None:
            flat[path] = array
            continue
        for i in range(array.shape[0]):
            flat[_with_index(path, place, i)] = array[i]
    return flat


def stacked(arrays: Mapping[Path, np.ndarray], like: Mapping[Path, np.ndarray]) -> Flat:
    """The inverse: arrays with the paths of `like`."""
    flat: Flat = {}
    for path, target in like.items():
        place = _place(path)
        flat[path] = (
            arrays[path]
            if place is None
            else np.stack([arrays[_with_index(path, place, i)] for i in range(target.shape[0])])
        )
    return flat


def _place(path: Path) -> int | None:
    """Where a path names scanned blocks."""
    found = [i for i, part in enumerate(path) if re.fullmatch(r"(\w+_)?blocks", part)]
    return found[0] if found else None


def _with_index(path: Path, place: int, index: int) -> Path:
    return (*path[:place], f"{path[place][:-1]}_{index}", *path[place + 1 :])
