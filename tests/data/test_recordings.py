"""Recordings by the names of their files, and strings of them: what a batch has, and what is said
of files that are wrong."""

import io
import logging
import pickle
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from research.data.audio import LogMel
from research.data.sources import JoinedRecordings, Recordings
from research.errors import UserError

RATE = 800
FEATURES = LogMel(RATE, 4)
PATTERN = r"(?P<label>\w+)_(?P<speaker>[a-z]+)_\d+"
RECORDINGS = Recordings("spoken", PATTERN, ("no", "yes"), 12, FEATURES)
SAMPLES = {
    f"{label}_{speaker}_{take}": np.random.default_rng(seed).integers(
        -9000, 9000, 60 + 10 * take, np.int16
    )
    for seed, (label, speaker, take) in enumerate(
        (label, speaker, take)
        for label in ("no", "yes")
        for speaker in ("ann", "bob")
        for take in (2, 10)
    )
}
NAMES = ["no_ann_2", "no_ann_10", "no_bob_2", "no_bob_10"]
NAMES += [name.replace("no", "yes") for name in NAMES]


def wav(samples, rate=RATE, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((channels, width, rate, 0, "NONE", ""))
        recording.writeframes(samples.astype(f"<i{width}").tobytes())
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder, and the same in an archive."""
    (tmp_path / "spoken").mkdir()
    (tmp_path / "spoken" / "README.txt").write_text("about")
    with zipfile.ZipFile(tmp_path / "spoken.zip", "w") as archive:
        for name, samples in SAMPLES.items():
            (tmp_path / "spoken" / f"{name}.wav").write_bytes(wav(samples))
            archive.writestr(f"{name}.wav", wav(samples))
            archive.writestr(f"inner/{name}.wav", wav(samples))
    return tmp_path


def expected(name):
    return FEATURES(SAMPLES[name].astype(np.float32) / 2**15)


@pytest.mark.parametrize("place", ["spoken", "spoken.zip", "spoken.zip:", "spoken.zip:inner"])
def test_one_spectrogram_a_file_in_natural_order(folder, place):
    for _ in range(2):  # decoded, and from the cache
        dataset = replace(RECORDINGS, folder=place).open(folder)
        assert dataset.size == 8 == len(dataset.lengths)
        batch = dataset.gather(dataset.arrays, np.asarray([5, 0]))
        assert batch["inputs"].shape == (2, 12, 4)
        assert batch["label"].tolist() == [1, 0]
        for row, name in enumerate((NAMES[5], NAMES[0])):
            right = expected(name)
            np.testing.assert_allclose(batch["inputs"][row, : len(right)], right[:12])
            assert batch["input_mask"][row].sum() == min(12, len(right))
            assert dataset.lengths[NAMES.index(name)] == min(12, len(right))
            assert not batch["inputs"][row, len(right) :].any()
        under_jit = jax.jit(dataset.gather)(dict(dataset.arrays), np.asarray([5, 0]))
        for name, array in batch.items():
            np.testing.assert_array_equal(under_jit[name], array)
            assert under_jit[name].dtype == array.dtype


def test_the_pattern_chooses_a_split(folder, caplog):
    test = replace(RECORDINGS, pattern=r"(?P<label>\w+)_ann_2", max_frames=5)
    with caplog.at_level(logging.WARNING):
        dataset = test.open(folder)
    assert dataset.arrays["label"].tolist() == [0, 1]
    assert "2 of 2 recordings are longer than max_frames = 5 and were cut" in caplog.text
    with pytest.raises(UserError, match=r"none of 8 wav files, such as 'no_ann_2', is of"):
        replace(test, pattern="(?P<label>x)").open(folder)
    with pytest.raises(UserError, match=r"label 'no' is none of Recordings.classes"):
        replace(RECORDINGS, classes=("oh", "yes")).open(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no_bob_2.wav is not a wav file of PCM, or a corrupt one"),
        (b"RIFF\x10\x00\x00\x00WAVEjunk", "not a wav file of PCM"),
        (wav(np.arange(99))[:100], "no_bob_2.wav is truncated: it has 28 of 99 samples"),
        (wav(np.arange(0)), "no_bob_2.wav is empty"),
        (wav(np.arange(9), rate=8000), r"8000 samples a second, not sample_rate = 800; set"),
        (wav(np.arange(8), channels=2), r"2 channel\(s\) of 16 bits; make it one of 16"),
        (wav(np.arange(8), width=4), r"1 channel\(s\) of 32 bits"),
    ],
)
@pytest.mark.parametrize("opened", [RECORDINGS, JoinedRecordings(RECORDINGS, 5)])
def test_files_that_are_wrong_are_named_or_left_out(folder, caplog, content, match, opened):
    (folder / "spoken" / "no_bob_2.wav").write_bytes(content)
    with pytest.raises(UserError, match=match):
        opened.open(folder)
    skipping = replace(RECORDINGS, on_corrupt="skip")
    joins = isinstance(opened, JoinedRecordings)
    with caplog.at_level(logging.WARNING):
        (replace(opened, recordings=skipping) if joins else skipping).open(folder)
    assert "spoken: 1 of 8 recordings are corrupt, and left out" in caplog.text
    if not joins:
        assert skipping.open(folder).size == 7
        for file in (folder / "spoken").glob("*.wav"):
            file.write_bytes(content)
        with pytest.raises(UserError, match="all 8 recordings are corrupt"):
            skipping.open(folder)


def test_a_corrupt_archive_is_named(folder):
    content = bytearray((folder / "spoken.zip").read_bytes())
    content[content.index(b"RIFF") + 60] ^= 255  # within the first recording
    (folder / "spoken.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"no_ann_2.wav is not a wav file .* CRC"):
        replace(RECORDINGS, folder="spoken.zip:").open(folder)
    (folder / "spoken.zip").write_bytes(content[:200])
    with pytest.raises(UserError, match=r"spoken.zip is no zip archive"):
        replace(RECORDINGS, folder="spoken.zip").open(folder)
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no wav files"):
        replace(RECORDINGS, folder="empty").open(folder)


STRINGS = JoinedRecordings(RECORDINGS, 40, 2, 4, pause=(0.01, 0.02))


def test_strings_are_of_one_speakers_recordings_with_silence_between(folder):
    # Each recording by what is heard of it, since a string's spectrogram is of all of it.
    dataset = STRINGS.open(folder)
    assert dataset.size == 40 and not dataset.on_device
    arrays = dataset.arrays
    batch = pickle.loads(pickle.dumps(dataset)).gather(arrays, np.arange(40))
    counts = batch["label_mask"].sum(1)
    assert set(counts) == {2, 3, 4}
    assert batch["labels"].dtype == np.int32 and batch["inputs"].dtype == np.float32
    for i in range(40):
        names = [NAMES[k] for k in arrays["recordings"][i, : int(counts[i])]]
        assert len({name.split("_")[1] for name in names}) == 1
        labels = [name.startswith("yes") for name in names]
        np.testing.assert_array_equal(batch["labels"][i, : len(names)], labels)
        pauses = arrays["pauses"][i, : len(names) + 1]
        assert pauses.min() >= 8 and pauses.max() <= 16
        parts = [np.zeros(pauses[0])]
        for name, pause in zip(names, pauses[1:], strict=True):
            parts += [SAMPLES[name] / 2**15, np.zeros(pause)]
        right = FEATURES(np.concatenate(parts).astype(np.float32))
        assert batch["input_mask"][i].sum() == len(right) == arrays["num_frames"][i]
        np.testing.assert_allclose(batch["inputs"][i, : len(right)], right, atol=1e-5)
        assert not batch["inputs"][i, len(right) :].any()
    assert batch["inputs"].shape[1] == arrays["num_frames"].max()
    np.testing.assert_array_equal(dataset.lengths, arrays["num_frames"])
    assert not batch["labels"][batch["label_mask"] == 0].any()


def test_strings_are_drawn_by_the_seed(folder):
    def drawn(source):
        dataset = source.open(folder)
        return dataset.gather(dataset.arrays, np.arange(dataset.size))

    first, again, other = drawn(STRINGS), drawn(STRINGS), drawn(replace(STRINGS, seed=1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["labels"] != other["labels"]).any()


def test_strings_are_as_short_as_asked(folder):
    frames = STRINGS.open(folder).arrays["num_frames"]
    seconds = float(np.median(frames)) * 8 / RATE
    short = replace(STRINGS, max_seconds=seconds).open(folder).arrays["num_frames"]
    assert frames.max() > short.max() and short.max() <= 1 + seconds * RATE / 8
    with pytest.raises(UserError, match=r"max_seconds = 0.05: hardly a string of 2 to 4"):
        replace(STRINGS, max_seconds=0.05).open(folder)


def test_without_speakers_anybody_speaks(folder):
    recordings = replace(RECORDINGS, pattern=r"(?P<label>\w+)_[a-z]+_\d+")
    arrays = replace(STRINGS, recordings=recordings).open(folder).arrays
    speakers = [{NAMES[k].split("_")[1] for k in row[:2]} for row in arrays["recordings"]]
    assert {"ann", "bob"} in speakers


def test_wrong_settings_are_named():
    for settings, match in (
        ({"pattern": "(?P<label>"}, "is not valid"),
        ({"pattern": r"\d"}, r"has no group \(\?P<label>…\)"),
        ({"classes": ()}, "name each class once"),
        ({"classes": ("a", "a")}, "name each class once"),
        ({"max_frames": 0}, "max_frames must be at least 1"),
        ({"on_corrupt": "hide"}, "must be 'stop' or 'skip', not 'hide'"),
    ):
        with pytest.raises(UserError, match=match):
            replace(RECORDINGS, **settings)
    for settings, match in (
        ({"size": 0}, "size must be at least 1"),
        ({"min_count": 5}, "at most max_count; got 5 and 4"),
        ({"pause": (0.2, 0.1)}, r"must be \(shortest, longest\)"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ):
        with pytest.raises(UserError, match=match):
            replace(STRINGS, **settings)
