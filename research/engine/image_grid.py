"""Pictures side by side."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from research.engine.display import Images

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Picture = UInt8[np.ndarray, "height width 3"]

INK, PAPER = "#333333", "#f2f2f2"
NOT_FINITE = (255, 0, 255)

# Pixels: what a grid and a picture in it are enlarged to, gaps, titles.
GRID_WIDTH, TILE, TITLED_TILE, GAP = 960, 128, 64, 4
TITLE_SIZE, TITLE_LINES = 13, 2


def image_grid(images: Images) -> Picture:
    """Pictures side by side, small ones with every pixel enlarged to a square, titles above.

    Values outside [0, 1] are clipped; pixels that are NaN or infinite are magenta.
    """
    from PIL import Image, ImageDraw

    tiles = _to_pixels(images.images)
    num, height, width, _ = tiles.shape
    columns = min(num, images.columns or math.ceil(math.sqrt(num)))
    scale = max(1, min(TILE // max(height, width), GRID_WIDTH // (columns * width)))
    if images.titles:
        scale = max(scale, math.ceil(TITLED_TILE / width))
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale

    font = _font() if images.titles else None
    titles = [_fit(title, width, font) for title in images.titles] if font else []
    line = TITLE_SIZE + 4
    above = max((len(title) for title in titles), default=0) * line + (3 if titles else 0)
    pitch_y, pitch_x = above + height + GAP, width + GAP
    rows = math.ceil(num / columns)
    canvas = Image.new("RGB", (columns * pitch_x + GAP, rows * pitch_y + GAP), PAPER)
    brush = ImageDraw.Draw(canvas)
    for index, tile in enumerate(tiles):
        x, y = GAP + index % columns * pitch_x, GAP + index // columns * pitch_y + above
        canvas.paste(Image.fromarray(tile), (x, y))
        for place, text in enumerate(reversed(titles[index] if index < len(titles) else [])):
            middle, baseline = x + width / 2, y - 5 - place * line
            brush.text((middle, baseline), text, fill=INK, font=font, anchor="ms")
    return np.asarray(canvas)


def _to_pixels(images: Any) -> UInt8[np.ndarray, "num height width 3"]:
    values = np.asarray(images, np.float32)
    if values.ndim != 4 or values.shape[-1] not in (1, 3) or values.size == 0:
        raise ValueError(
            f"expected pictures of shape (num, height, width, 1 or 3), got {values.shape}"
        )
    values = np.broadcast_to(values, (*values.shape[:3], 3))
    pixels = np.round(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    pixels[~np.isfinite(values).all(axis=-1)] = NOT_FINITE
    return pixels


def _font() -> "FreeTypeFont":
    """DejaVu Sans, which has arrows and most alphabets; Pillow's own font has not."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), TITLE_SIZE
    )


def _fit(title: str, width: int, font: "FreeTypeFont") -> list[str]:
    """The title in lines no wider than the picture; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    for word in title.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    if len(lines) > TITLE_LINES:
        lines = [*lines[: TITLE_LINES - 1], " ".join(lines[TITLE_LINES - 1 :])]
    for index, line in enumerate(lines):
        kept = len(line)
        while kept and font.getlength(lines[index]) > width:
            kept -= 1
            lines[index] = line[:kept].rstrip() + "…"
    return lines
