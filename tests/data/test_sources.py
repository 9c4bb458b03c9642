"""Sources on small files made here: what a batch has, and what is said of files that are wrong."""

import gzip
import io
import lzma
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.data.dataset import Dataset, Source
from research.data.order import Order
from research.data.pipeline import Feed
from research.data.sources import (
    Arrays,
    ConllColumns,
    Digits,
    Idx,
    ImageFolder,
    LabelledText,
    Squad,
    Table,
    Text,
    TextFiles,
    TextPairs,
    Tfds,
    TimeSeries,
    TokenCorpus,
)
from research.data.tokenizers import Byte, Char, TrainedSubword, Word
from research.errors import UserError
from research.vision import MLP, Classification
from tests.small_data import write_tfds

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
LABELS = np.asarray([3, 1, 4, 1, 5], np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def batch_of(dataset: Dataset, indices: list[int]) -> Mapping[str, Any]:
    return dataset.gather(dataset.arrays, np.asarray(indices))


def check_gather_under_jit(dataset: Dataset) -> None:
    """What the engine relies on where `on_device` is on."""
    assert dataset.on_device
    indices = np.asarray([dataset.size - 1, 0, dataset.size // 2])
    on_host = dataset.gather(dataset.arrays, indices)
    on_device = jax.jit(dataset.gather)(dict(dataset.arrays), indices)
    assert on_host.keys() == on_device.keys()
    for name, value in on_host.items():
        assert value.dtype == on_device[name].dtype, name
        np.testing.assert_array_equal(value, on_device[name], err_msg=name)


# Digits


def test_digits_have_a_fixed_split(tmp_path: Path) -> None:
    train, test = Digits("train").open(tmp_path), Digits("test").open(tmp_path)
    assert (train.size, test.size) == (1438, 359)
    images = np.concatenate([train.arrays["image"], test.arrays["image"]])
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert sorted(set(images.ravel().tolist())) == [round(v * 255 / 16) for v in range(17)]
    counts = np.bincount(np.concatenate([train.arrays["label"], test.arrays["label"]]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    order = np.random.default_rng(0).permutation(1797)
    from sklearn.datasets import load_digits

    assert test.arrays["label"].tolist() == load_digits().target[order[-359:]].tolist()
    check_gather_under_jit(train)
    with pytest.raises(UserError, match="'train' or 'test'"):
        Digits("valid")


# Idx


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_idx(tmp_path: Path, pack: Any) -> None:
    suffix = {gzip.compress: ".gz", lzma.compress: ".xz"}.get(pack, "")
    (tmp_path / f"images{suffix}").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / f"labels{suffix}").write_bytes(pack(idx_bytes(LABELS)))
    dataset = Idx(f"images{suffix}", f"labels{suffix}").open(tmp_path)
    batch = batch_of(dataset, [4, 0])
    np.testing.assert_array_equal(batch["image"], IMAGES[[4, 0], ..., None])
    assert batch["image"].dtype == np.uint8
    assert batch["label"].tolist() == [5, 3]
    assert batch["label"].dtype == np.int32
    check_gather_under_jit(dataset)


def test_idx_of_floats_and_no_labels(tmp_path: Path) -> None:
    array = np.asarray([[0.5, -2.0], [3.0, 4.0], [5.0, 6.0]], ">f8")
    (tmp_path / "x").write_bytes(struct.pack(">BBBBII", 0, 0, 0x0E, 2, 3, 2) + array.tobytes())
    dataset = Idx("x").open(tmp_path)
    assert dataset.arrays["image"].dtype == np.float32
    assert "label" not in dataset.arrays
    np.testing.assert_array_equal(dataset.arrays["image"], array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(IMAGES)[:-7], "truncated: the header promises 5 items of 4x3 = 60 bytes, 53"),
        (idx_bytes(IMAGES) + b"x", "corrupt: the header promises 5 items .* = 60 bytes, 61 found"),
        (idx_bytes(IMAGES)[:9], "truncated: 9 bytes, of which the header takes 16"),
        (b"\x89PNG\r\n", "is not an idx file: it starts with '89 50 4e 47'"),
        (b"", "is not an idx file"),
    ],
)
def test_wrong_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(UserError, match=f"images {message}|images is {message}") as error:
        Idx("images").open(tmp_path)
    assert str(tmp_path / "images") in str(error.value)


def test_idx_of_different_lengths(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "labels").write_bytes(idx_bytes(LABELS[:4]))
    with pytest.raises(UserError, match=r"images has 5 items .*labels has 4 items \(label\)"):
        Idx("images", "labels").open(tmp_path)


# Arrays


def test_arrays_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.npy.xz").write_bytes(lzma.compress(npy_bytes(IMAGES[:2])))
    (tmp_path / "b.npy").write_bytes(npy_bytes(IMAGES[2:]))
    np.savez(tmp_path / "c.npz", target=LABELS.astype(np.int64), score=LABELS / 3)
    files = {
        "image": ("a.npy.xz", "b.npy"),
        "label": "c.npz:target",
        "score": "c.npz:score",
    }
    dataset = Arrays(files).open(tmp_path)
    np.testing.assert_array_equal(dataset.arrays["image"], IMAGES)
    dtypes = {name: array.dtype for name, array in dataset.arrays.items()}
    assert dtypes == {"image": np.uint8, "label": np.int32, "score": np.float32}
    assert dataset.arrays["label"].tolist() == LABELS.tolist()
    check_gather_under_jit(dataset)


def test_large_packed_arrays_are_decoded_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1000), np.uint8)
    (tmp_path / "a.npy.xz").write_bytes(lzma.compress(npy_bytes(noise), preset=0))
    source = Arrays({"x": "a.npy.xz"})
    np.testing.assert_array_equal(source.open(tmp_path).arrays["x"], noise)
    monkeypatch.setattr("research.data.sources.arrays.read_array", None)
    np.testing.assert_array_equal(source.open(tmp_path).arrays["x"], noise)


