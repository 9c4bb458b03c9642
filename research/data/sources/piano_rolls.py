"""Pieces of music as piano rolls."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_text
from research.data.midi import LOWEST_PITCH, NUM_KEYS
from research.errors import UserError
from research.suggestion import did_you_mean


@dataclass(frozen=True)
class PianoRolls:
    """The pieces of one split of a JSON file (or .gz, .xz): {split: [piece, …]}, a piece a list of
    frames, a frame the list of MIDI pitches that sound in it, 21 (A0) to 108 (C8), none in silence.

    A batch has frames float32 (N, longest piece, 88), 1 where a key sounds and 0 behind a piece's
    end, and frame_mask float32 (N, longest piece), 1 where there is music.
    """

    file: str
    split: str

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        arrays = decode_once([path], repr(self), lambda: self._decode(path), worth_keeping([path]))
        return Dataset(len(arrays["length"]), arrays, gather_rolls, lengths=arrays["length"])

    def _decode(self, path: Path) -> Iterator[dict[str, np.ndarray]]:
        try:
            splits = json.loads(read_text(path))
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}.") from error
        if not isinstance(splits, dict):
            raise UserError(f"{path} is a {type(splits).__name__}, not an object of splits.")
        if self.split not in splits:
            hint = did_you_mean(self.split, splits, listed=True)
            raise UserError(f"{path} has no split {self.split!r}{hint}")
        pieces = splits[self.split]
        if not isinstance(pieces, list) or not pieces:
            raise UserError(f"{path}: the split {self.split!r} holds no pieces.")
        rolls = [
            _roll(piece, f"{path}, split {self.split!r}, piece {number}")
            for number, piece in enumerate(pieces)
        ]
        length = np.asarray([len(roll) for roll in rolls], np.int32)
        keys = np.zeros((len(rolls), length.max(), NUM_KEYS), np.uint8)
        for row, roll in zip(keys, rolls, strict=True):
            row[: len(roll)] = roll
        yield {"keys": keys, "length": length}


def gather_rolls(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Padded piano rolls with the mask that their lengths make."""
    frames = arrays["keys"][indices].astype(np.float32)
    has_music = np.arange(frames.shape[1]) < arrays["length"][indices][:, None]
    return {"frames": frames, "frame_mask": has_music.astype(np.float32)}


def _roll(piece: Any, place: str) -> Bool[np.ndarray, "frames 88"]:
    """Which keys sound in each frame of a piece."""
    if not isinstance(piece, list) or not piece:
        raise UserError(f"{place} is {piece!r}, not a list of frames.")
    roll = np.zeros((len(piece), NUM_KEYS), bool)
    for number, frame in enumerate(piece):
        if not isinstance(frame, list):
            raise UserError(f"{place}, frame {number} is {frame!r}, not a list of pitches.")
        for pitch in frame:
            if type(pitch) is not int or not 0 <= pitch - LOWEST_PITCH < NUM_KEYS:
                raise UserError(
                    f"{place}, frame {number}: {pitch!r} is no MIDI pitch of a piano, an integer "
                    f"from {LOWEST_PITCH} to {LOWEST_PITCH + NUM_KEYS - 1}."
                )
            roll[number, pitch - LOWEST_PITCH] = True
    return roll
