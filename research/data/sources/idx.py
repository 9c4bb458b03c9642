"""The idx format of MNIST and its relatives."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, is_compressed, read_bytes
from research.data.sources.arrays import as_model_input, check_lengths
from research.errors import UserError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Idx:
    """Images, and labels if given, in idx files (plain, .gz or .xz).

    A batch has image (N, height, width, channels) with a channel axis of 1 where the file has
    three axes, uint8 as a rule, and label int32 (N,).
    """

    images: str
    labels: str | None = None

    def open(self, data_dir: Path) -> Dataset:
        paths = {"image": find(data_dir, self.images)}
        if self.labels is not None:
            paths["label"] = find(data_dir, self.labels)

        def decode() -> Iterator[dict[str, np.ndarray]]:
            arrays = {
                name: as_model_input(read_idx(path), path, name == "label")
                for name, path in paths.items()
            }
            check_lengths(arrays, paths)
            image = arrays["image"]
            yield arrays | {"image": image[..., np.newaxis] if image.ndim == 3 else image}

        keep = worth_keeping(filter(is_compressed, paths.values()))
        arrays = decode_once(list(paths.values()), repr(self), decode, keep)
        return Dataset(len(arrays["image"]), arrays)


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file. Raises UserError where the file is truncated or corrupt."""
    data = read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise UserError(f"{path} is not an idx file: it starts with {data[:4].hex(' ')!r}.")
    dtype, ndim = np.dtype(_DTYPES[data[2]]), data[3]
    start = 4 + 4 * ndim
    if len(data) < start:
        raise UserError(
            f"{path} is truncated: {len(data)} bytes, of which the header takes {start}."
        )
    shape = tuple(np.frombuffer(data, ">u4", ndim, offset=4).tolist())
    expected, found = math.prod(shape) * dtype.itemsize, len(data) - start
    if expected != found:
        of_what = f" of {'x'.join(map(str, shape[1:]))}" if ndim > 1 else ""
        raise UserError(
            f"{path} is {'truncated' if found < expected else 'corrupt'}: the header promises "
            f"{shape[0] if shape else 1} items{of_what} = {expected} bytes, {found} found."
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
