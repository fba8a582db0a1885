"""The numbers that a depth file stores, before ``depth_files`` says what they mean: PNG, EXR, NPY, TIFF.

The format is told by content. Size, channels and type are checked from the header before a pixel is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from splathead.compat import quiet_opencv
from splathead.images import MAX_IMAGE_PIXELS, PNG_SIGNATURE, read_png_header

MIN_SIDE_PX = 8
MAX_EXR_BYTES = 2**30
EXR_METADATA = "splatheadDepth"
"""Name of the attribute in which our own EXR files carry camera, unit and source as JSON."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits"}
_MIN_IS_BLACK, _RGB = 1, 2


@dataclass(frozen=True)
class StoredDepth:
    """values: [H, W] integers, float32 or float64; ``opaque``: [H, W] bool where a file has alpha, else None."""

    values: np.ndarray
    format: str
    opaque: np.ndarray | None = None
    metadata: str = ""


def depth_format(start: bytes) -> str:
    """``PNG``, ``EXR``, ``NPY``, ``TIFF`` or "", told by a file's first 8 bytes."""
    starts = {PNG_SIGNATURE: "PNG", b"\x76\x2f\x31\x01": "EXR", b"\x93NUMPY": "NPY", **dict.fromkeys(_TIFF_STARTS, "TIFF")}
    return next((name for mark, name in starts.items() if start.startswith(mark)), "")


def read_stored_depth(path: Path, channel: str = "") -> StoredDepth:
    """Read a depth file's numbers; ``channel`` picks one of an EXR file's.

    Raises FileNotFoundError, or ValueError naming the file, for anything but one finite-sized image of one channel.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such depth file")
    with path.open("rb") as stream:
        start = stream.read(8)
    readers: dict[str, Callable[[Path], StoredDepth]] = {"PNG": _read_png, "NPY": _read_npy, "TIFF": _read_tiff}
    kind = depth_format(start)
    if kind == "EXR":
        return _read_exr(path, channel)
    if channel:
        raise ValueError(f"{path}: channel {channel!r} asked for, expected an EXR file, only those have named channels")
    if not kind:
        found = "an empty file" if not start else f"it starts with {start!r}"
        jpeg = " (a JPEG: its compression destroys depth)" if start.startswith(b"\xff\xd8") else ""
        raise ValueError(f"{path}: no depth file: {found}{jpeg}, expected PNG, EXR, NPY or TIFF")
    return readers[kind](path)


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX or width * height > MAX_IMAGE_PIXELS:
        expected = f"at least {MIN_SIDE_PX}x{MIN_SIDE_PX} and at most {MAX_IMAGE_PIXELS} pixels in all"
        raise ValueError(f"{path}: {width}x{height} pixels, expected {expected}")


def _read_png(path: Path) -> StoredDepth:
    header = read_png_header(path)
    _check_size(path, header.width, header.height)
    if header.bits not in (8, 16) or header.is_palette:
        kind = "palette" if header.is_palette else f"{header.bits}-bit"
        raise ValueError(f"{path}: a {kind} PNG, expected 8 or 16 bits a pixel")
    values, opaque = _one_channel(path, _decode(path))
    return StoredDepth(values, f"{header.bits}-bit PNG", opaque)


def _decode(path: Path) -> np.ndarray:
    try:
        with quiet_opencv():
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{path}: not readable: {error.err}") from None
    if image is None:
        raise ValueError(f"{path}: not readable (truncated, damaged, or a type of pixel that OpenCV does not know)")
    return image


def _one_channel(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values [H, W] of an image whose colours are grey, and where its alpha says that there is something."""
    if image.ndim == 2:
        return image, None
    channels = image.shape[2]
    if channels not in (3, 4) or (image[..., :3] != image[..., :1]).any():
        raise ValueError(f"{path}: an image of {channels} different channels, expected depth in one channel (a colour image?)")
    if channels == 3:
        return image[..., 0], None
    alpha, top = image[..., 3], np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    if not np.isin(alpha, (0, top)).all():
        raise ValueError(f"{path}: an alpha channel with partly transparent pixels, expected 0 or {top} only")
    return image[..., 0], alpha > 0


def _read_npy(path: Path) -> StoredDepth:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, TypeError, KeyError, SyntaxError, EOFError, OverflowError, OSError) as error:
        raise ValueError(f"{path}: not a readable NPY file: {str(error).splitlines()[0]}") from None
    shape = tuple(side for side in mapped.shape if side != 1)
    if len(shape) != 2 or mapped.dtype.kind not in "uif":
        raise ValueError(f"{path}: an array of shape {mapped.shape} and type {mapped.dtype}, expected [height, width] numbers")
    _check_size(path, shape[1], shape[0])
    dtype = np.float32 if mapped.dtype.itemsize == 2 and mapped.dtype.kind == "f" else mapped.dtype.newbyteorder("=")
    return StoredDepth(np.array(mapped.reshape(shape), dtype=dtype), f"{mapped.dtype.name} NPY")


