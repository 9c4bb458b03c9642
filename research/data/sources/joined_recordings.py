"""Strings of words, joined from recordings of single ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.audio import LogMel
from research.data.dataset import Dataset
from research.data.sources.recordings import Recordings, Waves, padded, to_float
from research.errors import UserError

MAX_DRAWS = 100


@dataclass(frozen=True)
class JoinedRecordings:
    """`size` strings of `min_count` to `max_count` recordings each, drawn by `seed`.

    A string is of one speaker, drawn evenly, where the recordings' names say who speaks; how many
    recordings there are and which is drawn evenly, with repetition. Before each of them and behind
    the last is silence (zeros) of `pause`, (shortest, longest), seconds. A string that would be
    longer than `max_seconds` is drawn anew. `max_frames` of the recordings is of no matter here:
    all of them are heard in full.

    Only single recordings are in memory; spectrograms are made of whole strings, a batch at a time.
    A batch has inputs float32 (N, frames of the longest, features), input_mask float32 (N, frames),
    labels int32 (N, max_count) and label_mask float32 (N, max_count), 0 where there is padding.
    """

    recordings: Recordings
    size: int
    min_count: int = 3
    max_count: int = 6
    pause: tuple[float, float] = (0.0, 0.3)
    max_seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"JoinedRecordings.size must be at least 1; got {self.size}.")
        if not 1 <= self.min_count <= self.max_count:
            raise UserError(
                "JoinedRecordings.min_count must be at least 1 and at most max_count; got "
                f"{self.min_count} and {self.max_count}."
            )
        if len(self.pause) != 2 or not 0 <= self.pause[0] <= self.pause[1]:
            raise UserError(
                "JoinedRecordings.pause must be (shortest, longest) in seconds, at least 0; got "
                f"{self.pause}."
            )
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise UserError(
                f"JoinedRecordings.max_seconds must be above 0; got {self.max_seconds}."
            )
        if self.seed < 0:
            raise UserError(f"JoinedRecordings.seed must be at least 0; got {self.seed}.")

    def open(self, data_dir: Path) -> Dataset:
        waves, features = self.recordings.waves(data_dir), self.recordings.features
        generator = np.random.default_rng(self.seed)
        limit = math.inf if self.max_seconds is None else self.max_seconds * features.sample_rate
        strings = self._draw(waves, generator, self.size)
        for _ in range(MAX_DRAWS):
            too_long = np.flatnonzero(strings["num_samples"] > limit)
            if not len(too_long):
                break
            for name, rows in self._draw(waves, generator, len(too_long)).items():
                strings[name][too_long] = rows
        else:
            raise UserError(
                f"JoinedRecordings.max_seconds = {self.max_seconds}: hardly a string of "
                f"{self.min_count} to {self.max_count} recordings is as short as that."
            )
        num_samples = strings.pop("num_samples")
        strings["num_frames"] = np.asarray([features.num_frames(n) for n in num_samples], np.int32)
        arrays = {"samples": waves.samples, "starts": waves.starts, **strings}
        lengths = strings["num_frames"]
        gather = _Join(features, int(lengths.max()))
        return Dataset(self.size, arrays, gather, on_device=False, lengths=lengths)

    def _draw(
        self, waves: Waves, generator: np.random.Generator, size: int
    ) -> dict[str, np.ndarray]:
        """Which recordings so many strings are of, the samples of silence before each of them and
        at the end, and what follows from these."""
        counts = generator.integers(self.min_count, self.max_count + 1, size)
        speakers = np.unique(waves.speaker)
        speaker = speakers[generator.integers(len(speakers), size=size)]
        recordings = np.zeros((size, self.max_count), np.int32)
        for one in speakers:
            rows, own = np.flatnonzero(speaker == one), np.flatnonzero(waves.speaker == one)
            recordings[rows] = generator.choice(own, (len(rows), self.max_count))
        places = np.arange(self.max_count + 1)
        seconds = generator.uniform(*self.pause, (size, self.max_count + 1))
        pauses = np.rint(seconds * self.recordings.features.sample_rate).astype(np.int32)
        pauses = pauses * (places <= counts[:, None])
        is_there = places[:-1] < counts[:, None]
        lengths = np.diff(waves.starts)[recordings] * is_there
        return {
            "recordings": recordings,
            "pauses": pauses,
            "labels": waves.label[recordings] * is_there,
            "label_mask": is_there.astype(np.float32),
            "num_samples": lengths.sum(1) + pauses.sum(1),
        }


@dataclass(frozen=True)
class _Join:
    """Makes the spectrograms of strings; a class, because reading processes must be able to pickle
    it."""

    features: LogMel
    max_frames: int

    def __call__(self, arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
        spectrograms = [self.features(_string(arrays, index)) for index in indices]
        is_inside = np.arange(self.max_frames) < arrays["num_frames"][indices][:, None]
        return {
            "inputs": padded(spectrograms, self.max_frames, self.features.num_mels),
            "input_mask": is_inside.astype(np.float32),
            "labels": arrays["labels"][indices],
            "label_mask": arrays["label_mask"][indices],
        }


def _string(arrays: Mapping[str, Any], index: int) -> np.ndarray:
    """The samples of a string."""
    pauses, starts = arrays["pauses"][index], arrays["starts"]
    recordings = arrays["recordings"][index][arrays["label_mask"][index] > 0]
    parts = [np.zeros(pauses[0], np.int16)]
    for recording, pause in zip(recordings, pauses[1:], strict=False):
        samples = arrays["samples"][starts[recording] : starts[recording + 1]]
        parts += [samples, np.zeros(pause, np.int16)]
    return to_float(np.concatenate(parts))
