"""Displays as files: pictures as PNG, texts as they are, music as MIDI, sound as WAV."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np

from research.data.midi import encode_midi
from research.engine.charts import curves, heatmaps
from research.engine.display import (
    ConfusionMatrix,
    Curves,
    Display,
    Displays,
    Heatmaps,
    Images,
    Music,
    Scatter,
    Sound,
    Text,
)
from research.engine.figures import confusion_matrix, scatter
from research.engine.files import write_atomically
from research.engine.image_grid import Picture, image_grid
from research.engine.sound import encode_wav

_ENDINGS = {Text: "txt", Music: "mid", Sound: "wav"}


def save_displays(folder: Path, displays: Displays, suffix: str = "") -> list[Path]:
    """Writes pictures as <name><suffix>.png, texts as .txt, music as .mid and sound as .wav;
    returns the paths.

    Texts of one display are separated by lines of three dashes. Raises UserError where the
    folder cannot be written.
    """
    paths = []
    for name, display in displays.items():
        ending = _ENDINGS.get(type(display), "png")
        path = folder / f"{re.sub(r'[^\w.-]', '_', name)}{suffix}.{ending}"
        write_atomically(path, _encode(display))
        paths.append(path)
    return paths


def encode_png(pixels: Picture) -> bytes:
    """The picture as a PNG file's bytes."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _encode(display: Display) -> bytes:
    match display:
        case Images():
            return encode_png(image_grid(display))
        case Scatter():
            return encode_png(scatter(display))
        case ConfusionMatrix():
            return encode_png(confusion_matrix(display))
        case Curves():
            return encode_png(curves(display))
        case Heatmaps():
            return encode_png(heatmaps(display))
        case Text(texts):
            text = "\n---\n".join(texts) + "\n" if len(texts) > 1 else "".join(texts)
            return text.encode("utf-8", "backslashreplace")
        case Music():
            return encode_midi(np.asarray(display.roll), display.seconds_per_frame)
        case Sound():
            return encode_wav(display)