def test_plain_array_is_mapped_as_it_is(tmp_path: Path, cache: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    array = Arrays({"x": "a.npy"}).open(tmp_path).arrays["x"]
    assert isinstance(array.base, np.memmap)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy_bytes(IMAGES)[:-7], "is no valid NumPy file"),
        (npy_bytes(IMAGES)[:20], "is no valid NumPy file"),
        (b"", "is no valid NumPy file"),
        (npy_bytes(np.asarray([{}])), "is no valid NumPy file"),
        (npy_bytes(np.asarray(["a"])), "holds <U1, where numbers"),
        (npy_bytes(np.asarray([2**40])), "do not fit in 32 bits"),
        (npy_bytes(np.asarray(3)), "single number"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_wrong_arrays(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"a.npy{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(UserError, match=message) as error:
        Arrays({"x": path.name}).open(tmp_path)
    assert str(path) in str(error.value)


def test_arrays_that_do_not_fit_together(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "b.npy", IMAGES[:, :2])
    np.save(tmp_path / "c.npy", LABELS[:3])
    np.savez(tmp_path / "d.npz", target=LABELS)
    for files, message in (
        ({"x": ("a.npy", "b.npy")}, r"b\.npy has items of uint8 \(2, 3\)"),
        ({"x": "a.npy", "y": "c.npy"}, r"a\.npy has 5 items .*c\.npy has 3"),
        ({"x": "d.npz:targte"}, "no array 'targte'; did you mean 'target'"),
        ({"x": "d.npz"}, r"d\.npz:NAME"),
    ):
        with pytest.raises(UserError, match=message):
            Arrays(files).open(tmp_path)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:50])
    with pytest.raises(UserError, match=r"d\.npz is no valid NumPy file"):
        Arrays({"x": "d.npz:target"}).open(tmp_path)


# Text


