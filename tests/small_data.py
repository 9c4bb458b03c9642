"""Small data sets in the layout of the real ones."""

import gzip
import io
import itertools
import json
import lzma
import struct
import wave
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

WORDS = "To be, or not to be: that is the question. ROMEO: O, she doth teach the torches!\n"


def write_small_data(folder: Path) -> Path:
    """Writes what the example configs read, small and made up; returns the folder."""
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
    _write_ett(folder / "ett")
    (folder / "isbi2012_em").mkdir()
    with zipfile.ZipFile(folder / "isbi2012_em" / "train.zip", "w") as archive:
        for i in range(30):
            mask = _membranes(generator)
            slice_ = mask * 0.6 + generator.uniform(0, 80, mask.shape)
            archive.writestr(f"image/{i}.png", _png(slice_.astype(np.uint8)))
            archive.writestr(f"label/{i}.png", _png(mask))
    write_translations(folder / "multi30k")
    write_chorales(folder / "jsb_chorales")
    write_spoken_digits(folder / "fsdd")
    write_names(folder / "conll2002")
    write_reviews(folder / "imdb")
    write_imagenet(folder / "tfds")
    _write_corpora(folder, text, generator)
    return folder


def write_translations(folder: Path) -> None:
    """Captions of up to five words, and the same captions word by word in German."""
    words = {"a": "ein", "man": "Mann", "dog": "Hund", "rides": "reitet", "red": "rot"}
    generator = np.random.default_rng(0)
    folder.mkdir()
    for split, count in {"train": 160, "val": 12, "test_2016_flickr": 12}.items():
        chosen = [generator.choice(list(words), generator.integers(1, 6)) for _ in range(count)]
        for language in ("en", "de"):
            lines = [
                " ".join(word if language == "en" else words[word] for word in caption) + "."
                for caption in chosen
            ]
            text = "\n".join(lines) + "\n"
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode(), 1))


def _write_ett(folder: Path) -> None:
    """ETTh1.csv with a daily wave of each column's own height and noise."""
    generator = np.random.default_rng(0)
    hours, columns = np.mgrid[:320, :7]
    values = (columns + 1) * np.sin(hours * 2 * np.pi / 24) + generator.normal(size=hours.shape)
    lines = ["date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"]
    for hour, row in enumerate(values):
        date = f"2016-07-{hour // 24 + 1:02d} {hour % 24:02d}:00:00"
        lines.append(",".join([date, *(f"{value:.6f}" for value in row)]))
    folder.mkdir()
    (folder / "ETTh1.csv").write_text("\n".join(lines) + "\n")


def write_chorales(folder: Path) -> None:
    """20 pieces a split of 5 to 40 frames, each a chord or silence."""
    generator = np.random.default_rng(0)
    chords = ([], [48, 64, 67, 72], [53, 65, 69, 72], [55, 62, 67, 71])
    pieces = {
        split: [
            [chords[i] for i in generator.integers(0, 4, generator.integers(5, 41))]
            for _ in range(20)
        ]
        for split in ("train", "valid", "test")
    }
    folder.mkdir()
    (folder / "jsb-chorales-quarter.json").write_text(json.dumps(pieces))


