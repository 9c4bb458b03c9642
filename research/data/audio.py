"""What networks see of sound: spectrograms on the mel scale."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from research.errors import UserError

MelScale = Literal["slaney", "htk"]


@dataclass(frozen=True)
class LogMel:
    """A waveform's power in `num_mels` bands over time, in decibels.

    Bands are triangles that overlap by half, from `min_frequency` to half the sample rate, in Hz;
    see `mel_filters`.

    A Hann window of `window` seconds moves by `hop` seconds; frame i is centred on sample i · hop,
    with the waveform reflected at its ends. What is more than `top_db` below the loudest value
    counts as that. With `normalize` all values of a recording have mean 0 and variance 1, so that
    neither the microphone's gain nor the distance to it matters; not each band by itself, which in
    a recording of one word would take away what is particular to that word.
    """

    sample_rate: int = 16_000
    num_mels: int = 80
    window: float = 0.025
    hop: float = 0.010
    mel_scale: MelScale = "slaney"
    min_frequency: float = 0.0
    top_db: float = 80.0
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.num_mels < 1:
            raise UserError(
                f"LogMel.sample_rate and num_mels must be at least 1; got {self.sample_rate} and "
                f"{self.num_mels}."
            )
        if self.hop_length < 1 or self.n_fft < 2:
            raise UserError(
                f"LogMel.window = {self.window} and hop = {self.hop} seconds are {self.n_fft} and "
                f"{self.hop_length} samples at {self.sample_rate} Hz; take at least 2 and 1."
            )
        if self.mel_scale not in ("slaney", "htk"):
            raise UserError(f'LogMel.mel_scale must be "slaney" or "htk"; got {self.mel_scale!r}.')
        if not 0.0 <= self.min_frequency < self.sample_rate / 2:
            raise UserError(
                f"LogMel.min_frequency = {self.min_frequency} Hz: must be in [0, "
                f"{self.sample_rate / 2}), below half the sample rate."
            )
        if self.top_db <= 0:
            raise UserError(f"LogMel.top_db must be above 0; got {self.top_db}.")
        if not self.filters.any(0).all():
            raise UserError(
                f"LogMel.num_mels = {self.num_mels}: some bands would lie between the frequencies "
                f"of a window of {self.n_fft} samples; take fewer, or a longer window."
            )

    @property
    def n_fft(self) -> int:
        """Samples of a window."""
        return round(self.window * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples between windows."""
        return round(self.hop * self.sample_rate)

    @property
    def filters(self) -> Float[np.ndarray, "bins num_mels"]:
        """What a band takes of each frequency."""
        return mel_filters(
            self.num_mels, self.n_fft, self.sample_rate, self.mel_scale, self.min_frequency
        )

    def num_frames(self, num_samples: int) -> int:
        """The frames of a waveform of so many samples."""
        return 1 + num_samples // self.hop_length

    def __call__(self, wave: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames num_mels"]:
        """The spectrogram, in the precision of the waveform, which has at least one sample."""
        power = stft_power(wave, self.n_fft, self.hop_length)
        # No product of BLAS, whose threads wait for each other where a machine is busy.
        mels = np.einsum("fb,bm->fm", power, self.filters.astype(power.dtype))
        decibels = power_to_db(mels, self.top_db)
        if self.normalize:
            decibels = (decibels - decibels.mean()) / max(decibels.std(), 1e-5)
        return decibels


@functools.lru_cache(maxsize=8)
def mel_filters(
    num_mels: int,
    n_fft: int,
    sample_rate: int,
    mel_scale: MelScale = "slaney",
    min_frequency: float = 0.0,
) -> Float[np.ndarray, "bins num_mels"]:
    """Triangles that overlap by half, evenly spaced in mel from `min_frequency` to half the
    sample rate.

    "slaney" is linear below 1 kHz and logarithmic above, with triangles of unit area (Slaney's
    Auditory Toolbox, 1998); "htk" is 2595 log₁₀(1 + f / 700), with triangles of unit height.
    """
    to_mel, to_hertz = (
        (_slaney_mel, _slaney_hertz) if mel_scale == "slaney" else (_htk_mel, _htk_hertz)
    )
    bottom, top = to_mel(np.asarray([min_frequency, sample_rate / 2]))
    corners = to_hertz(np.linspace(bottom, top, num_mels + 2))
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(n_fft // 2 + 1)[:, None] * sample_rate / n_fft
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if mel_scale == "slaney":
        filters *= 2.0 / (high - low)
    filters.setflags(write=False)
    return filters


def stft_power(
    wave: Float[np.ndarray, " samples"], n_fft: int, hop_length: int
) -> Float[np.ndarray, "frames bins"]:
    """The squared magnitudes of windowed Fourier transforms, frame i centred on i · hop_length."""
    padded = np.pad(wave, (n_fft // 2, n_fft - n_fft // 2), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    spectrum = np.fft.rfft(frames * window.astype(wave.dtype))
    return spectrum.real**2 + spectrum.imag**2


def power_to_db(
    power: Float[np.ndarray, "frames bins"], top_db: float
) -> Float[np.ndarray, "frames bins"]:
    """10 log₁₀ of at least 1e-10, no more than `top_db` below the largest."""
    decibels = 10.0 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(decibels, decibels.max() - top_db)


def _htk_mel(hertz: np.ndarray) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


# 15 mel are 1 kHz, and 27 more a factor of 6.4.
def _slaney_mel(hertz: np.ndarray) -> np.ndarray:
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hertz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hertz < 1000.0, 3.0 * hertz / 200.0, logarithmic)


def _slaney_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(
        mel < 15.0, 200.0 * mel / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
    )
