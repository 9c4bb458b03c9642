"""Small data sets in the layout of the real ones, made from what scikit-learn bundles."""

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np

WORDS = "To be, or not to be: that is the question. ROMEO: O, she doth teach the torches!\n"


def write_small_data(folder: Path) -> Path:
    """Writes `mnist/` (512 + 128 digits of 28×28), `cifar10/` (5 · 64 + 64 digits of 32×32 in
    colour) and `tinyshakespeare/`; returns the folder."""
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
    colour = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None] // np.array([1, 2, 3], np.uint8)
    (folder / "cifar10").mkdir()
    for part, name in enumerate([*(f"train_{i}" for i in range(1, 6)), "test"]):
        rows = slice(64 * part, 64 * part + 64)
        with lzma.open(folder / "cifar10" / f"{name}_images.npy.xz", "wb", preset=0) as file:
            np.lib.format.write_array(file, colour[rows])
        np.save(folder / "cifar10" / f"{name}_labels.npy", labels[rows])
    generator = np.random.default_rng(0)
    words = WORDS.split(" ")
    text = " ".join(words[i] for i in generator.integers(len(words), size=3000))
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare" / "input.txt").write_text(text)
    return folder
