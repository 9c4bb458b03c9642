"""Pictures with a mask each, in two folders or an archive."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

from research.data.border_weights import border_weights
from research.data.cache import decode_once
from research.data.dataset import Dataset
from research.data.files import Place, file_of, find_folder, natural_order
from research.data.pictures import SUFFIXES, decoding
from research.errors import UserError

PAIRS_A_PIECE = 64
_HINT = ' SegmentationFolder.on_corrupt = "skip" leaves such pairs out.'


@dataclass(frozen=True)
class SegmentationFolder:
    """Pictures in one folder and masks of equal names, but for the suffix, in another.

    A folder in an archive is written "archive.zip:folder". Examples are in natural order: 2.png is
    before 10.png. All pictures have one size. A mask is grey, or has a palette whose indices are
    its values; `classes` are these values in the order of the classes. Class 0 is the background.

    With `border_weight`, w₀ of U-Net's loss, which there is 10, a batch has weights that balance
    the classes and are large between cells, as wide as `border_sigma` pixels (`border_weights`).

    With `on_corrupt` "skip" pairs of which one cannot be decoded are left out, and how many is
    said; "stop" refuses them.

    A batch has image uint8 (N, height, width, channels), label int32 (N, height, width) and, with
    a border weight, weight float32 (N, height, width). All is decoded once and kept in the cache.
    """

    images: str
    masks: str
    classes: tuple[int, ...] = (0, 255)
    channels: int = 1
    border_weight: float | None = None
    border_sigma: float = 5.0
    on_corrupt: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(
                f"SegmentationFolder.channels must be 1 (grey) or 3 (colour); got {self.channels}."
            )
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise UserError(
                "SegmentationFolder.classes must be at least two different values of masks; got "
                f"{self.classes}."
            )
        if self.border_weight is not None and self.border_weight < 0:
            raise UserError(
                "SegmentationFolder.border_weight must be at least 0, or None for no weights; got "
                f"{self.border_weight}."
            )
        if self.border_sigma <= 0:
            raise UserError(
                f"SegmentationFolder.border_sigma must be above 0; got {self.border_sigma}."
            )

    def open(self, data_dir: Path) -> Dataset:
        images, masks = _pictures(data_dir, self.images), _pictures(data_dir, self.masks)
        for name in sorted(images.keys() ^ masks.keys(), key=natural_order):
            if name in images:
                raise UserError(f"{images[name]} has no mask {name!r} in {self.masks}.")
            raise UserError(f"{masks[name]} has no picture {name!r} in {self.images}.")
        pairs = [(images[name], masks[name]) for name in sorted(images, key=natural_order)]
        files = sorted({file_of(place) for pair in pairs for place in pair})
        arrays = decode_once(files, repr(self), lambda: self._decode(pairs))
        size = len(arrays["label"])
        if size < len(pairs):
            print(
                f"{self.images}: {len(pairs) - size} of {len(pairs)} pictures or their masks are "
                "corrupt, and left out"
            )
        return Dataset(size, arrays)

    def _decode(self, pairs: Sequence[tuple[Place, Place]]) -> Iterator[dict[str, np.ndarray]]:
        first, size = None, None
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(pairs), PAIRS_A_PIECE):
                piece = pairs[start : start + PAIRS_A_PIECE]
                decoded: list[dict[str, np.ndarray]] = []
                for (place, _), example in zip(piece, pool.map(self._read, piece), strict=True):
                    if example is None:
                        continue
                    if size is None:
                        first, size = place, example["label"].shape
                    if example["label"].shape != size:
                        raise UserError(
                            f"{place} has {_size(example['label'])} pixels, {first} before it "
                            f"{size[0]}×{size[1]}; all pictures must have one size."
                        )
                    decoded.append(example)
                if decoded:
                    yield {name: np.stack([x[name] for x in decoded]) for name in decoded[0]}
        if size is None:
            raise UserError(
                f"{self.images}: of all {len(pairs)} pairs the picture or the mask is corrupt."
            )

    def _read(self, pair: tuple[Place, Place]) -> dict[str, np.ndarray] | None:
        """An example; None where it is corrupt and to be skipped."""
        picture, mask = pair
        try:
            image, values = self._read_image(picture), _read_mask(mask)
        except UserError:
            if self.on_corrupt == "stop":
                raise
            return None
        label = self._label(values, mask)
        if image.shape[:2] != label.shape:
            raise UserError(
                f"{mask} has {_size(label)} pixels, its picture {picture} has {_size(image)}."
            )
        example: dict[str, np.ndarray] = {"image": image, "label": label}
        if self.border_weight is not None:
            example["weight"] = border_weights(label, self.border_weight, self.border_sigma)
        return example

    def _read_image(self, place: Place) -> UInt8[np.ndarray, "height width channels"]:
        from PIL import Image

        with decoding(place, _HINT), place.open("rb") as file, Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB" if self.channels == 3 else "L"), np.uint8)
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def _label(self, values: np.ndarray, place: Place) -> Int[np.ndarray, "height width"]:
        """The classes of a mask's values."""
        if values.ndim != 2:
            raise UserError(
                f"{place} is no mask: it has {values.shape[-1]} channels; masks are grey, or have "
                "a palette."
            )
        label = np.full(values.shape, -1, np.int32)
        for index, value in enumerate(self.classes):
            label[values == value] = index
        if label.min() < 0:
            raise UserError(
                f"{place} has the value {values[label < 0][0]}, which is none of "
                f"SegmentationFolder.classes = {self.classes}."
            )
        return label


def _read_mask(place: Place) -> np.ndarray:
    from PIL import Image

    with decoding(place, _HINT), place.open("rb") as file, Image.open(file) as image:
        # Black and white is 0 and 255, as in grey masks of two classes.
        return np.asarray(image.convert("L") if image.mode == "1" else image)


def _pictures(data_dir: Path, path: str) -> Mapping[str, Place]:
    """The pictures of a folder by name, without suffix; UserError where it has none."""
    folder = find_folder(data_dir, path)
    pictures: dict[str, Place] = {}
    for place in folder.iterdir():
        stem, dot, suffix = place.name.rpartition(".")
        if stem and f"{dot}{suffix}".lower() in SUFFIXES and not stem.startswith("."):
            if stem in pictures:
                raise UserError(f"{folder} has two pictures {stem!r}, of different suffixes.")
            pictures[stem] = place
    if not pictures:
        raise UserError(f"{folder} holds no pictures.")
    return pictures


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}×{pixels.shape[1]}"
