"""One photograph as pixels: upright, 8 bits, with its alpha where it has one. The file is only ever read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from splathead.images import MAX_IMAGE_PIXELS

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # JPEG: with the MPO of phones
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Photo:
    """``rgb`` [H, W, 3] uint8; ``alpha`` [H, W] uint8, None where the photo has none or all of it is opaque."""

    rgb: np.ndarray
    alpha: np.ndarray | None

    @functools.cached_property
    def over_white(self) -> np.ndarray:
        """The colours [H, W, 3] uint8 over white."""
        if self.alpha is None:
            return self.rgb
        share = self.alpha[..., None] / np.float32(255)
        return np.rint(self.rgb * share + 255 * (1 - share)).astype(np.uint8)


class UnreadablePhoto(ValueError):
    """A file that is no photo that can be used; the message names it and says why."""


def read_photo(path: Path) -> Photo:
    """Read a photo and turn it as its EXIF orientation says (phones store portraits lying on their side).

    FileNotFoundError for a missing file; :class:`UnreadablePhoto` for one that is not PNG, JPEG, WebP or BMP, is damaged,
    has more than 8 bits of grey, or more than ``MAX_IMAGE_PIXELS`` pixels, which the header says before any is decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such photo")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PIXELS:
                raise ValueError(f"{width}x{height} pixels, expected at most {MAX_IMAGE_PIXELS} in all")
            if image.mode not in _MODES:
                raise ValueError(f"pixels of kind {image.mode}, expected 8 bits of grey or colour")
            transparent = "A" in image.getbands() or "transparency" in image.info
            upright = ImageOps.exif_transpose(image).convert("RGBA" if transparent else "RGB")
    except UnidentifiedImageError as error:
        raise UnreadablePhoto(f"{path}: not a readable photo, expected PNG, JPEG, WebP or BMP") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UnreadablePhoto(f"{path}: not a readable photo: {error}") from error
    pixels = np.asarray(upright)
    if not transparent or (pixels[..., 3] == 255).all():
        return Photo(np.ascontiguousarray(pixels[..., :3]), None)
    return Photo(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]))
