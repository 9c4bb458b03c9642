"""Sound as files."""

import wave
from io import BytesIO

import numpy as np

from research.engine.display import Sound


def encode_wav(sound: Sound) -> bytes:
    """A mono WAV file's bytes, 16 bits a sample; what is outside [-1, 1] is clipped."""
    samples = np.clip(np.asarray(sound.samples, np.float64), -1.0, 1.0)
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sound.sample_rate)
        writer.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return file.getvalue()
