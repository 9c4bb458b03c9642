"""Recordings in wav files whose names say what is in them."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int16

from research.data.audio import LogMel
from research.data.cache import decode_once
from research.data.dataset import Dataset
from research.data.files import Place, file_of, find_folder, natural_order
from research.data.wav import read_wav
from research.errors import UserError
from research.suggestion import did_you_mean

RECORDINGS_A_PIECE = 256

logger = logging.getLogger(__name__)


class Waves(NamedTuple):
    """Recordings one after the other; recording i is samples[starts[i] : starts[i + 1]].

    `label` is its class, `speaker` the number of who speaks, 0 where names do not say.
    """

    samples: Int16[np.ndarray, " samples"]
    starts: Int[np.ndarray, " recordings_and_one"]
    label: Int[np.ndarray, " recordings"]
    speaker: Int[np.ndarray, " recordings"]


@dataclass(frozen=True)
class Recordings:
    r"""One spectrogram and its class for each wav file in a folder ("archive.zip" or
    "archive.zip:folder" where it is in one) whose name, without ".wav", is of `pattern`.

    This regular expression has a group `label`, one of `classes`, and may have one `speaker`, of
    which `JoinedRecordings` makes use; it also chooses what belongs to a split:
    r"(?P<label>\d)_(?P<speaker>\w+)_[0-4]" are a speaker's takes 0 to 4 of each digit. Other files
    are left out. Files are in natural order: take 2 is before take 10.

    Spectrograms are cut to `max_frames`, and how many were is logged. With `on_corrupt` "skip"
    files that cannot be read are left out, and how many is logged; "stop" refuses them. All is
    decoded once and kept in the cache.

    A batch has inputs float32 (N, max_frames, features), input_mask float32 (N, max_frames), 0
    where there is padding, and label int32 (N,).
    """

    folder: str
    pattern: str
    classes: tuple[str, ...]
    max_frames: int
    features: LogMel = LogMel()
    on_corrupt: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise UserError(
                f"Recordings.pattern {self.pattern!r} is not valid: {error}."
            ) from error
        if "label" not in groups:
            raise UserError(f"Recordings.pattern {self.pattern!r} has no group (?P<label>…).")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(
                f"Recordings.classes must name each class once, at least one; got {self.classes}."
            )
        if self.max_frames < 1:
            raise UserError(f"Recordings.max_frames must be at least 1; got {self.max_frames}.")
        if self.on_corrupt not in ("stop", "skip"):
            raise UserError(
                f"Recordings.on_corrupt must be 'stop' or 'skip', not {self.on_corrupt!r}."
            )

    def open(self, data_dir: Path) -> Dataset:
        found = self._find(data_dir)
        arrays = decode_once(_files_of(found), repr(self), lambda: self._spectrograms(found))
        self._tell_skipped(len(found), len(arrays["label"]))
        num_cut = int(np.sum(arrays["num_frames"] > self.max_frames))
        if num_cut:
            logger.warning(
                "%s: %d of %d recordings are longer than max_frames = %d and were cut.",
                self.folder,
                num_cut,
                len(arrays["label"]),
                self.max_frames,
            )
        lengths = np.minimum(arrays["num_frames"], self.max_frames)
        return Dataset(len(lengths), arrays, gather_spectrograms, lengths=lengths)

    def waves(self, data_dir: Path) -> Waves:
        """The recordings themselves."""
        found = self._find(data_dir)
        rate = self.features.sample_rate
        settings = f"waves {self.folder} {self.pattern} {self.classes} {rate} {self.on_corrupt}"
        arrays = decode_once(_files_of(found), settings, lambda: self._waves(found))
        self._tell_skipped(len(found), len(arrays["label"]))
        starts = np.concatenate([[0], np.cumsum(arrays["num_samples"])])
        return Waves(arrays["samples"], starts, arrays["label"], arrays["speaker"])

    def _find(self, data_dir: Path) -> list[tuple[Place, re.Match[str]]]:
        """The files of the pattern in their order."""
        folder = find_folder(data_dir, self.folder)
        wavs = {
            place.name[:-4]: place
            for place in folder.iterdir()
            if place.name.lower().endswith(".wav")
        }
        if not wavs:
            raise UserError(f"{folder} holds no wav files.")
        names = sorted(wavs, key=natural_order)
        matches = [re.fullmatch(self.pattern, name) for name in names]
        found = [(wavs[match[0]], match) for match in matches if match is not None]
        if not found:
            raise UserError(
                f"{folder}: the name of none of {len(wavs)} wav files, such as {names[0]!r}, is of "
                f"Recordings.pattern {self.pattern!r}."
            )
        for place, match in found:
            if match["label"] not in self.classes:
                raise UserError(
                    f"{place}: its label {match['label']!r} is none of Recordings.classes"
                    f"{did_you_mean(match['label'] or '', self.classes)}"
                )
        return found

    def _read(
        self, found: Sequence[tuple[Place, re.Match[str]]]
    ) -> Iterator[tuple[Int16[np.ndarray, " samples"], int, str]]:
        """Samples, label and speaker of those that can be read."""
        for place, match in found:
            try:
                samples = read_wav(place, self.features.sample_rate)
            except UserError as error:
                if self.on_corrupt == "stop":
                    hint = 'Recordings.on_corrupt = "skip" leaves such files out.'
                    raise UserError(f"{error} {hint}") from error
                continue
            yield samples, self.classes.index(match["label"]), match.groupdict().get("speaker", "")

    def _spectrograms(
        self, found: Sequence[tuple[Place, re.Match[str]]]
    ) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(found), RECORDINGS_A_PIECE):
            read = list(self._read(found[start : start + RECORDINGS_A_PIECE]))
            spectrograms = [self.features(to_float(samples)) for samples, _, _ in read]
            yield {
                "inputs": padded(spectrograms, self.max_frames, self.features.num_mels),
                "num_frames": np.asarray([len(x) for x in spectrograms], np.int32),
                "label": np.asarray([label for _, label, _ in read], np.int32),
            }

    def _waves(
        self, found: Sequence[tuple[Place, re.Match[str]]]
    ) -> Iterator[dict[str, np.ndarray]]:
        speakers = sorted({match.groupdict().get("speaker", "") for _, match in found})
        for samples, label, speaker in self._read(found):
            yield {
                "samples": samples,
                "num_samples": np.asarray([len(samples)]),
                "label": np.asarray([label], np.int32),
                "speaker": np.asarray([speakers.index(speaker)], np.int32),
            }

    def _tell_skipped(self, num_found: int, num_read: int) -> None:
        if num_read == 0:
            raise UserError(f"{self.folder}: all {num_found} recordings are corrupt.")
        if num_read < num_found:
            logger.warning(
                "%s: %d of %d recordings are corrupt, and left out.",
                self.folder,
                num_found - num_read,
                num_found,
            )


def gather_spectrograms(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded spectrograms with the masks that their lengths make."""
    inputs = arrays["inputs"][indices]
    is_inside = np.arange(inputs.shape[1]) < arrays["num_frames"][indices][:, None]
    return {
        "inputs": inputs,
        "input_mask": is_inside.astype(np.float32),
        "label": arrays["label"][indices],
    }


def to_float(samples: Int16[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Samples in [-1, 1), float32."""
    return samples.astype(np.float32) / 32_768.0


def padded(
    spectrograms: Sequence[Float[np.ndarray, "_frames features"]], max_frames: int, features: int
) -> Float[np.ndarray, "batch max_frames features"]:
    """The spectrograms, cut to `max_frames`, with zeros behind them."""
    rows = np.zeros((len(spectrograms), max_frames, features), np.float32)
    for row, spectrogram in zip(rows, spectrograms, strict=True):
        row[: len(spectrogram)] = spectrogram[:max_frames]
    return rows


def _files_of(found: Sequence[tuple[Place, re.Match[str]]]) -> list[Path]:
    return sorted({file_of(place) for place, _ in found})
