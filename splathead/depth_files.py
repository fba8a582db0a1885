"""The one entry for depth maps from a file: PNG, EXR, NPY or TIFF, and what their numbers mean. Nothing is guessed.

A file says how far a surface is only together with a scale and a field of view. Our own PNG (sidecar) and EXR
(attribute) files carry both; for others the caller gives them, and says what differs from the usual: see
:class:`DepthReading`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from splathead.cameras import Camera, focal_from_fov
from splathead.depth_pixels import EXR_METADATA, StoredDepth, read_stored_depth
from splathead.images import SIDECAR_SCHEMA, DepthEncoding, DepthMap, atomic_path, load_depth_png, sidecar_path

VALUES = ("depth", "normalised", "inverse")
HFOV_RANGE_DEG = (1.0, 170.0)

_FLOAT_BITS = 16  # of the encoding of a map that comes as floats: finer than any network's input
_MAX_SIDECAR_BYTES = 2**20


@dataclass(frozen=True)
class DepthReading:
    """What the numbers of a depth file mean.

    ``values``: ``depth`` (z-depth itself, times ``scale``), ``normalised`` (from near to far, linear in depth) or
    ``inverse`` (from near to far, linear in 1 / depth, as disparity is); "" is ``depth`` for floats and ``normalised``
    for 8- and 16-bit codes. A range covers all codes but those that mean "no surface"; of floats it is 0 to 1.
    ``white_is_near``: the largest value is ``near``, not ``far``. ``no_surface``: stored values without a surface, may
    contain NaN and infinity. ``scale``: length of a stored unit, needed for integers that are depth themselves.
    ``unit``: "mm" or "scene". ``channel``: the one of an EXR file.
    """

    values: str = ""
    white_is_near: bool = False
    no_surface: tuple[float, ...] = (0.0,)
    scale: float | None = None
    unit: str = "scene"
    channel: str = ""

    def __post_init__(self) -> None:
        if self.values not in ("", *VALUES):
            raise ValueError(f"depth values {self.values!r}, expected one of {', '.join(VALUES)}")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"depth scale {self.scale}, expected a positive number")

    def given(self) -> list[str]:
        """Names of the fields that differ from their defaults."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]


