"""What a piano roll sounds like."""

import numpy as np
from jaxtyping import Bool, Float

from research.data.midi import LOWEST_PITCH, held_notes

NUM_HARMONICS = 10
ATTACK, RELEASE = 0.015, 0.12  # seconds
LOUDEST = 0.9


def synthesize(
    roll: Bool[np.ndarray, "frames 88"], seconds_per_frame: float, sample_rate: int
) -> Float[np.ndarray, " samples"]:
    """A piano roll played by a struck string of ten harmonics, the higher the softer and the
    sooner gone; the loudest sample is ±0.9, or all are 0 in silence."""
    samples = np.zeros(round((len(roll) * seconds_per_frame + RELEASE) * sample_rate) + 1)
    for note in held_notes(roll):
        seconds = (note.stop - note.start) * seconds_per_frame
        tone = _tone(LOWEST_PITCH + note.key, seconds, sample_rate)
        start = round(note.start * seconds_per_frame * sample_rate)
        samples[start : start + len(tone)] += tone[: len(samples) - start]
    loudest = np.abs(samples).max()
    return samples * (LOUDEST / loudest) if loudest > 0 else samples


def _tone(pitch: int, seconds: float, sample_rate: int) -> Float[np.ndarray, " samples"]:
    """One key, held so long, with its attack and release."""
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    time = np.arange(round((seconds + RELEASE) * sample_rate)) / sample_rate
    tone = np.zeros(len(time))
    for harmonic in range(1, NUM_HARMONICS + 1):
        if harmonic * frequency < sample_rate / 2:
            decay = np.exp(-time * (0.5 + 0.4 * harmonic))
            tone += decay * np.sin(2 * np.pi * harmonic * frequency * time) / harmonic**1.5
    envelope = np.minimum(time / ATTACK, 1.0)
    envelope *= np.clip((seconds + RELEASE - time) / RELEASE, 0.0, 1.0)
    return tone * envelope
