"""Pieces of music: what a batch holds, and what is said of pieces that are none."""

import json

import numpy as np
import pytest

from research.data.sources import PianoRolls
from research.errors import UserError


def opened(folder, train):
    (folder / "a.json").write_text(json.dumps({"train": train, "valid": [[[60]]]}))
    return PianoRolls("a.json", "train").open(folder)


def test_frames_are_keys_and_pieces_are_padded(tmp_path):
    dataset = opened(tmp_path, [[[21, 108], [], [60]], [[60, 64, 67]]])
    assert dataset.size == 2
    batch = dataset.gather(dataset.arrays, np.asarray([1, 0]))
    assert batch["frames"].shape == (2, 3, 88)
    np.testing.assert_array_equal(batch["frame_mask"], [[1, 0, 0], [1, 1, 1]])
    sounding = [[list(np.flatnonzero(frame)) for frame in piece] for piece in batch["frames"]]
    assert sounding == [[[39, 43, 46], [], []], [[0, 87], [], [39]]]


@pytest.mark.parametrize(
    ("piece", "complaint"),
    [
        ([], r"piece 1 is \[\], not a list of frames"),
        (None, r"piece 1 is None, not a list of frames"),
        ([[60], 60], r"piece 1, frame 1 is 60, not a list of pitches"),
        ([[60], [60, 109]], r"piece 1, frame 1: 109 is no MIDI pitch of a piano"),
        ([[20]], r"piece 1, frame 0: 20 is no MIDI pitch of a piano, an integer from 21 to 108"),
        ([[60.5]], r"piece 1, frame 0: 60\.5 is no MIDI pitch"),
    ],
)
def test_a_malformed_piece_is_named(tmp_path, piece, complaint):
    with pytest.raises(UserError, match=rf"a\.json, split 'train', {complaint}"):
        opened(tmp_path, [[[60]], piece])


def test_a_file_without_the_split_is_named(tmp_path):
    opened(tmp_path, [[[60]]])
    with pytest.raises(UserError, match=r"a\.json has no split 'vaild'.*'?valid"):
        PianoRolls("a.json", "vaild").open(tmp_path)
    with pytest.raises(UserError, match=r"the split 'train' holds no pieces"):
        opened(tmp_path, [])
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"a\.json is a list, not an object of splits"):
        PianoRolls("a.json", "train").open(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        PianoRolls("a.json", "train").open(tmp_path)