def load_depth(
    path: Path,
    near: float | None = None,
    far: float | None = None,
    hfov: float | None = None,
    reading: DepthReading | None = None,
) -> DepthMap:
    """Read a depth map.

    Args:
        path: PNG (8 or 16 bit), EXR, NPY or TIFF, told by content.
        near, far: depth of the ends of a range of codes, in ``reading.unit``; not for files of depth itself.
        hfov: horizontal field of view in degrees; the camera's axis goes through the middle of the picture.
        reading: what the numbers mean, where they are not what :class:`DepthReading` takes them for.

    Returns:
        The map with its own size. ``encoding`` says near, far and the step of the codes; for ``inverse`` values, whose
        steps grow with depth, their mean; for floats, 16 bits between the smallest and the largest depth. ``camera``
        stands at the origin unless the file says where.

    Raises FileNotFoundError, or ValueError naming the file: no scale or field of view, an inverted range, NaN,
    infinite, negative or out-of-range values, colours, several channels, an empty map, a damaged or absurdly large file.
    """
    path, given = Path(path), [name for name, value in {"near": near, "far": far, "hfov": hfov}.items() if value is not None]
    given += [] if reading is None else reading.given()
    stored = read_stored_depth(path, reading.channel if reading else "")
    own = stored.metadata or (stored.format.endswith("PNG") and _is_sidecar(sidecar_path(path)))
    if own and given:
        where = "it" if stored.metadata else f"its sidecar {sidecar_path(path).name}"
        raise ValueError(f"{path}: {where} says scale and camera, but {', '.join(given)} were given, expected one or the other")
    if stored.metadata:
        return _from_own_exr(path, stored)
    if own:
        return load_depth_png(path)
    reading = reading or DepthReading()
    try:
        depth, mask, encoding = _decode(stored, near, far, reading)
        camera = _camera(stored.values.shape, hfov, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return DepthMap(depth, mask, encoding, camera, f"{path.name}: {stored.format}", stored.values.dtype.kind == "f")


def _is_sidecar(path: Path) -> bool:
    """Whether a file beside a PNG is a sidecar of ours and not some other tool's JSON."""
    if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
        return False
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "schema" in data


def _camera(shape: tuple[int, int], hfov: float | None, name: str) -> Camera:
    low, high = HFOV_RANGE_DEG
    if hfov is None:
        raise ValueError("no field of view, expected hfov (horizontal, degrees)")
    if not low <= hfov <= high:
        raise ValueError(f"hfov {hfov}, expected {low:g} to {high:g} degrees")
    height, width = shape
    focal = focal_from_fov(width, hfov)
    return Camera(width, height, focal, focal, width / 2, height / 2, np.eye(4), name)


@dataclass(frozen=True)
class _Decoder:
    """Stored values [H, W], where they say that there is a surface, and what they mean."""

    values: np.ndarray
    mask: np.ndarray
    near: float | None
    far: float | None
    reading: DepthReading

    @property
    def kind(self) -> str:
        """One of ``VALUES``."""
        return self.reading.values or ("depth" if self.values.dtype.kind == "f" else "normalised")

    def depth(self) -> np.ndarray:
        """Depth [H, W] float32, 0 where there is none."""
        self.require(np.isfinite(self.values), "NaN or infinite", "finite values (name those of 'no surface' in no_surface)")
        depth = self._plain() if self.kind == "depth" else self._between_near_and_far()
        return np.where(self.mask, depth, 0).astype(np.float32)

    def _plain(self) -> np.ndarray:
        """Values that are depth themselves."""
        what, scale = f"{self.values.dtype} values that are depth themselves", self.reading.scale
        if self.near is not None or self.far is not None:
            raise ValueError(f"near or far given for {what}; if they run from near to far, say so (values='normalised')")
        if self.reading.white_is_near:
            raise ValueError(f"white_is_near given for {what}, expected values='normalised' or values='inverse' with it")
        if scale is None and self.values.dtype.kind != "f":
            raise ValueError(f"no scale for {what}, expected the length of one step (scale)")
        depth = self.values.astype(np.float64) * (scale or 1.0)
        good = (depth >= np.finfo(np.float32).tiny) & (depth <= np.finfo(np.float32).max)
        self.require(good, "negative, 0 or too large", "depth above 0")
        return depth

    def _between_near_and_far(self) -> np.ndarray:
        """Values that run from near to far."""
        near, far, kind = self.near, self.far, self.kind
        if near is None or far is None:
            what = f"{kind} values" if self.reading.values else f"{self.values.dtype} codes"
            missing = "no scale" if self.reading.scale is None else "no near and far"
            raise ValueError(
                f"{missing}: {what} say no distance, expected near and far, values='depth' with a scale, or the .json "
                "that was written beside the file"
            )
        if self.reading.scale is not None:
            raise ValueError(f"scale given for {kind} values, which run from near to far, expected values='depth' with it")
        if not (math.isfinite(near) and math.isfinite(far) and 0 < near < far):
            raise ValueError(f"near {near} and far {far}, expected 0 < near < far, finite")
        low, high = self._code_range()
        fraction = (self.values.astype(np.float64) - low) / (high - low)
        tolerance = 1e-6 if self.values.dtype.kind == "f" else 0.0
        inside = (fraction >= -tolerance) & (fraction <= 1 + tolerance)
        self.require(inside, f"outside of {low:g} to {high:g}", f"{kind} values inside")
        fraction = np.clip(np.where(self.mask, fraction, 0.0), 0, 1)
        if self.reading.white_is_near:
            fraction = 1 - fraction
        return near + fraction * (far - near) if kind == "normalised" else 1 / (1 / near + fraction * (1 / far - 1 / near))

    def _code_range(self) -> tuple[float, float]:
        """The values that are the ends of the range: all that the type has but those that mean "no surface"."""
        dtype, empty = self.values.dtype, self.reading.no_surface
        if dtype.kind == "f":
            return 0.0, 1.0
        if dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{dtype} values as codes from near to far, expected 8 or 16 bits unsigned, or values='depth'")
        top = int(np.iinfo(dtype).max)
        return float(0 in empty), float(top - (top in empty))

    def encoding(self, depth: np.ndarray) -> DepthEncoding:
        """Range and steps of the decoded ``depth``."""
        unit, scale = self.reading.unit, self.reading.scale
        if self.values.dtype.kind == "f":
            return DepthEncoding.from_depth(depth, self.mask, _FLOAT_BITS, unit)
        if self.kind != "depth":
            return DepthEncoding(self.near, self.far, 8 * self.values.dtype.itemsize, unit)
        low, stored = float(depth[self.mask].min()), self.values[self.mask]
        steps = int(stored.max()) - int(stored.min())
        bits = max(2, math.ceil(math.log2(steps + 2) - 1e-6))
        if bits > 16:  # the steps of the file are finer than any encoding's
            return DepthEncoding.from_depth(depth, self.mask, 16, unit)
        return DepthEncoding(low, low + (2**bits - 2) * scale, bits, unit)

    def require(self, good: np.ndarray, found: str, expected: str) -> None:
        """ValueError that counts the pixels of the mask that are not ``good`` and shows the first."""
        bad = self.mask & ~good
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            where = f"first {self.values[row, column]} at row {row}, column {column}"
            raise ValueError(f"{found} at {int(bad.sum())} of {int(self.mask.sum())} pixels ({where}), expected {expected}")


def _decode(
    stored: StoredDepth, near: float | None, far: float | None, reading: DepthReading
) -> tuple[np.ndarray, np.ndarray, DepthEncoding]:
    """depth [H, W] float32 (0 where there is none), mask [H, W] and encoding of stored values."""
    mask = ~_without_surface(stored.values, reading.no_surface)
    if stored.opaque is not None:
        mask &= stored.opaque
    if not mask.any():
        raise ValueError(f"no pixel with a surface: all are {' or '.join(map(str, reading.no_surface))} (no_surface)")
    decoder = _Decoder(stored.values, mask, near, far, reading)
    depth = decoder.depth()
    return depth, mask, decoder.encoding(depth)


def _without_surface(values: np.ndarray, markers: tuple[float, ...]) -> np.ndarray:
    empty = np.zeros(values.shape, bool)
    for marker in markers:
        if math.isnan(marker):
            empty |= np.isnan(values)
        elif values.dtype.kind == "f":
            empty |= values == values.dtype.type(marker)  # 1e10 is another number in float32
        else:
            empty |= values == marker
    return empty


def save_depth_exr(path: Path, depth_map: DepthMap) -> None:
    """Write depth as a float32 EXR file, channel Z, 0 = no surface, with unit, camera and source as an attribute; atomically.

    :func:`load_depth` gives back the same float32 values. The same map gives the same bytes.
    """
    import OpenEXR

    depth = np.where(depth_map.mask, depth_map.depth, 0).astype(np.float32)
    if not (np.isfinite(depth).all() and (depth[depth_map.mask] > 0).all()):
        raise ValueError(f"{path}: depth to store is NaN, infinite, negative or 0, expected finite depth above 0 in the mask")
    encoding = depth_map.encoding
    metadata = {
        "schema": SIDECAR_SCHEMA, "unit": encoding.unit, "nominal": encoding.nominal, "camera": depth_map.camera.to_dict(),
        "source": depth_map.source,
    }  # fmt: skip
    header = {
        "type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION,
        EXR_METADATA: json.dumps(metadata, allow_nan=False),
    }  # fmt: skip
    with atomic_path(Path(path)) as temporary:
        try:
            OpenEXR.File(header, {"Z": depth}).write(str(temporary))
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error


def _from_own_exr(path: Path, stored: StoredDepth) -> DepthMap:
    try:
        data = json.loads(stored.metadata)
        if data.get("schema") != SIDECAR_SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r}, expected {SIDECAR_SCHEMA}")
        camera, source, unit = Camera.from_dict(data["camera"]), str(data["source"]), data["unit"]
        if stored.values.shape != (camera.height, camera.width):
            raise ValueError(f"a camera of {camera.width}x{camera.height}, the image is {stored.values.shape[::-1]}")
        depth, mask, encoding = _decode(stored, None, None, DepthReading(unit=unit))
        encoding = replace(encoding, nominal=bool(data.get("nominal")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a valid depth EXR of ours: {error}") from error
    return DepthMap(depth, mask, encoding, camera, source, stored.values.dtype.kind == "f")