@given(num_tokens=st.integers(2, 60), block_size=st.integers(1, 20))
def test_evaluation_windows_have_every_target_once(
    tmp_path_factory: pytest.TempPathFactory, num_tokens: int, block_size: int
) -> None:
    folder = tmp_path_factory.mktemp("text")
    text = "".join(chr(33 + position) for position in range(num_tokens))
    (folder / "a.txt").write_text(text)
    dataset = Text("a.txt", Byte(), block_size, stride=block_size).open(folder)
    batch = batch_of(dataset, list(range(dataset.size)))
    assert batch["tokens"].shape == (dataset.size, block_size + 1)
    assert batch["tokens"].dtype == np.int32
    assert batch["token_mask"].shape == (dataset.size, block_size)
    mask = batch["token_mask"] == 1
    targets, inputs = batch["tokens"][:, 1:][mask], batch["tokens"][:, :-1][mask]
    assert bytes(targets.tolist()).decode() == text[1:]
    assert bytes(inputs.tolist()).decode() == text[:-1]
    assert batch["token_mask"].sum() == num_tokens - 1


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_training_windows_are_full(tmp_path: Path, stride: int) -> None:
    (tmp_path / "a.txt").write_text("abcdefghij")
    dataset = Text("a.txt", Char("jihgfedcba"), block_size=3, stride=stride).open(tmp_path)
    starts = range(0, 10 - 3, stride)
    batch = batch_of(dataset, list(range(dataset.size)))
    assert batch["tokens"].tolist() == [[9 - start - k for k in range(4)] for start in starts]
    assert "token_mask" not in batch
    check_gather_under_jit(dataset)


def test_text_split_and_jit(tmp_path: Path) -> None:
    text = "".join(chr(200 + position) for position in range(57))
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    parts = [(0.0, 0.9), (0.9, 1.0)]
    alphabet = "".join(sorted(set(text)))
    streams = []
    for start, stop in parts:
        dataset = Text("a.txt.xz", Char(alphabet), 1, 1, start, stop).open(tmp_path)
        tokens = batch_of(dataset, list(range(dataset.size)))["tokens"]
        streams.append(Char(alphabet).decode([tokens[0, 0], *tokens[:, 1]]))
    assert streams == [text[: int(0.9 * 57)], text[int(0.9 * 57) :]]
    check_gather_under_jit(Text("a.txt.xz", Char(alphabet), 8, 8).open(tmp_path))


def test_text_that_is_too_short_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcd")
    with pytest.raises(UserError, match=r"a\.txt has 4 tokens .* block_size 8 needs 9"):
        Text("a.txt", Byte(), 8).open(tmp_path)
    with pytest.raises(UserError, match=r"a\.txt: The character 'd' at position 3"):
        Text("a.txt", Char("abc"), 2).open(tmp_path)
    for settings in ({"block_size": 0}, {"stride": 0}, {"start": 0.5, "stop": 0.5}, {"stop": 2.0}):
        with pytest.raises(UserError, match="Text"):
            Text(**{"file": "a.txt", "tokenizer": Byte(), "block_size": 2, **settings})


