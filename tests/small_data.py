"""Small data sets in the layout of the real ones, made from what scikit-learn bundles."""

import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np

WORDS = "To be, or not to be: that is the question. ROMEO: O, she doth teach the torches!\n"


def write_small_data(folder: Path) -> Path:
    """Writes `mnist/` (512 + 128 digits of 28×28), `tinyshakespeare/` and `isbi2012_em/` (30 slices
    of 32×32); returns the folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images / 16 * 255, np.ones((1, 3, 3))).round().astype(np.uint8)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    labels = digits.target.astype(np.uint8)
    (folder / "mnist").mkdir(parents=True)
    for name, rows in {"train": slice(0, 512), "t10k": slice(512, 640)}.items():
        for kind, array in {"images-idx3": images[rows], "labels-idx1": labels[rows]}.items():
            header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
            header += struct.pack(f">{array.ndim}I", *array.shape)
            file = folder / "mnist" / f"{name}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes(), 1))
    generator = np.random.default_rng(0)
    words = WORDS.split(" ")
    text = " ".join(words[i] for i in generator.integers(len(words), size=3000))
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare" / "input.txt").write_text(text)
    (folder / "isbi2012_em").mkdir()
    with zipfile.ZipFile(folder / "isbi2012_em" / "train.zip", "w") as archive:
        for i in range(30):
            mask = _membranes(generator)
            slice_ = mask * 0.6 + generator.uniform(0, 80, mask.shape)
            archive.writestr(f"image/{i}.png", _png(slice_.astype(np.uint8)))
            archive.writestr(f"label/{i}.png", _png(mask))
    return folder


def _membranes(generator: np.random.Generator) -> np.ndarray:
    """A mask: 0 where the two nearest of seven points are about as near, else 255."""
    rows, columns = np.mgrid[:32, :32]
    points = generator.uniform(0, 32, (7, 2, 1, 1))
    first, second = np.sort(np.hypot(rows - points[:, 0], columns - points[:, 1]), 0)[:2]
    return np.where(second - first < 3, 0, 255).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
