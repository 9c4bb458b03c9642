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
from research.data.sources.documents import Document
from research.data.sources.image_folder import Resize, check_resize, square
from research.errors import UserError
from research.suggestion import did_you_mean

EXAMPLES_A_PIECE = 512
EXAMPLES_AT_ONCE = 32


@dataclass(frozen=True)
class Tfds:
    """A data set prepared by TFDS as ArrayRecord below `folder`, such as "mnist" or "glue/sst2".

    `split` is in TFDS's own language: "train", "train[:90%]". `keys` are the features a batch
    has. Images of different shapes need a `size`: with `resize` "crop" the shorter side is scaled
    to it and the centre cut out; "stretch" scales all of the image to a square, for
    `augment.RandomResizedCrop`, which knows by its `aspect_ratio` what it was. Examples are decoded
    once and kept in the cache; `keep_decoded=False` decodes them whenever they are needed, for sets
    too large to keep. Of these there is one array, by which objectives check them: `num_classes`,
    a number, where TFDS knows that of the feature "label".

    Dtypes are as in `Arrays`: image uint8 (N, height, width, channels), label int32 (N,). Where
    images are stretched a batch also has aspect_ratio float32 (N,), the width by the height of the
    first of `keys` that is an image.
    """

    dataset: str
    split: str
    keys: tuple[str, ...] = ("image", "label")
    size: int | None = None
    resize: Resize = "crop"
    folder: str = "tfds"
    keep_decoded: bool = True

    def __post_init__(self) -> None:
        check_resize("Tfds", self.resize)
        if self.resize == "stretch" and self.size is None:
            raise UserError('Tfds.resize = "stretch" needs Tfds.size.')

    def open(self, data_dir: Path) -> Dataset:
        examples = self._data_source(data_dir.expanduser() / Path(self.folder).expanduser())
        description = f"{self.dataset} ({self.split})"
        read = Examples(examples, tuple(self.keys), self.size, self.resize, description)
        if not self.keep_decoded:
            return Dataset(len(examples), self._known(examples), read, on_device=False)

        def decode() -> Iterator[Mapping[str, np.ndarray]]:
            for start in range(0, len(examples), EXAMPLES_A_PIECE):
                stop = min(start + EXAMPLES_A_PIECE, len(examples))
                yield read({}, np.arange(start, stop))

        return Dataset(len(examples), decode_once(_files(examples), repr(self), decode))

    def files(self, data_dir: Path) -> list[Path]:
        """All files of the data set."""
        return _files(self._data_source(data_dir.expanduser() / Path(self.folder).expanduser()))

    def documents(self, data_dir: Path) -> Iterator[Document]:
        """The texts of the one feature in `keys`, for `TokenCorpus`.

        Raises UserError for several keys, and for what is no text, with the example's place.
        """
        if len(self.keys) != 1:
            raise UserError(
                f"Tfds.keys = {self.keys}: the documents of a corpus are of one, such as ('text',)."
            )
        (key,) = self.keys
        examples = self._data_source(data_dir.expanduser() / Path(self.folder).expanduser())
        description = f"{self.dataset} ({self.split})"
        read = Examples(examples, (key,), None, self.resize, description)
        size = len(examples)
        for place, example in enumerate(read.decoded(range(size))):
            text, where = example[key], f"{description}, example {place}"
            if not isinstance(text, str | bytes):
                raise UserError(f"{where}: {key!r} is {type(text).__name__}, not text.")
            try:
                text = text.decode("utf-8") if isinstance(text, bytes) else text
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{where} is not UTF-8 text: byte {error.start} of {key!r} is "
                    f"0x{error.object[error.start]:02x}."
                ) from error
            yield Document(text, where, place / size)

    def _known(self, examples: Any) -> dict[str, np.ndarray]:
        """What can be said of the examples without decoding them."""
        feature = examples.dataset_info.features["label"] if "label" in self.keys else None
        num_classes: int | None = getattr(feature, "num_classes", None)
        return {} if num_classes is None else {"num_classes": np.asarray(num_classes)}

    def _data_source(self, folder: Path) -> Any:
        from tensorflow_datasets.core.read_only_builder import builder_from_files
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        try:
            builder: Any = builder_from_files(self.dataset, data_dir=str(folder))
        except DatasetNotFoundError as error:
            known = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            raise UserError(
                f"The TFDS data set {self.dataset!r} is not in {folder}"
                f"{did_you_mean(self.dataset, known)}\n{_preparation(self.dataset, folder)}"
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
                f"The TFDS data set in {builder.data_dir} is not complete as ArrayRecord.\n"
                f"{_preparation(self.dataset, folder)}"
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


def _files(examples: Any) -> list[Path]:
    root = Path(examples.dataset_info.data_dir)
    return sorted(path for path in root.iterdir() if path.is_file())


def _preparation(dataset: str, folder: Path) -> str:
    """How to prepare a data set, and what TFDS cannot fetch by itself."""
    from tensorflow_datasets.core.load import builder_cls

    command = (
        f"Prepare it with TensorFlow: pip install '.[tfds]' && tfds build {dataset} "
        f"--data_dir {folder} --file_format array_record"
    )
    try:
        by_hand = builder_cls(dataset.partition("/")[0]).MANUAL_DOWNLOAD_INSTRUCTIONS
    except Exception:  # none of TFDS's own, or one that cannot be imported without TensorFlow
        by_hand = None
    if not by_hand:
        return command
    manual_dir = folder / "downloads" / "manual"
    return (
        f"{command} --manual_dir {manual_dir}\n"
        f"TFDS cannot fetch all of it: {' '.join(by_hand.split())}"
    )


@dataclass(frozen=True)
class Examples:
    """Gathers examples of a random-access TFDS data source, decoding them."""

    examples: Any
    keys: tuple[str, ...]
    size: int | None
    resize: Resize
    description: str

    def __call__(
        self, arrays: Mapping[str, Any], indices: Int[np.ndarray, " batch"]
    ) -> dict[str, np.ndarray]:
        rows = [self._row(example) for example in self.decoded(indices)]
        return {name: self._stack(name, [row[name] for row in rows]) for name in rows[0]}

    def decoded(self, indices: Any) -> Iterator[Mapping[str, Any]]:
        """The decoded examples; a few at a time, since images may be much larger than `size`."""
        for start in range(0, len(indices), EXAMPLES_AT_ONCE):
            part = indices[start : start + EXAMPLES_AT_ONCE]
            try:
                yield from self.examples.__getitems__([int(index) for index in part])
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(f"{self.description} cannot be read: {error}") from error

    def _row(self, example: Mapping[str, Any]) -> dict[str, np.ndarray]:
        row = {key: np.asarray(example[key]) for key in self.keys}
        if self.size is None:
            return row
        images = {key: value for key, value in row.items() if value.ndim == 3}
        row |= {key: _square(image, self.size, self.resize) for key, image in images.items()}
        if images and self.resize == "stretch":
            height, width, _ = next(iter(images.values())).shape
            row["aspect_ratio"] = np.asarray(width / height, np.float32)
        return row

    def _stack(self, key: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise UserError(
                f"{self.description}: {key!r} has different shapes, such as {shapes[0]} and "
                f"{shapes[-1]}. Images can be brought to one by Tfds.size."
            )
        stacked = np.stack(arrays)
        return as_model_input(stacked, f"{self.description}, {key!r}", stacked.ndim == 1)


def _square(image: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return square(picture, size, resize)