def test_changed_tokenizer_file_is_noticed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are kept decoded; a vocabulary that changed must not be hidden by that."""
    monkeypatch.setattr("research.data.cache.CACHE_FROM_BYTES", 0)
    (tmp_path / "a.jsonl").write_text('{"text": "a b"}\n')
    source = LabelledText("a.jsonl", "text", Word(file="words.txt"), 2)
    tokens = []
    for words in ("a\nb\n", "bb\nb\na\n"):
        (tmp_path / "words.txt").write_text(words)
        tokens.append(batch_of(source.open(tmp_path), [0])["tokens"].tolist())
    assert tokens == [[[1, 2]], [[3, 2]]]
    assert len(list((cache / "decoded").iterdir())) == 2


# Table

ROWS = "39, Private, 7.5, <=50K\n\n50, ?, -1e3, >50K\n"


def test_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,work,gain,income\n" + ROWS)
    (tmp_path / "b.csv.xz").write_bytes(lzma.compress(ROWS.encode()))
    names = ("age", "work", "gain", "income")
    for settings in ({"file": "a.csv"}, {"file": "b.csv.xz", "columns": names}):
        dataset = Table(
            features=("gain", "age"),
            label="income",
            classes=("<=50K", ">50K"),
            categories={"work": ("?", "Private")},
            **settings,
        ).open(tmp_path)
        batch = batch_of(dataset, [0, 1])
        assert batch["features"].tolist() == [[7.5, 39.0], [-1000.0, 50.0]]
        assert batch["categories"].tolist() == [[1], [0]]
        assert batch["label"].tolist() == [0, 1]
        dtypes = [batch[name].dtype for name in ("features", "categories", "label")]
        assert dtypes == [np.float32, np.int32, np.int32]
        check_gather_under_jit(dataset)
    regression = Table("a.csv", ("age",), "gain").open(tmp_path)
    assert regression.arrays["label"].dtype == np.float32
    assert regression.arrays["label"].tolist() == [7.5, -1000.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,2,a\n1,x,a\n", "line 3, column 'y': 'x' is not a finite number"),
        ("1,2,a\n1,nan,a\n", "line 3, column 'y': 'nan' is not a finite number"),
        ("1,2,a\n1,,a\n", "line 3, column 'y': '' is not a finite number"),
        ("1,2,a\n1,2\n", "line 3 has 2 values for 3 columns"),
        ("1,2,a\n\n1,2,c\n", "line 4, column 'z': 'c' is not one of 'a', 'b'"),
        ("", "a.csv holds no rows"),
    ],
)
def test_wrong_tables(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n" + rows)
    with pytest.raises(UserError, match=message) as error:
        Table("a.csv", ("x", "y"), "z", classes=("a", "b")).open(tmp_path)
    assert str(tmp_path / "a.csv") in str(error.value)


def test_table_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("length,width\n1,2\n")
    with pytest.raises(UserError, match=r"no column 'lenght'; did you mean 'length'"):
        Table("a.csv", ("lenght",), "width").open(tmp_path)


# ImageFolder


def make_pictures(folder: Path) -> None:
    from PIL import Image

    for label, (name, colour) in enumerate({"cat": (255, 0, 0), "dog": (0, 0, 255)}.items()):
        (folder / name).mkdir(parents=True)
        for number, suffix in enumerate(("png", "JPG")):
            # Wider than high, with a margin that the crop takes away.
            pixels = np.zeros((8, 24, 3), np.uint8)
            pixels[:, 6:18] = colour
            Image.fromarray(pixels).save(folder / name / f"{label}{number}.{suffix}")
        (folder / name / "notes.txt").touch()


def test_image_folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(tmp_path / "pictures")
    source = ImageFolder("pictures", size=4)
    dataset = source.open(tmp_path)
    batch = batch_of(dataset, [0, 1, 2, 3])
    assert batch["image"].shape == (4, 4, 4, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].tolist() == [0, 0, 1, 1]
    expected = np.asarray([[255, 0, 0], [0, 0, 255]])[batch["label"]][:, None, None]
    assert np.abs(batch["image"].astype(int) - expected).max() <= 8, "JPEG is off by a few at most"
    check_gather_under_jit(dataset)
    monkeypatch.setattr(ImageFolder, "_read", None)
    np.testing.assert_array_equal(source.open(tmp_path).arrays["image"], dataset.arrays["image"])


def test_stretched_pictures_come_whole_and_with_their_proportions(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures")
    batch = batch_of(ImageFolder("pictures", 8, resize="stretch").open(tmp_path), [0, 2])
    assert batch["image"].shape == (2, 8, 8, 3)
    assert batch["image"][0, 4, :, 0].tolist()[::7] == [0, 0], "the margins are there"
    assert batch["aspect_ratio"].tolist() == [3.0, 3.0]
    assert batch["aspect_ratio"].dtype == np.float32
    with pytest.raises(UserError, match=r'resize must be "crop" or "stretch"'):
        ImageFolder("pictures", 8, resize="pad")  # type: ignore[arg-type]


def test_image_folder_classes_and_grey(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures")
    dataset = ImageFolder("pictures", 4, classes=("dog", "cat"), channels=1).open(tmp_path)
    assert dataset.arrays["image"].shape == (4, 4, 4, 1)
    # Rec. 601 luma: 0.299 R, 0.114 B.
    grey = dataset.arrays["image"].mean((1, 2, 3))
    np.testing.assert_allclose(grey, [29, 29, 76, 76], atol=3)
    with pytest.raises(UserError, match=r"no folder 'dgo'; did you mean 'dog'"):
        ImageFolder("pictures", 4, classes=("dgo",)).open(tmp_path)


def test_corrupt_pictures_are_named(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures")
    for name, keep in (("cat/00.png", 40), ("dog/11.JPG", 400), ("dog/11.JPG", 0)):
        path = tmp_path / "pictures" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=str(path)):
            ImageFolder("pictures", 4).open(tmp_path)
        path.write_bytes(whole)


def test_corrupt_pictures_are_left_out_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pictures(tmp_path / "pictures")
    whole = ImageFolder("pictures", 4).open(tmp_path)
    corrupt = tmp_path / "pictures" / "cat" / "00.png"
    corrupt.write_bytes(b"no picture")
    dataset = ImageFolder("pictures", 4, on_corrupt="skip").open(tmp_path)
    assert f"1 of {whole.size} pictures are corrupt, and left out" in capsys.readouterr().out
    assert dataset.size == whole.size - 1
    np.testing.assert_array_equal(dataset.arrays["label"], whole.arrays["label"][1:])
    np.testing.assert_array_equal(dataset.arrays["image"], whole.arrays["image"][1:])
    for path in (tmp_path / "pictures").glob("*/*"):
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=rf"all {whole.size} pictures are corrupt"):
        ImageFolder("pictures", 4, on_corrupt="skip").open(tmp_path)


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"no pictures: they are expected as CLASS/NAME\.png"):
        ImageFolder("pictures", 4).open(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        ImageFolder("file", 4).open(tmp_path)


# Tfds


def make_tfds(folder: Path, sizes: list[int]) -> None:
    """Square pictures of value 10 i."""
    pictures = [np.full((size, size), 10 * i, np.uint8) for i, size in enumerate(sizes)]
    examples = [(picture, number % 3) for number, picture in enumerate(pictures)]
    write_tfds(folder, "tiny", {"train": examples}, num_classes=3)


def test_tfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tfds(tmp_path / "tfds", [6, 6, 6, 6, 6])
    dataset = Tfds("tiny", "train").open(tmp_path)
    batch = batch_of(dataset, [4, 1])
    assert batch["image"].shape == (2, 6, 6, 1)
    assert batch["image"].dtype == np.uint8
    assert batch["image"][:, 0, 0, 0].tolist() == [40, 10]
    assert batch["label"].tolist() == [1, 1]
    assert batch["label"].dtype == np.int32
    check_gather_under_jit(dataset)
    part = Tfds("tiny", "train[:40%]", keys=("label",)).open(tmp_path)
    assert part.size == 2
    assert set(part.arrays) == {"label"}


def test_tfds_of_different_shapes_and_decoding_when_needed(tmp_path: Path) -> None:
    make_tfds(tmp_path / "tfds", [6, 8, 12, 6, 6])
    with pytest.raises(UserError, match=r"'image' has different shapes.*Tfds\.size"):
        Tfds("tiny", "train").open(tmp_path)
    kept = Tfds("tiny", "train", size=4).open(tmp_path)
    read = Tfds("tiny", "train", size=4, keep_decoded=False).open(tmp_path)
    assert not read.on_device
    assert kept.arrays["image"].shape == (5, 4, 4, 1)
    order = Order(5, 2, seed=0)
    feeds = [Feed(kept, order, 0, 4), Feed(read, order, 0, 4)]
    for first, second in zip(*feeds, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(first[name], second[name])
    for feed in feeds:
        feed.close()
    in_a_worker = pickle.loads(pickle.dumps(read))
    np.testing.assert_array_equal(batch_of(in_a_worker, [2])["image"], kept.arrays["image"][[2]])


def test_classes_of_examples_that_are_decoded_when_needed(tmp_path: Path) -> None:
    make_tfds(tmp_path / "tfds", [6, 6])
    arrays = Tfds("tiny", "train", keep_decoded=False).open(tmp_path).arrays
    Classification(MLP(3)).check_data(arrays)
    with pytest.raises(UserError, match=r"set has 3 classes, .* objective\.model\.num_classes = 2"):
        Classification(MLP(2)).check_data(arrays)
    assert not Tfds("tiny", "train", ("image",), keep_decoded=False).open(tmp_path).arrays


def test_tfds_stretches_whole_pictures(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:20, :40].astype(np.uint8) * 6
    wide, high = np.stack([rows, columns, rows], -1), np.stack([columns.T, rows.T, rows.T], -1)
    examples = [(wide, 0), (high, 1), (wide[:, :20], 2)]
    write_tfds(tmp_path / "tfds", "tiny", {"train": examples}, num_classes=3)
    kept = Tfds("tiny", "train", size=10, resize="stretch").open(tmp_path)
    read = Tfds("tiny", "train", size=10, resize="stretch", keep_decoded=False).open(tmp_path)
    for dataset in (kept, read):
        batch = batch_of(dataset, [0, 1, 2])
        assert batch["aspect_ratio"].tolist() == [2.0, 0.5, 1.0]
        assert batch["aspect_ratio"].dtype == np.float32
        # Every second of 20 and every fourth of 40 levels, between those of its neighbours.
        np.testing.assert_allclose(
            batch["image"][0, :, 5, 0], 6 * (2 * np.arange(10) + 0.5), atol=3
        )
        np.testing.assert_allclose(
            batch["image"][0, 5, :, 1], 6 * (4 * np.arange(10) + 1.5), atol=5
        )
        np.testing.assert_allclose(
            batch["image"][1, :, 5, 0], 6 * (4 * np.arange(10) + 1.5), atol=5
        )
    with pytest.raises(UserError, match=r"Tfds\.size"):
        Tfds("tiny", "train", resize="stretch")


def test_tfds_says_what_it_cannot_fetch(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        Tfds("imagenet2012", "train").open(tmp_path)
    for part in (
        "tfds build imagenet2012",
        f"--manual_dir {tmp_path / 'tfds' / 'downloads' / 'manual'}",
        "ILSVRC2012_img_train.tar",
    ):
        assert part in str(error.value)


def test_tfds_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        Tfds("mnist", "train").open(tmp_path)
    for part in (f"not in {tmp_path / 'tfds'}", "pip install '.[tfds]'", "tfds build mnist"):
        assert part in str(error.value)
    make_tfds(tmp_path / "tfds", [6])
    for source, message in (
        (Tfds("tinny", "train"), "did you mean 'tiny'"),
        (Tfds("tiny", "test"), "no split 'test'; it has train"),
        (Tfds("tiny", "train[:x]"), "train"),
        (Tfds("tiny", "train", keys=("picture",)), "no feature 'picture'; it has"),
    ):
        with pytest.raises(UserError, match=message):
            source.open(tmp_path)
    (record,) = (tmp_path / "tfds").rglob("*array_record-*")
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(UserError, match="tiny"):
        Tfds("tiny", "train").open(tmp_path)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"a":\n "b\xff"}\n')
    (tmp_path / "good").write_text("b\nb\n")
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,\xff\n")
    sources: list[Source] = [
        Text("a", Byte(), 4),
        Text("good", Word(file=str(tmp_path / "a")), 1),
        Text("good", TrainedSubword((str(tmp_path / "a"),), 300), 1),
        Squad("a", TrainedSubword((str(tmp_path / "good"),), 300)),
        TextPairs("good", "a", Byte(), Byte(), 4),
        ConllColumns("a", ("O",), 4, "good", 4),
        TokenCorpus(TextFiles(("a",)), Byte(), 4, None),
        Table("a.csv", ("x",), "y"),
    ]
    for source in sources:
        with pytest.raises(UserError, match=rf"{tmp_path}/a(\.csv)?, line 2 is not .* 0xff"):
            source.open(tmp_path)


def test_missing_files_of_every_source(tmp_path: Path) -> None:
    sources: list[Source] = [
        Idx("no.gz"),
        Arrays({"x": "no.npy"}),
        Text("no.txt", Byte(), 4),
        LabelledText("no.jsonl", "text", Byte(), 4),
        Table("no.csv", ("x",), "y"),
        ImageFolder("no", 4),
        Text("no.txt", Word(file="no.txt"), 4),
        TimeSeries("no.csv", 2, 1),
    ]
    for source in sources:
        assert isinstance(source, Source)
        with pytest.raises(UserError, match=rf"{tmp_path}/no\S* does not exist.*--data_dir"):
            source.open(tmp_path)
