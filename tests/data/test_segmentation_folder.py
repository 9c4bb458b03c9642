"""Pictures and their masks: their order, what a batch has, and what is said of those that are
wrong."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from research.data.border_weights import border_weights
from research.data.files import natural_order
from research.data.sources import SegmentationFolder, segmentation_folder
from research.errors import UserError

COUNT = 12
LABELS = np.random.default_rng(0).integers(2, size=(COUNT, 5, 6))


def write(folder: Path) -> Path:
    """Pictures whose grey is their number, and masks of 0 and 255."""
    for kind in ("image", "label"):
        (folder / kind).mkdir(parents=True)
    for i in range(COUNT):
        Image.fromarray(np.full((5, 6), i, np.uint8)).save(folder / "image" / f"{i}.png")
        Image.fromarray((LABELS[i] * 255).astype(np.uint8)).save(folder / "label" / f"{i}.png")
    return folder


def packed(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for file in sorted(folder.glob("*/*.png")):
            archive.write(file, file.relative_to(folder))
    return folder


@pytest.mark.parametrize("prefix", ["", "train.zip:"])
def test_pairs_in_natural_order(tmp_path: Path, prefix: str) -> None:
    packed(write(tmp_path))
    (tmp_path / "image" / "._3.png").write_bytes(b"left by a file manager")
    source = SegmentationFolder(f"{prefix}image", f"{prefix}label")
    for _ in range(2):  # decoded, and from the cache
        dataset = source.open(tmp_path)
        batch = dataset.gather(dataset.arrays, np.asarray([10, 2]))
        assert dataset.size == COUNT and dataset.on_device
        assert batch["image"].shape == (2, 5, 6, 1) and batch["image"].dtype == np.uint8
        assert batch["image"][:, 0, 0, 0].tolist() == [10, 2]
        np.testing.assert_array_equal(batch["label"], LABELS[[10, 2]])
        assert batch["label"].dtype == np.int32
        assert "weight" not in batch


def test_natural_order() -> None:
    names = ["b2", "a10", "a9", "a", "10", "9b", "9"]
    assert sorted(names, key=natural_order) == ["9", "9b", "10", "a", "a9", "a10", "b2"]


def test_weights_classes_and_colours(tmp_path: Path) -> None:
    write(tmp_path)
    source = SegmentationFolder("image", "label", (255, 0), 3, border_weight=10.0, border_sigma=2.0)
    arrays = source.open(tmp_path).arrays
    np.testing.assert_array_equal(arrays["label"], 1 - LABELS)
    assert arrays["image"].shape == (COUNT, 5, 6, 3)
    assert arrays["weight"].dtype == np.float32
    np.testing.assert_array_equal(arrays["weight"][4], border_weights(1 - LABELS[4], 10.0, 2.0))


@pytest.mark.parametrize("mode", ["1", "P"])
def test_masks_in_black_and_white_or_with_a_palette(tmp_path: Path, mode: str) -> None:
    write(tmp_path)
    for i in range(COUNT):
        if mode == "1":
            mask = Image.fromarray(LABELS[i].astype(bool))
        else:
            mask = Image.fromarray((7 * LABELS[i]).astype(np.uint8), "P")
            mask.putpalette([200, 10, 10] * 256)
        mask.save(tmp_path / "label" / f"{i}.png")
    source = SegmentationFolder("image", "label", (0, 255 if mode == "1" else 7))
    np.testing.assert_array_equal(source.open(tmp_path).arrays["label"], LABELS)


def spoil(folder: Path, what: str) -> None:
    image, label = folder / "image", folder / "label"
    match what:
        case "no mask":
            (label / "7.png").unlink()
        case "no picture":
            (image / "7.png").unlink()
        case "mask of another size":
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(label / "7.png")
        case "pair of another size":
            for place in (image, label):
                Image.fromarray(np.zeros((8, 9), np.uint8)).save(place / "7.png")
        case "unknown value":
            Image.fromarray(np.full((5, 6), 128, np.uint8)).save(label / "7.png")
        case "coloured mask":
            Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(label / "7.png")
        case "corrupt picture":
            (image / "7.png").write_bytes((image / "7.png").read_bytes()[:40])
        case "no picture file":
            (label / "7.png").write_bytes(b"not a picture")
        case "two of a name":
            Image.fromarray(np.zeros((5, 6), np.uint8)).save(image / "7.bmp")
        case "nothing":
            for file in image.iterdir():
                file.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no mask", "image/7.png has no mask '7' in label"),
        ("no picture", "label/7.png has no picture '7' in image"),
        ("mask of another size", "label/7.png has 4×6 pixels, its picture .*7.png has 5×6"),
        ("pair of another size", "image/7.png has 8×9 pixels, .*image/0.png before it 5×6"),
        ("unknown value", r"label/7.png has the value 128, .*classes = \(0, 255\)"),
        ("coloured mask", "label/7.png is no mask: it has 3 channels"),
        ("corrupt picture", "image/7.png .*(cannot be decoded|corrupt)"),
        ("no picture file", "label/7.png is not a picture, or a corrupt one"),
        ("two of a name", "image has two pictures '7'"),
        ("nothing", "image holds no pictures"),
    ],
)
def test_wrong_pairs_are_named(tmp_path: Path, what: str, message: str) -> None:
    spoil(write(tmp_path), what)
    with pytest.raises(UserError, match=message):
        SegmentationFolder("image", "label").open(tmp_path)


def test_corrupt_pairs_are_left_out_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation_folder, "PAIRS_A_PIECE", 2)
    write(tmp_path)
    source = SegmentationFolder("image", "label", on_corrupt="skip")
    for name in ("image/0.png", "label/1.png", "image/7.png"):  # the whole of the first piece
        (tmp_path / name).write_bytes(b"no picture")
    dataset = source.open(tmp_path)
    kept = [i for i in range(COUNT) if i not in (0, 1, 7)]
    assert dataset.size == len(kept)
    assert dataset.arrays["image"][:, 0, 0, 0].tolist() == kept
    np.testing.assert_array_equal(dataset.arrays["label"], LABELS[kept])
    said = f"image: 3 of {COUNT} pictures or their masks are corrupt, and left out"
    assert said in capsys.readouterr().out
    spoil(tmp_path, "unknown value")
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "image" / "7.png")
    with pytest.raises(UserError, match="has the value 128"):
        source.open(tmp_path)
    for file in (tmp_path / "image").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"of all {COUNT} pairs the picture or the mask is corrupt"):
        source.open(tmp_path)


def test_wrong_archives_are_named(tmp_path: Path) -> None:
    packed(write(tmp_path))
    with pytest.raises(UserError, match=r"train.zip/images/ holds no pictures"):
        SegmentationFolder("train.zip:images", "train.zip:label").open(tmp_path)
    content = bytearray((tmp_path / "train.zip").read_bytes())
    start = content.find(b"IDAT")
    content[start : start + 8] = b"spoiled!"
    (tmp_path / "train.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"train.zip/image/0.png .*(corrupt|decoded)"):
        SegmentationFolder("train.zip:image", "train.zip:label").open(tmp_path)
    (tmp_path / "train.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"train.zip is no zip archive"):
        SegmentationFolder("train.zip:image", "train.zip:label").open(tmp_path)
    with pytest.raises(UserError, match=r"tran.zip does not exist"):
        SegmentationFolder("tran.zip:image", "tran.zip:label").open(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": (0,)}, "at least two different"),
        ({"classes": (0, 0)}, "at least two different"),
        ({"channels": 2}, "channels must be 1"),
        ({"border_weight": -1.0}, "border_weight must be at least 0"),
        ({"border_sigma": 0.0}, "border_sigma must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SegmentationFolder("image", "label", **settings)