def _read_tiff(path: Path) -> StoredDepth:
    page = read_tiff_header(path)
    _check_size(path, page.width, page.height)
    if page.pages != 1:
        raise ValueError(f"{path}: a TIFF of {page.pages} pages, expected one")
    if page.compression not in _TIFF_COMPRESSIONS or page.photometric not in (_MIN_IS_BLACK, _RGB):
        known = ", ".join(dict.fromkeys(_TIFF_COMPRESSIONS.values()))
        what = f"compression {page.compression}, photometric interpretation {page.photometric}"
        raise ValueError(f"{path}: a TIFF with {what}, expected {known}, with minimum is black")
    if _TIFF_COMPRESSIONS[page.compression] in ("none", "PackBits") and page.predictor != 1:
        raise ValueError(f"{path}: a TIFF with a predictor but no LZW or deflate compression, expected none")
    image = _decode(path)  # by itself, tifffile knows neither LZW nor the floating-point predictor
    if image.dtype != page.dtype or image.shape[:2] != (page.height, page.width):
        found = f"{image.shape[1]}x{image.shape[0]} {image.dtype}"
        raise ValueError(f"{path}: decoded as {found}, its header says {page.width}x{page.height} {page.dtype}")
    values, opaque = _one_channel(path, image)
    return StoredDepth(values, f"{page.dtype} TIFF", opaque)


@dataclass(frozen=True)
class TiffHeader:
    """What the first page of a TIFF file says of itself."""

    width: int
    height: int
    samples: int
    dtype: np.dtype
    pages: int
    compression: int
    photometric: int
    predictor: int


def read_tiff_header(path: Path) -> TiffHeader:
    """Read a TIFF file's header. ValueError for one that cannot be read."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            return TiffHeader(
                page.imagewidth, page.imagelength, page.samplesperpixel, np.dtype(page.dtype), len(file.pages),
                int(page.compression), int(page.photometric), int(page.predictor),
            )  # fmt: skip
    except Exception as error:  # tifffile documents no set of errors for damaged files
        raise ValueError(f"{path}: not a readable TIFF: {str(error).splitlines()[0] or type(error).__name__}") from None


def _read_exr(path: Path, channel: str) -> StoredDepth:
    import OpenEXR

    try:
        parts = [part.header for part in OpenEXR.File(str(path), header_only=True).parts]
        names = _check_exr(path, parts)
        part, name = _exr_channel(path, names, channel)
        found = OpenEXR.File(str(path), separate_channels=True).parts[part]
        pixels = found.channels[name].pixels
    except (RuntimeError, UnicodeDecodeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a readable EXR file: {str(error).replace(str(path), path.name)}") from None
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else ValueError(f"{path}: a damaged EXR file: {error}") from None
    header = parts[part]
    values = _in_display_window(header, np.asarray(pixels))
    metadata = header.get(EXR_METADATA, "")
    return StoredDepth(values, f"{values.dtype} EXR", metadata=metadata if isinstance(metadata, str) else "")


def _window(header: dict, name: str) -> tuple[int, int, int, int]:
    """Left, top, width, height of a window."""
    (left, top), (right, bottom) = (corner.tolist() for corner in header[name])
    return left, top, right - left + 1, bottom - top + 1


def _check_exr(path: Path, parts: list[dict]) -> list[tuple[int, str]]:
    """Check types and sizes of every part, which are all read; (part, channel name) of all."""
    names, size = [], 0
    for k, header in enumerate(parts):
        for window in ("displayWindow", "dataWindow"):
            _check_size(path, *_window(header, window)[2:])
        if "deep" in str(header.get("type", "")):
            raise ValueError(f"{path}: a deep EXR, expected one value a pixel")
        for channel in header["channels"]:
            if (channel.xSampling, channel.ySampling) != (1, 1):
                raise ValueError(f"{path}: channel {channel.name!r} is subsampled, expected a value for every pixel")
            names.append((k, channel.name))
        _, _, width, height = _window(header, "dataWindow")
        size += 4 * width * height * len(header["channels"])
    if size > MAX_EXR_BYTES:
        raise ValueError(f"{path}: {size} bytes of pixels in {len(names)} channels, expected at most {MAX_EXR_BYTES}")
    return names


def _exr_channel(path: Path, names: list[tuple[int, str]], channel: str) -> tuple[int, str]:
    """The only channel, the one that is asked for, or the only one that is called Z or depth."""
    shown = ", ".join(name for _, name in names) or "none"
    if channel:
        found = [entry for entry in names if entry[1] == channel]
    elif len(names) == 1:
        found = names
    else:
        found = [entry for entry in names if entry[1].split(".")[-1] == "Z" or "depth" in entry[1].lower()]
    if len(found) != 1:
        wanted = f"{channel!r}" if channel else "one called Z or depth"
        raise ValueError(f"{path}: {len(found)} channels that could be the depth among {shown}, expected {wanted}")
    return found[0]


def _in_display_window(header: dict, pixels: np.ndarray) -> np.ndarray:
    """Pixels [H, W] of the whole picture: 0 outside of the data window, cut at the picture's edge."""
    left, top, width, height = _window(header, "displayWindow")
    data_left, data_top, data_width, data_height = _window(header, "dataWindow")
    image = np.zeros((height, width), np.float32 if pixels.dtype.kind == "f" else pixels.dtype)
    x0, y0 = max(left, data_left), max(top, data_top)
    x1, y1 = min(left + width, data_left + data_width), min(top + height, data_top + data_height)
    if x1 > x0 and y1 > y0:
        inside = pixels[y0 - data_top : y1 - data_top, x0 - data_left : x1 - data_left]
        image[y0 - top : y1 - top, x0 - left : x1 - left] = inside
    return image
