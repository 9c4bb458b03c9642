"""Arrays in NumPy's own files."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, is_compressed, read_bytes
from research.errors import UserError
from research.suggestion import did_you_mean


@dataclass(frozen=True)
class Arrays:
    """Arrays in .npy files (plain, .gz or .xz) or .npz files, whose first axes are the examples.

    `files` says for each entry of a batch where its array is: one path, or several whose arrays
    follow each other. An array of an .npz file is written "folder/file.npz:name".

    Images stay uint8; labels (integers with one axis) and other integers become int32, and
    float64 becomes float32.
    """

    files: dict[str, str | tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.files or not all(self.files.values()):
            raise UserError("Arrays.files must name at least one file for each entry of a batch.")

    def open(self, data_dir: Path) -> Dataset:
        places = {
            name: [
                _place(data_dir, path) for path in ([paths] if isinstance(paths, str) else paths)
            ]
            for name, paths in self.files.items()
        }
        paths = [path for parts in places.values() for path, _ in parts]

        def decode() -> Iterator[dict[str, np.ndarray]]:
            for name, parts in places.items():
                first: np.ndarray | None = None
                for path, member in parts:
                    array = as_model_input(read_array(path, member), path)
                    first = array if first is None else first
                    if (array.dtype, array.shape[1:]) != (first.dtype, first.shape[1:]):
                        raise UserError(
                            f"{path} has items of {array.dtype} {array.shape[1:]}, "
                            f"{parts[0][0]} before it of {first.dtype} {first.shape[1:]}."
                        )
                    yield {name: array}

        # An uncompressed file is memory-mapped as it is.
        keep = worth_keeping(path for path in set(paths) if _is_packed(path))
        arrays = decode_once(paths, repr(self), decode, keep)
        check_lengths(arrays, {name: parts[0][0] for name, parts in places.items()})
        return Dataset(len(next(iter(arrays.values()))), arrays)


def read_array(path: Path, member: str | None = None) -> np.ndarray:
    """The array in an .npy file, or the one called `member` in an .npz file.

    Raises UserError where the file is truncated, corrupt or holds Python objects.
    """
    try:
        if member is not None:
            with np.load(path) as archive:
                if member not in archive.files:
                    raise UserError(
                        f"{path} has no array {member!r}{did_you_mean(member, archive.files)}"
                    )
                return archive[member]
        if is_compressed(path):
            return np.lib.format.read_array(io.BytesIO(read_bytes(path)), allow_pickle=False)
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no valid NumPy file: {error}.") from error


def as_model_input(array: np.ndarray, path: Path | str, is_label: bool = False) -> np.ndarray:
    """The array in a dtype models take; raises UserError where that would change a value.

    uint8 stays for images and becomes int32 for labels (`is_label`, or arrays with one axis).
    """
    is_label = is_label or array.ndim == 1
    if array.dtype.kind == "f":
        return array if array.dtype.itemsize <= 4 else array.astype(np.float32)
    if array.dtype.kind not in "iub":
        raise UserError(f"{path} holds {array.dtype}, where numbers were expected.")
    if array.dtype == np.int32 or (not is_label and array.dtype in (np.uint8, np.bool_)):
        return array
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise UserError(f"{path} holds integers that do not fit in 32 bits.")
    return array.astype(np.int32)


def check_lengths(arrays: Mapping[str, np.ndarray], paths: Mapping[str, Path]) -> None:
    """Raises UserError unless all arrays have equally many items."""
    (first, array), *others = arrays.items()
    if array.ndim == 0:
        raise UserError(f"{paths[first]} holds a single number, not an array of examples.")
    for name, other in others:
        if other.shape[:1] != array.shape[:1]:
            raise UserError(
                f"{paths[first]} has {len(array)} items ({first}) but {paths[name]} has "
                f"{f'{len(other)} items' if other.ndim else 'a single number'} ({name})."
            )


def _place(data_dir: Path, path: str) -> tuple[Path, str | None]:
    file, separator, member = path.rpartition(".npz:")
    if separator:
        return find(data_dir, f"{file}.npz"), member
    if path.endswith(".npz"):
        raise UserError(f"Write {path!r} as '{path}:NAME', with the name of one of its arrays.")
    return find(data_dir, path), None


def _is_packed(path: Path) -> bool:
    return is_compressed(path) or path.suffix == ".npz"
