"""Recordings as wav files."""

import wave
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from research.errors import UserError


def read_wav(place: Path | zipfile.Path, sample_rate: int) -> Int16[np.ndarray, " samples"]:
    """The samples of a file of one channel and 16 bits.

    Raises UserError, with the file's name, for another sample rate or format, and where it is
    corrupt, truncated or has no samples.
    """
    try:
        with place.open("rb") as file, wave.open(file) as recording:
            found = recording.getparams()
            content = recording.readframes(found.nframes)
    except (wave.Error, EOFError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise UserError(f"{place} is not a wav file of PCM, or a corrupt one: {error}.") from error
    if (found.nchannels, found.sampwidth) != (1, 2):
        raise UserError(
            f"{place} has {found.nchannels} channel(s) of {8 * found.sampwidth} bits; make it one "
            "of 16 bits (sox IN.wav -c 1 -b 16 OUT.wav)."
        )
    if found.framerate != sample_rate:
        raise UserError(
            f"{place} has {found.framerate} samples a second, not sample_rate = {sample_rate}; set "
            f"that, or convert the file (sox IN.wav -r {sample_rate} OUT.wav)."
        )
    if found.nframes == 0:
        raise UserError(f"{place} is empty: it has no samples.")
    if len(content) < 2 * found.nframes:
        raise UserError(
            f"{place} is truncated: it has {len(content) // 2} of {found.nframes} samples."
        )
    return np.frombuffer(content, "<i2").astype(np.int16)
