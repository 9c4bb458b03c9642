"""Piano rolls as MIDI files and back."""

import mido
import numpy as np
import pytest

from research.data.midi import LOWEST_PITCH, Note, encode_midi, held_notes, read_midi
from research.errors import UserError


def test_a_roll_comes_back_from_its_midi_file(tmp_path):
    roll = np.random.default_rng(0).random((40, 88)) < 0.1
    roll[:3], roll[-2:] = False, False  # silence before and behind
    roll[5:9, [0, 87]] = True
    (tmp_path / "a.mid").write_bytes(encode_midi(roll, 0.5))
    np.testing.assert_array_equal(read_midi(tmp_path / "a.mid"), roll)
    assert mido.MidiFile(tmp_path / "a.mid").length == pytest.approx(40 * 0.5)


def test_a_key_that_sounds_on_end_is_one_note():
    roll = np.zeros((5, 88), bool)
    roll[1:4, 7] = roll[4, 8] = roll[0, 8] = True
    assert held_notes(roll) == [Note(7, 1, 4), Note(8, 0, 1), Note(8, 4, 5)]


def test_a_file_of_another_program_is_read(tmp_path):
    """Two tracks, notes that end by a velocity of 0, drums, and notes between the beats."""
    melody = mido.MidiTrack(
        [
            mido.Message("note_on", note=60, velocity=64),
            mido.Message("note_on", note=60, velocity=0, time=192),
            mido.Message("note_on", note=62, velocity=64),
            mido.Message("note_on", note=62, velocity=0, time=10),
            mido.Message("note_on", note=64, velocity=64, time=10),
            mido.Message("note_off", note=64, time=10),
        ]
    )
    bass = mido.MidiTrack(
        [
            mido.Message("note_on", note=40, velocity=64, channel=1, time=96),
            mido.Message("note_on", note=35, velocity=64, channel=9),
            mido.Message("note_off", note=40, channel=1, time=180),
        ]
    )
    mido.MidiFile(ticks_per_beat=96, tracks=[melody, bass]).save(tmp_path / "a.mid")
    frames = [list(np.flatnonzero(frame) + LOWEST_PITCH) for frame in read_midi(tmp_path / "a.mid")]
    assert frames == [[60], [40, 60], [40, 62]]


def test_what_is_no_music_is_said(tmp_path):
    file = tmp_path / "a.mid"
    with pytest.raises(UserError, match=r"a\.mid cannot be read: No such file"):
        read_midi(file)
    file.write_bytes(b"MThd and no more")
    with pytest.raises(UserError, match=r"a\.mid is no MIDI file, or a corrupt one"):
        read_midi(file)
    file.write_bytes(b"no MIDI at all, but text")
    with pytest.raises(UserError, match=r"a\.mid .*MThd not found"):
        read_midi(file)
    file.write_bytes(encode_midi(np.zeros((4, 88), bool), 0.5))
    with pytest.raises(UserError, match=r"a\.mid holds no notes"):
        read_midi(file)
    track = mido.MidiTrack([mido.Message("note_on", note=10), mido.Message("note_off", note=10)])
    mido.MidiFile(tracks=[track]).save(file)
    with pytest.raises(UserError, match=r"a\.mid has the pitch 10, which is on no piano"):
        read_midi(file)
