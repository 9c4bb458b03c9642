"""Piano rolls as MIDI files, and MIDI files as piano rolls."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from research.errors import UserError

LOWEST_PITCH, NUM_KEYS = 21, 88  # a piano's keys: A0 to C8
TICKS_PER_FRAME = 480
DRUMS = 9  # the channel whose notes are no pitches


class Note(NamedTuple):
    """A key, counted from A0, that sounds from frame `start` up to `stop`."""

    key: int
    start: int
    stop: int


def held_notes(roll: Bool[np.ndarray, "frames 88"]) -> list[Note]:
    """The notes of a piano roll; a key that sounds in frames on end is one of them."""
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    starts, stops = np.argwhere(edges.T > 0), np.argwhere(edges.T < 0)
    return [
        Note(int(key), int(start), int(stop))
        for (key, start), (_, stop) in zip(starts, stops, strict=True)
    ]


def encode_midi(roll: Bool[np.ndarray, "frames 88"], seconds_per_frame: float) -> bytes:
    """A MIDI file's bytes: a frame is a quarter note, a key that sounds on end a held one."""
    import mido

    events = [(0, mido.MetaMessage("set_tempo", tempo=round(seconds_per_frame * 1e6)))]
    for note in held_notes(roll):
        pitch = LOWEST_PITCH + note.key
        events += [
            (note.stop, mido.Message("note_off", note=pitch)),
            (note.start, mido.Message("note_on", note=pitch, velocity=80)),
        ]
    events.append((len(roll), mido.MetaMessage("end_of_track")))
    track, before = mido.MidiTrack(), 0
    # What ends in a frame ends before anything begins in it; the track ends last.
    order = {"set_tempo": 0, "note_off": 1, "note_on": 2, "end_of_track": 3}
    for frame, message in sorted(events, key=lambda event: (event[0], order[event[1].type])):
        track.append(message.copy(time=(frame - before) * TICKS_PER_FRAME))
        before = frame
    file = BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_FRAME, tracks=[track]).save(file=file)
    return file.getvalue()


def read_midi(path: Path) -> Bool[np.ndarray, "frames 88"]:
    """What sounds at the beginning of each quarter note of a MIDI file, drums apart.

    Raises UserError where the file cannot be read, is no MIDI file, holds no note, or has one that
    no piano has.
    """
    import mido

    try:
        file = mido.MidiFile(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (EOFError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no MIDI file, or a corrupt one: {error}.") from error
    ticks, notes = 0, []
    began: dict[tuple[int, int], int] = {}
    for message in mido.merge_tracks(file.tracks):
        ticks += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        if not 0 <= message.note - LOWEST_PITCH < NUM_KEYS:
            raise UserError(f"{path} has the pitch {message.note}, which is on no piano.")
        start = began.pop((message.channel, message.note), None)
        if start is not None:
            frames = (-(-tick // file.ticks_per_beat) for tick in (start, ticks))
            notes.append(Note(message.note - LOWEST_PITCH, *frames))
        if message.type == "note_on" and message.velocity > 0:
            began[message.channel, message.note] = ticks
    if not notes:
        raise UserError(f"{path} holds no notes.")
    roll = np.zeros((-(-ticks // file.ticks_per_beat), NUM_KEYS), bool)
    for note in notes:
        roll[note.start : note.stop, note.key] = True
    return roll
