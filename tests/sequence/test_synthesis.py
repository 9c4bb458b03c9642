"""What piano rolls sound like."""

import numpy as np
import pytest

from research.sequence.synthesis import synthesize

RATE = 8000


def test_a_key_sounds_at_its_pitch_while_it_is_held():
    roll = np.zeros((4, 88), bool)
    roll[1:3, 69 - 21] = True  # A4
    samples = synthesize(roll, 0.5, RATE)
    assert np.abs(samples).max() == pytest.approx(0.9)
    held = samples[RATE // 2 : 3 * RATE // 2]
    spectrum = np.abs(np.fft.rfft(held))
    assert spectrum.argmax() == 440
    assert not samples[: RATE // 2].any()
    assert not samples[3 * RATE // 2 + RATE // 4 :].any()
    # It begins and ends without a click: no step is larger than the tone's own.
    assert np.abs(np.diff(samples)).max() < 1.2 * np.abs(np.diff(held)).max()


def test_full_chords_are_not_clipped_and_silence_is_silent():
    assert np.abs(synthesize(np.ones((2, 88), bool), 0.3, RATE)).max() == pytest.approx(0.9)
    assert not synthesize(np.zeros((2, 88), bool), 0.3, RATE).any()
