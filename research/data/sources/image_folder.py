"""Pictures in one folder a class."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from research.data.cache import decode_once
from research.data.dataset import Dataset
from research.data.files import find
from research.data.pictures import SUFFIXES, decoding
from research.errors import UserError
from research.suggestion import did_you_mean

IMAGES_A_PIECE = 512
Resize = Literal["crop", "stretch"]
Square = tuple[UInt8[np.ndarray, "size size channels"], float]
_HINT = ' ImageFolder.on_corrupt = "skip" leaves such pictures out.'


@dataclass(frozen=True)
class ImageFolder:
    """Pictures `folder`/CLASS/*.png (jpg, …) as squares of `size` pixels.

    With `resize` "crop" a picture is scaled so that its shorter side is `size`, bilinearly with
    antialiasing, and the centre is cut out. "stretch" scales all of it to the square, for
    `augment.RandomResizedCrop`, which knows by its `aspect_ratio` what it was.

    The classes are the subfolders in sorted order, or `classes` in its order. Pictures are decoded
    once and kept in the cache. With `on_corrupt` "skip" those that cannot be decoded are left out,
    and how many is said; "stop" refuses them.

    A batch has image uint8 (N, size, size, channels) and label int32 (N,); where it is stretched
    also aspect_ratio float32 (N,), the width by the height of the picture.
    """

    folder: str
    size: int
    classes: tuple[str, ...] | None = None
    channels: int = 3
    resize: Resize = "crop"
    on_corrupt: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"ImageFolder.size must be at least 1; got {self.size}.")
        check_resize("ImageFolder", self.resize)
        if self.channels not in (1, 3):
            raise UserError(
                f"ImageFolder.channels must be 1 (grey) or 3 (colour); got {self.channels}."
            )

    def open(self, data_dir: Path) -> Dataset:
        folder = find(data_dir, self.folder)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.")
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        classes = found if self.classes is None else list(self.classes)
        for name in classes:
            if name not in found:
                raise UserError(f"{folder} has no folder {name!r}{did_you_mean(name, found)}")
        paths = [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        if not paths:
            raise UserError(f"{folder} holds no pictures: they are expected as CLASS/NAME.png.")
        arrays = decode_once(
            [path for path, _ in paths], f"{self!r} {classes}", lambda: self._decode(paths)
        )
        size = len(arrays["label"])
        if size < len(paths):
            print(
                f"{folder}: {len(paths) - size} of {len(paths)} pictures are corrupt, and left out"
            )
        if size == 0:
            raise UserError(f"{folder}: all {len(paths)} pictures are corrupt.")
        return Dataset(size, arrays)

    def _decode(self, paths: list[tuple[Path, int]]) -> Iterator[dict[str, np.ndarray]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), IMAGES_A_PIECE):
                piece = paths[start : start + IMAGES_A_PIECE]
                squares = pool.map(self._read_or_skip, (path for path, _ in piece))
                pairs = zip(squares, (label for _, label in piece), strict=True)
                kept = [(*square, label) for square, label in pairs if square is not None]
                images, aspect_ratios, labels = zip(*kept, strict=True) if kept else ((), (), ())
                shape = (len(kept), self.size, self.size, self.channels)
                arrays = {
                    "image": np.asarray(images, np.uint8).reshape(shape),
                    "label": np.asarray(labels, np.int32),
                }
                if self.resize == "stretch":
                    arrays["aspect_ratio"] = np.asarray(aspect_ratios, np.float32)
                yield arrays

    def _read_or_skip(self, path: Path) -> Square | None:
        try:
            return self._read(path)
        except UserError:
            if self.on_corrupt == "stop":
                raise
            return None

    def _read(self, path: Path) -> Square:
        """A picture's pixels, and its width by its height."""
        from PIL import Image

        with decoding(path, _HINT), Image.open(path) as image:
            converted = image.convert("RGB" if self.channels == 3 else "L")
            return square(converted, self.size, self.resize), image.width / image.height


def check_resize(name: str, resize: str) -> None:
    """Raises UserError unless `resize` is one of the two."""
    if resize not in get_args(Resize):
        raise UserError(f'{name}.resize must be "crop" or "stretch"; got {resize!r}.')


def square(
    image: Any, size: int, resize: Resize = "crop"
) -> UInt8[np.ndarray, "size size channels"]:
    """A PIL image scaled so that its shorter side is `size`, and its centre cut out; with "stretch"
    all of it scaled to the square."""
    from PIL import Image

    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if resize == "stretch":
        width = height = size
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)), np.uint8)
    return pixels.reshape(size, size, -1)
