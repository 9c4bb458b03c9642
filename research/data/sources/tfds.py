"""TensorFlow Datasets, read without TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.cache import decode_once
from research.data.dataset import Dataset
from research.data.sources.arrays import as_model_input
from research.data.sources.image_folder import square
from research.errors import UserError
from research.suggestion import did_you_mean

EXAMPLES_A_PIECE = 512


@dataclass(frozen=True)
class Tfds:
    """A data set prepared by TFDS as ArrayRecord below `folder`, such as "mnist" or "glue/sst2".

    `split` is in TFDS's own language: "train", "train[:90%]". `keys` are the features a batch
    has. Images of different shapes need a `size`: the shorter side is scaled to it and the centre
    cut out. Examples are decoded once and kept in the cache; `keep_decoded=False` decodes them
    whenever they are needed, for sets too large to keep.

    Dtypes are as in `Arrays`: image uint8 (N, height, width, channels), label int32 (N,).
    """

    dataset: str
    split: str
    keys: tuple[str, ...] = ("image", "label")
    size: int | None = None
    folder: str = "tfds"
    keep_decoded: bool = True

    def open(self, data_dir: Path) -> Dataset:
        examples = self._data_source(data_dir.expanduser() / Path(self.folder).expanduser())
        read = Examples(examples, tuple(self.keys), self.size, f"{self.dataset} ({self.split})")
        if not self.keep_decoded:
            return Dataset(len(examples), {}, read, on_device=False)

        def decode() -> Iterator[Mapping[str, np.ndarray]]:
            for start in range(0, len(examples), EXAMPLES_A_PIECE):
                stop = min(start + EXAMPLES_A_PIECE, len(examples))
                yield read({}, np.arange(start, stop))

        root = Path(examples.dataset_info.data_dir)
        files = sorted(path for path in root.iterdir() if path.is_file())
        return Dataset(len(examples), decode_once(files, repr(self), decode))

    def _data_source(self, folder: Path) -> Any:
        from tensorflow_datasets.core.read_only_builder import builder_from_files
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        prepare = (
            "Prepare it with TensorFlow: pip install '.[tfds]' && tfds build "
            f"{self.dataset} --data_dir {folder} --file_format array_record"
        )
        try:
            builder: Any = builder_from_files(self.dataset, data_dir=str(folder))
        except DatasetNotFoundError as error:
            known = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            raise UserError(
                f"The TFDS data set {self.dataset!r} is not in {folder}"
                f"{did_you_mean(self.dataset, known)}\n{prepare}"
            ) from error
        if self.split.partition("[")[0] not in builder.info.splits:
            raise UserError(
                f"{self.dataset} has no split {self.split!r}; it has "
                f"{', '.join(builder.info.splits)}."
            )
        try:
            source = builder.as_data_source(self.split)
        except (NotImplementedError, FileNotFoundError) as error:
            raise UserError(
                f"The TFDS data set in {builder.data_dir} is not complete as ArrayRecord. {prepare}"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.dataset}, split {self.split!r}: {error}") from error
        for key in self.keys:
            if key not in builder.info.features:
                raise UserError(
                    f"{self.dataset} has no feature {key!r}; it has "
                    f"{', '.join(builder.info.features)}."
                )
        return source


@dataclass(frozen=True)
class Examples:
    """Gathers examples of a random-access TFDS data source, decoding them."""

    examples: Any
    keys: tuple[str, ...]
    size: int | None
    description: str

    def __call__(
        self, arrays: Mapping[str, Any], indices: Int[np.ndarray, " batch"]
    ) -> dict[str, np.ndarray]:
        try:
            rows = self.examples.__getitems__([int(index) for index in indices])
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.description} cannot be read: {error}") from error
        return {key: self._stack(key, [row[key] for row in rows]) for key in self.keys}

    def _stack(self, key: str, values: Sequence[Any]) -> np.ndarray:
        arrays = [np.asarray(value) for value in values]
        if self.size is not None and arrays[0].ndim == 3:
            arrays = [_square(array, self.size) for array in arrays]
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise UserError(
                f"{self.description}: {key!r} has different shapes, such as {shapes[0]} and "
                f"{shapes[-1]}. Images can be brought to one by Tfds.size."
            )
        stacked = np.stack(arrays)
        return as_model_input(stacked, f"{self.description}, {key!r}", stacked.ndim == 1)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    return square(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), size)
