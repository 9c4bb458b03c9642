"""Displays as files: pictures as PNG, texts as they are."""

import re
from io import BytesIO
from pathlib import Path

from research.engine.display import Display, Displays, Images, Text
from research.engine.figures import scatter
from research.engine.files import write_atomically
from research.engine.image_grid import Picture, image_grid


def save_displays(folder: Path, displays: Displays, suffix: str = "") -> list[Path]:
    """Writes pictures as <name><suffix>.png and texts as <name><suffix>.txt; returns the paths.

    Texts of one display are separated by lines of three dashes. Raises UserError where the
    folder cannot be written.
    """
    paths = []
    for name, display in displays.items():
        ending = "txt" if isinstance(display, Text) else "png"
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
    if isinstance(display, Text):
        several = len(display.texts) > 1
        text = "\n---\n".join(display.texts) + "\n" if several else "".join(display.texts)
        return text.encode("utf-8", "backslashreplace")
    return encode_png(image_grid(display) if isinstance(display, Images) else scatter(display))