def write_spoken_digits(folder: Path) -> None:
    """Takes 0, 5 and 10 of two speakers, each digit a tone of its own between 300 and 3000 Hz."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    with zipfile.ZipFile(folder / "recordings.zip", "w") as archive:
        for digit, (speaker, gain), take in itertools.product(
            range(10), {"ann": 20_000, "bob": 4_000}.items(), (0, 5, 10)
        ):
            times = np.arange(generator.integers(800, 1600)) / 8000
            tone = np.sin(2 * np.pi * 300 * (digit + 1) * times) * np.sin(np.pi * times / times[-1])
            file = io.BytesIO()
            with wave.open(file, "wb") as recording:
                recording.setparams((1, 2, 8000, 0, "NONE", ""))
                recording.writeframes((gain * tone).astype("<i2").tobytes())
            archive.writestr(f"{digit}_{speaker}_{take}.wav", file.getvalue())


def _write_corpora(folder: Path, text: str, generator: np.random.Generator) -> None:
    from research.data.tokenizers import TrainedSubword

    source = folder / "tinyshakespeare" / "input.txt"
    for name, special in {"gpt2": ("<|endoftext|>",), "llama2": ("<s>", "</s>")}.items():
        (folder / name).mkdir()
        tokenizer = TrainedSubword((str(source),), 290, special_tokens=special)
        tokenizer.save(folder / name / "tokenizer.json")
    (folder / "t5").mkdir()
    special = ("<pad>", "</s>", "<unk>", *(f"<extra_id_{i}>" for i in range(4)))
    tokenizer = TrainedSubword((str(source),), 40, "unigram", special_tokens=special)
    tokenizer.save(folder / "t5" / "tokenizer.json")
    (folder / "bert").mkdir()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = TrainedSubword((str(source),), 290, "wordpiece", special_tokens=special)
    tokenizer.save(folder / "bert" / "tokenizer.json")
    # Of a few words only: the hash that splits them is of the text.
    documents = [f"{i} {text[start : start + 60]}" for i, start in enumerate(range(0, 12_000, 60))]
    write_tfds_texts(folder / "tfds", "openwebtext", documents)
    (folder / "tinystories").mkdir()
    for split in ("train", "valid"):
        stories = "\n<|endoftext|>\n".join(documents[:50])
        (folder / "tinystories" / f"TinyStories-{split}.txt").write_text(stories)
    (folder / "ptb").mkdir()
    words = [f"word{i}" for i in range(30)]
    for split, count in {"train": 3000, "valid": 700, "test": 500}.items():
        drawn = [words[i] for i in generator.integers(len(words), size=count)]
        lines = "".join(f" {' '.join(drawn[i : i + 10])} \n" for i in range(0, count, 10))
        with lzma.open(folder / "ptb" / f"ptb.{split}.txt.xz", "wt", preset=0) as file:
            file.write(lines)


def write_names(folder: Path) -> None:
    """Sentences of three to seven words, of which some are names, of two words or one."""
    kinds = {"LOC": "Lima", "MISC": "Liga", "ORG": "EFE", "PER": "Ana"}
    generator = np.random.default_rng(0)
    folder.mkdir()
    with zipfile.ZipFile(folder / "conll2002.zip", "w") as archive:
        for split, count in {"train": 48, "testa": 20, "testb": 20}.items():
            lines = []
            for _ in range(count):
                for kind in generator.choice([*kinds, "", ""], generator.integers(3, 6)):
                    lines.append(f"{kinds[kind]} NC B-{kind}" if kind else "está VMI O")
                    if kind and generator.random() < 0.3:
                        lines.append(f"Coruña NC I-{kind}")
                lines.append("")
            archive.writestr(f"conll2002/esp.{split}", "\n".join(lines))


def write_reviews(folder: Path) -> None:
    """Reviews of 4 to 20 words, most of which are as good or bad as the film."""
    words = {0: ("bad", "dull", "awful", "boring"), 1: ("good", "fine", "moving", "great")}
    generator = np.random.default_rng(0)
    folder.mkdir()
    for split, count in {"train": 180, "test": 40}.items():
        with lzma.open(folder / f"{split}.jsonl.xz", "wt", encoding="utf-8", preset=0) as file:
            for i in range(count):
                label, length = i % 2, generator.integers(4, 20)
                text = " ".join(generator.choice([*words[label], "the", "film"], length))
                row = {"id": i, "label": label, "rating": 2 + 6 * label, "text": f"{text}!<br />"}
                file.write(json.dumps(row) + "\n")


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


def write_imagenet(folder: Path, num_train: int = 48, num_validation: int = 20) -> None:
    """Pictures of 10 classes and of all shapes, as TFDS has those of ImageNet."""
    from PIL import Image

    generator = np.random.default_rng(0)

    def picture(label: int) -> tuple[np.ndarray, int]:
        # Patches of colour around that of the class, of 3 by 3 to 6 by 6.
        patches = 25 * label + generator.integers(0, 25, (*generator.integers(3, 7, 2), 3))
        size = tuple(int(side) for side in generator.integers(36, 72, 2))
        return np.asarray(Image.fromarray(patches.astype(np.uint8)).resize(size)), label

    counts = {"train": num_train, "validation": num_validation}
    splits = {name: [picture(i % 10) for i in range(count)] for name, count in counts.items()}
    write_tfds(folder, "imagenet2012", splits, num_classes=10, encoding="JPEG")


def write_tfds(
    folder: Path,
    name: str,
    splits: Mapping[str, Sequence[tuple[np.ndarray, int]]],
    num_classes: int,
    encoding: str = "PNG",
) -> None:
    """Writes pictures (height, width[, 3]) and labels as TFDS prepares them, without TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image

    def features_of(example: tuple[np.ndarray, int]) -> dict[str, bytes | int]:
        pixels, label = example
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, encoding)
        return {"image": file.getvalue(), "label": label}

    first, _ = next(iter(splits.values()))[0]
    features = {
        "image": tfds.features.Image(shape=(None, None, 1 if first.ndim == 2 else 3)),
        "label": tfds.features.ClassLabel(num_classes=num_classes),
    }
    records = {split: [features_of(x) for x in examples] for split, examples in splits.items()}
    _write_records(folder / name / "1.0.0", name, features, records)


def write_tfds_texts(folder: Path, name: str, texts: Sequence[str]) -> None:
    """Writes texts as the split "train" of a TFDS data set such as openwebtext."""
    import tensorflow_datasets as tfds

    records = {"train": [{"text": text.encode()} for text in texts]}
    _write_records(folder / name / "1.0.0", name, {"text": tfds.features.Text()}, records)


def _write_records(
    root: Path,
    name: str,
    features: Mapping[str, object],
    splits: Mapping[str, Sequence[Mapping[str, bytes | int]]],
) -> None:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    root.mkdir(parents=True)
    described = tfds.features.FeaturesDict(features).to_json()
    (root / "features.json").write_text(json.dumps(described))
    for split, examples in splits.items():
        path = root / f"{name}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for values in examples:
            example = tf_example_pb2.Example()
            for key, value in values.items():
                feature = example.features.feature[key]
                kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
                kind.value.append(value)
            writer.write(example.SerializeToString())
        writer.close()
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "array_record",
        "splits": [
            {
                "name": split,
                "shardLengths": [str(len(examples))],
                "numBytes": "1000",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split, examples in splits.items()
        ],
    }
    (root / "dataset_info.json").write_text(json.dumps(info))
