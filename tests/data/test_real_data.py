"""The real data sets: the counts that are published for them."""

from pathlib import Path

import numpy as np
import pytest

from research.data.audio import LogMel
from research.data.sources import (
    Arrays,
    Idx,
    JoinedRecordings,
    LabelledText,
    Recordings,
    SegmentationFolder,
    Table,
    Text,
)
from research.data.tokenizers import Byte, Char, Word


def need(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        pytest.skip(f"{folder / name} is not there")
    return folder


@pytest.mark.parametrize(
    ("prefix", "counts"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("t10k", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist(real_data: Path, prefix: str, counts: list[int]) -> None:
    folder = need(real_data, "mnist")
    source = Idx(f"mnist/{prefix}-images-idx3-ubyte.gz", f"mnist/{prefix}-labels-idx1-ubyte.gz")
    dataset = source.open(folder)
    assert dataset.size == sum(counts)
    assert dataset.arrays["image"].shape == (sum(counts), 28, 28, 1)
    assert np.bincount(dataset.arrays["label"]).tolist() == counts
    if prefix == "train":
        assert round(dataset.arrays["image"].mean() / 255, 4) == 0.1307


def test_cifar10(real_data: Path) -> None:
    folder = need(real_data, "cifar10")
    files = {"image": "cifar10/test_images.npy.xz", "label": "cifar10/test_labels.npy"}
    dataset = Arrays(files).open(folder)
    assert dataset.arrays["image"].shape == (10_000, 32, 32, 3)
    assert dataset.arrays["image"].dtype == np.uint8
    assert np.bincount(dataset.arrays["label"]).tolist() == [1000] * 10


def test_shakespeare(real_data: Path) -> None:
    folder = need(real_data, "tinyshakespeare")
    file = "tinyshakespeare/input.txt"
    text = (folder / file).read_text()
    tokenizer = Char("".join(sorted(set(text))))
    assert (tokenizer.vocab_size, len(text)) == (65, 1_115_394)
    train = Text(file, tokenizer, block_size=256, stop=0.9).open(folder)
    assert train.size == 1_003_854 - 256, "nanoGPT trains on 1,003,854 characters"
    valid = Text(file, tokenizer, block_size=256, stride=256, start=0.9).open(folder)
    batch = valid.gather(valid.arrays, np.arange(valid.size))
    targets = batch["tokens"][:, 1:][batch["token_mask"] == 1]
    assert len(targets) == 111_540 - 1, "nanoGPT validates on 111,540 characters"
    assert tokenizer.decode(targets) == text[-(111_540 - 1) :]


def test_penn_treebank(real_data: Path) -> None:
    folder = need(real_data, "ptb")
    words = Word(file="ptb/ptb.train.txt.xz", end_of_line="<eos>")
    dataset = Text("ptb/ptb.valid.txt.xz", words, block_size=1).open(folder)
    assert dataset.size + 1 == 73_760, "tokens, an <eos> a line among them"


def test_imdb(real_data: Path) -> None:
    folder = need(real_data, "imdb")
    source = LabelledText("imdb/test.jsonl.xz", "text", Byte(), 64, "label", ("0", "1"))
    dataset = source.open(folder)
    assert np.bincount(dataset.arrays["label"]).tolist() == [12_500, 12_500]


def test_adult(real_data: Path) -> None:
    folder = need(real_data, "adult")
    columns = (
        *("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation"),
        *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours", "country"),
        "income",
    )
    dataset = Table(
        "adult/adult-train.csv.xz",
        features=("age", "hours"),
        categories={"sex": ("Male", "Female")},
        label="income",
        classes=("<=50K", ">50K"),
        columns=columns,
    ).open(folder)
    assert np.bincount(dataset.arrays["label"]).tolist() == [24_720, 7_841]
    assert np.bincount(dataset.arrays["categories"][:, 0]).tolist() == [21_790, 10_771]


def test_isbi2012(real_data: Path) -> None:
    folder = need(real_data, "isbi2012_em")
    archive = "isbi2012_em/train.zip"
    arrays = SegmentationFolder(f"{archive}:image", f"{archive}:label").open(folder).arrays
    assert arrays["image"].shape == (30, 512, 512, 1)
    assert np.bincount(arrays["label"].ravel()).tolist() == [1_727_250, 6_137_070]


def test_spoken_digits(real_data: Path) -> None:
    folder = need(real_data, "fsdd")
    pattern = r"(?P<label>\d)_(?P<speaker>[a-z]+)_[0-4]"
    digits = tuple("0123456789")
    test = Recordings("fsdd/recordings.zip", pattern, digits, 128, LogMel(8000, 40))
    dataset = test.open(folder)
    assert np.bincount(dataset.arrays["label"]).tolist() == [30] * 10
    waves = test.waves(folder)
    assert np.bincount(waves.speaker).tolist() == [50] * 6
    strings = JoinedRecordings(test, 20).open(folder)
    batch = strings.gather(strings.arrays, np.arange(20))
    frames = batch["input_mask"] > 0
    assert np.isfinite(batch["inputs"]).all()
    np.testing.assert_allclose(batch["inputs"][frames].mean(), 0, atol=1e-3)
    np.testing.assert_allclose(batch["inputs"][frames].std(), 1, atol=1e-3)
