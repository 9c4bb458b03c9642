"""Picture files: which are, and what is said of those that cannot be decoded."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from research.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@contextmanager
def decoding(name: Any, hint: str = "") -> Iterator[None]:
    """Raises UserError, with the picture's name and the hint, where Pillow cannot decode it."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a picture, or a corrupt one.{hint}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be decoded: {error}.{hint}") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{name} is corrupt in its archive: {error}.{hint}") from error
