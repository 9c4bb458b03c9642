"""Small data sets in the layout of the real ones, made from what scikit-learn bundles."""

import gzip
import struct
from pathlib import Path

import numpy as np

WORDS = "To be, or not to be: that is the question. ROMEO: O, she doth teach the torches!\n"


def write_small_data(folder: Path) -> Path:
    """Writes `mnist/` (512 + 128 digits of 28×28) and `tinyshakespeare/`; returns the folder."""
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
    return folder
