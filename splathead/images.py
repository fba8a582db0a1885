"""Image files: depth PNG with sidecar, RGBA, normals, map stores. The one place where depth is encoded.

An n-bit depth code: 0 = no surface; z = near + (code - 1) / (2^n - 2) * (far - near), nearest-code
rounding (254 steps at 8 bits, 65534 at 16). Every depth PNG has a sidecar ``<name>.json``; no reader
guesses a scale.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera

SIDECAR_SCHEMA = 1
MAX_IMAGE_PIXELS = 2**26
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` (same suffix); rename it over ``path`` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically; NaN and infinity are refused."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


@dataclass(frozen=True)
class DepthEncoding:
    """Linear depth code between ``near`` and ``far`` in ``unit`` ("mm" or "scene") with ``bits`` bits (2 to 16)."""

    near: float
    far: float
    bits: int
    unit: str
    nominal: bool = False
    """lengths are right up to one factor: the head's size was a guess"""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.near) and math.isfinite(self.far) and 0 < self.near < self.far):
            raise ValueError(f"depth encoding near={self.near}, far={self.far}, expected 0 < near < far, finite")
        if not 2 <= self.bits <= 16:
            raise ValueError(f"depth encoding with {self.bits} bits, expected 2 to 16")
        if self.unit not in ("mm", "scene"):
            raise ValueError(f"depth encoding unit {self.unit!r}, expected 'mm' or 'scene'")

    @property
    def steps(self) -> int:
        """Number of steps between the codes of near and far, 2^bits - 2."""
        return 2**self.bits - 2

    @property
    def lsb(self) -> float:
        """Depth difference of neighbouring codes, in ``unit``."""
        return (self.far - self.near) / self.steps

    @classmethod
    def from_depth(cls, depth: np.ndarray, mask: np.ndarray, bits: int, unit: str) -> DepthEncoding:
        """Encoding whose near/far are the minimum and maximum of ``depth`` over ``mask``."""
        if not mask.any():
            raise ValueError("empty mask: no pixel with a surface, so near and far cannot be chosen")
        values = depth[mask]
        near, far = float(values.min()), float(values.max())
        if far - near < 1e-6 * abs(far):  # a constant map still needs a non-empty range
            far = near + 1e-3 * max(abs(near), 1e-3)
        return cls(near, far, bits, unit)

    def encode(self, depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Codes [H, W] (uint8 up to 8 bits, else uint16); values outside near..far are clamped."""
        if not np.isfinite(depth[mask]).all():
            raise ValueError("depth to encode has NaN or infinity inside its mask")
        scaled = (depth.astype(np.float64) - self.near) / (self.far - self.near) * self.steps
        code = np.clip(np.rint(np.where(mask, scaled, 0.0)), 0, self.steps) + 1
        return np.where(mask, code, 0).astype(np.uint8 if self.bits <= 8 else np.uint16)

    def decode(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes to (depth [H, W] float32 with 0 where empty, mask [H, W] bool)."""
        mask = code > 0
        depth = self.near + (code.astype(np.float64) - 1) / self.steps * (self.far - self.near)
        return np.where(mask, depth, 0.0).astype(np.float32), mask


@dataclass
class DepthMap:
    """A depth map with everything needed to use it. depth: [H, W] float32, 0 = no surface; mask: [H, W] bool."""

    depth: np.ndarray
    mask: np.ndarray
    encoding: DepthEncoding
    camera: Camera
    source: str
    floats: bool = False  # from a file of floats, whose steps are not the encoding's

    @classmethod
    def of_float(cls, depth: np.ndarray, mask: np.ndarray, camera: Camera, source: str, unit: str = "mm") -> DepthMap:
        """Float depth [H, W] on ``mask`` with a 16-bit encoding of its own range; ValueError for an empty mask."""
        encoding = DepthEncoding.from_depth(depth, mask, 16, unit)
        return cls(np.where(mask, depth, 0).astype(np.float32), mask, encoding, camera, source)


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a depth PNG lies."""
    return Path(path).with_suffix(".json")


def save_depth_png(path: Path, depth_map: DepthMap) -> None:
    """Write a depth PNG (8-bit up to 8 bits, else 16-bit) and its sidecar, each atomically, sidecar first."""
    code = depth_map.encoding.encode(depth_map.depth, depth_map.mask)
    sidecar = {
        "schema": SIDECAR_SCHEMA, "encoding": "linear", "rounding": "nearest", "no_surface_code": 0,
        **asdict(depth_map.encoding), "hfov_deg": depth_map.camera.hfov_deg,
        "camera": depth_map.camera.to_dict(), "source": depth_map.source,
    }  # fmt: skip
    write_json(sidecar_path(path), sidecar)
    write_png(path, code)


@dataclass
class DepthCode:
    """A depth map as stored. code: [H, W] uint8 or uint16, 0 = no surface."""

    code: np.ndarray
    encoding: DepthEncoding
    camera: Camera
    source: str


def load_depth_png(path: Path) -> DepthMap:
    """Read a depth PNG with its sidecar; a missing sidecar, other schema, bit depth or size is an error."""
    stored = load_depth_code(path)
    depth, mask = stored.encoding.decode(stored.code)
    return DepthMap(depth, mask, stored.encoding, stored.camera, stored.source)


def load_depth_code(path: Path) -> DepthCode:
    """The same, not decoded."""
    path, side = Path(path), sidecar_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such depth PNG")
    if not side.is_file():
        raise FileNotFoundError(f"{path}: its sidecar {side.name} (near, far, unit, camera) is missing; depth is never guessed")
    try:
        data = json.loads(side.read_text())
        if data.get("schema") != SIDECAR_SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r}, expected {SIDECAR_SCHEMA}")
        near, far, nominal = float(data["near"]), float(data["far"]), bool(data.get("nominal"))
        encoding = DepthEncoding(near, far, int(data["bits"]), data["unit"], nominal)
        camera = Camera.from_dict(data["camera"])
        source = str(data["source"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{side}: not a valid depth sidecar: {error}") from error
    code = read_png(path, channels=1, bits=8 if encoding.bits <= 8 else 16)
    if code.shape != (camera.height, camera.width):
        raise ValueError(f"{path}: image of {code.shape[1]}x{code.shape[0]}, sidecar says {camera.width}x{camera.height}")
    if int(code.max()) > encoding.steps + 1:
        raise ValueError(f"{path}: code {int(code.max())}, expected at most {encoding.steps + 1} for {encoding.bits} bits")
    return DepthCode(code, encoding, camera, source)


@dataclass(frozen=True)
class PngHeader:
    """What a PNG file says of itself. ``bits`` a channel; ``channels`` 1 to 4, for a palette those of its colours."""

    width: int
    height: int
    bits: int
    channels: int
    is_palette: bool


def read_png_header(path: Path) -> PngHeader:
    """Read a PNG file's header without decoding it. ValueError when there is none."""
    with Path(path).open("rb") as stream:
        start = stream.read(26)
    if len(start) < 26 or not start.startswith(PNG_SIGNATURE) or start[12:16] != b"IHDR":
        raise ValueError(f"{path}: not a PNG file, or one that ends in its header")
    width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind)
    if channels is None:
        raise ValueError(f"{path}: a PNG of colour type {kind}, expected 0, 2, 3, 4 or 6")
    return PngHeader(width, height, bits, channels, kind == 3)


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(f"{path}: {width}x{height} pixels, expected at most {MAX_IMAGE_PIXELS} in all")


