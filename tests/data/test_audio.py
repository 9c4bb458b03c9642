"""Spectrograms: that they are those of other programs, and what does not change them."""

import numpy as np
import pytest

from research.data.audio import LogMel, mel_filters, power_to_db, stft_power
from research.errors import UserError
from tests.parity import load_table

RATE, N_FFT, HOP = 16_000, 400, 160


@pytest.fixture
def table():
    return load_table("log_mel")


@pytest.fixture
def wave(table):
    return np.asarray(table["inputs"]["wave"], np.float64)


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("mel_scale", "num_mels", "min_frequency"), [("slaney", 80, 0.0), ("htk", 40, 20.0)]
)
def test_filters(table, mel_scale, num_mels, min_frequency):
    expected = table["outputs"][f"filters_{mel_scale}_{num_mels}"]
    filters = mel_filters(num_mels, N_FFT, RATE, mel_scale, min_frequency)
    assert list(filters.shape) == expected["shape"]
    used = np.flatnonzero(filters.any(1))
    assert (used[0], used[-1]) == (expected["first_bin"], expected["last_bin"])
    assert_close(filters.sum(), expected["sum"])
    assert_close(filters.sum(0)[::8], expected["filter_sums"])
    assert filters.argmax(0)[::8].tolist() == expected["filter_peaks"]
    assert np.flatnonzero(filters[:, 5]).tolist() == expected["filter_5_bins"]
    assert_close(filters[expected["filter_5_bins"], 5], expected["filter_5"])


def test_power(table, wave):
    expected = table["outputs"]["power"]
    power = stft_power(wave, N_FFT, HOP)
    assert len(power) == expected["frames"] == LogMel().num_frames(len(wave))
    assert_close(power.sum(), expected["total"])
    some = expected["bins_0_10_40_100_at_frames_0_3_last"]
    assert_close(power[[0, 3, -1]][:, [0, 10, 40, 100]].T, some)


def test_decibels(table, wave):
    mels = stft_power(wave, N_FFT, HOP) @ mel_filters(80, N_FFT, RATE)
    expected = table["outputs"]["librosa_power_to_db_every_8th_filter"]
    assert_close(power_to_db(mels, 80.0)[::2, ::8].T, expected)


def test_log_mel_is_whispers_but_for_its_scale(table, wave):
    # Whisper takes log₁₀ instead of decibels, drops the last frame, and has (x + 4) / 4.
    got = (LogMel(normalize=False)(wave)[:-1].T / 10 + 4) / 4
    assert_close(got[::4], table["outputs"]["whisper_log_mel_every_4th_filter"])
    stats = table["outputs"]["whisper_log_mel_stats"]
    assert list(got.shape) == stats["shape"]
    for name in ("mean", "min", "max"):
        assert_close(getattr(got, name)(), stats[name])


def test_how_loud_a_recording_is_does_not_matter():
    wave = np.random.default_rng(0).normal(size=4000).astype(np.float32) * np.linspace(0, 1, 4000)
    features = LogMel(8000, 40)
    got = features(wave.astype(np.float32))
    assert got.dtype == np.float32
    assert got.shape == (51, 40) == (features.num_frames(4000), 40)
    np.testing.assert_allclose((got.mean(), got.std()), (0, 1), atol=1e-5)
    np.testing.assert_allclose(features(0.01 * wave), features(wave), atol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 2, 79, 80, 81, 500])
@pytest.mark.parametrize("rate", [8000, 11_040])  # windows of 200 and of 276 and 275 samples
def test_short_and_silent_recordings_have_finite_features(num_samples, rate):
    for window in (0.025, 0.02491):
        features = LogMel(rate, 20, window=window)
        got = features(np.zeros(num_samples, np.float32))
        assert got.shape == (features.num_frames(num_samples), 20)
        assert np.isfinite(got).all()


def test_wrong_settings_are_named():
    for settings, match in (
        ({"num_mels": 0}, "num_mels must be at least 1"),
        ({"hop": 0.0}, r"hop = 0.0 seconds are 400 and 0 samples at 16000 Hz"),
        ({"mel_scale": "bark"}, '"slaney" or "htk"; got \'bark\''),
        ({"min_frequency": 8000.0}, r"must be in \[0, 8000.0\)"),
        ({"top_db": 0.0}, "top_db must be above 0"),
        ({"num_mels": 200}, "take fewer, or a longer window"),
    ):
        with pytest.raises(UserError, match=match):
            LogMel(**settings)