def read_png(path: Path, *, channels: int, bits: int) -> np.ndarray:
    """Read an image with exactly this channel count (1, 3 RGB or 4 RGBA) and bit depth (8 or 16).

    Returns [H, W] or [H, W, C] uint8/uint16; anything else is an error naming what was found.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    with path.open("rb") as stream:
        is_png = stream.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    if is_png:  # before a few bytes are unpacked to gigabytes
        header = read_png_header(path)
        _check_pixels(path, header.width, header.height)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: not a readable image (truncated or another format?)")
    found_channels = 1 if image.ndim == 2 else image.shape[2]
    found_bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}.get(image.dtype)
    if found_channels != channels or found_bits != bits:
        raise ValueError(
            f"{path}: {found_channels} channel(s) of {found_bits or image.dtype} bits, expected {channels} of {bits} bits"
        )
    _check_pixels(path, image.shape[1], image.shape[0])
    if channels == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if channels == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return image


def write_png(path: Path, image: np.ndarray, compression: int = 1) -> None:
    """Write [H, W], [H, W, 3] RGB or [H, W, 4] RGBA uint8/uint16 as PNG, atomically."""
    if image.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"{path}: image of {image.dtype}, expected uint8 or uint16")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    encoded, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not encoded:
        raise ValueError(f"{path}: an image of shape {image.shape} cannot be stored as PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)  # unlike cv2.imwrite, this notices a full disk


def encode_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] in camera axes to RGB uint8: x right, y up, z towards the camera are 255."""
    shown = normals * np.array([1.0, -1.0, -1.0])
    empty = np.linalg.norm(normals, axis=-1, keepdims=True) < 0.5
    return np.where(empty, 0, np.clip(np.rint(shown * 127.5 + 127.5), 0, 255)).astype(np.uint8)


def save_maps(path: Path, maps: dict[str, np.ndarray]) -> None:
    """Write maps of one view, each [H, W] or [H, W, C], cropped to the box where ``alpha`` > 1/255, as one npz.

    What lies outside of the box is next to invisible, and is read as zero. dtypes are kept.
    """
    alpha = maps["alpha"].astype(np.float32)
    rows, columns = np.flatnonzero((alpha > 1 / 255).any(1)), np.flatnonzero((alpha > 1 / 255).any(0))
    box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else (0, 0, 0, 0)
    cut = (slice(box[0], box[1]), slice(box[2], box[3]))
    arrays = {name: np.ascontiguousarray(value[cut]) for name, value in maps.items()}
    with atomic_path(path) as temporary:
        np.savez(temporary, _box=np.array(box), _size=np.array(alpha.shape), **arrays)


def load_maps(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Read maps written by :func:`save_maps` at full size (all, or those named). ValueError for another or a damaged file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such map file")
    try:
        archive = np.load(path, allow_pickle=False)
        missing = {"_box", "_size"} - set(archive.files)
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable map file: {error}") from error
    if missing:
        raise ValueError(f"{path}: no {', '.join(sorted(missing))} in it, expected a file of save_maps")
    with archive:
        y0, y1, x0, x1 = archive["_box"]
        height, width = archive["_size"]
        names = names or tuple(name for name in archive.files if not name.startswith("_"))
        result = {}
        for name in names:
            if name not in archive.files:
                raise KeyError(f"{path}: no map {name!r}, it has {sorted(archive.files)}")
            cropped = archive[name]
            full = np.zeros((height, width, *cropped.shape[2:]), dtype=cropped.dtype)
            full[y0:y1, x0:x1] = cropped
            result[name] = full
    return result
