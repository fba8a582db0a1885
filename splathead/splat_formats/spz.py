"""Niantic's ``.spz``, versions 2 to 4: attributes quantised to bytes, one gzip stream (2, 3) or a zstd stream each (4).

A header says version, count, degree of the harmonics and fractional bits of the positions; then come, attribute by
attribute, positions (24-bit fixed point), opacities (8 bits), colours ((code / 255 - 0.5) / 0.15 is f_dc), log scales
(code / 16 - 10), rotations (x y z in 8 bits each, or the three smaller components in 10 bits each) and harmonics
((code - 128) / 128, coefficient by coefficient). The axes are right, up, back unless an extension says otherwise;
Gaussians are returned in those, so y is up and a face that looks at the viewer looks along +z.

Read here and not by a package: the reference implementation has no wheels, and the package ``gsply``, which the tests
compare with, unpacks a gzip stream of any size and knows no extensions. Here no stream can unpack to more than what
its checked header allows. Source: README and load-spz.cc of nianticlabs/spz (MIT), which define the format.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from splathead.gaussians import Gaussians
from splathead.splat_formats.builder import (
    CHUNK_ROWS,
    GaussianBuilder,
    LoadOptions,
    SplatFile,
    complete_quaternions,
    opacity_logit,
)  # fmt: skip

GZIP_MAGIC, MAGIC = b"\x1f\x8b", b"NGSP"
MAX_EXTENSION_BYTES = 2**20
COORDINATE_SYSTEM = 0xADBE0003
"""Extension type of SPZ_ADOBE_coordinate_system: the axes in which the file's Gaussians are stored."""

_COORDINATE_SYSTEMS = (
    "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF", "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU",
)  # fmt: skip
_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "U": (0, 1, 0), "D": (0, -1, 0), "B": (0, 0, 1), "F": (0, 0, -1)}
_ANTIALIASED, _HAS_EXTENSIONS = 1, 2
_MAX_WINDOW = 2**27  # of zstd's levels, the highest one's
_MAX_DEFLATE_RATIO = 1032
_HEADER = struct.Struct("<4sIIBBBB")
_TOC_OFFSET = struct.Struct("<I12s")


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    fractional_bits: int
    flags: int
    last: int  # version 4: number of streams

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes a Gaussian of each attribute, in the file's order."""
        rotation, harmonics = 3 if self.version < 3 else 4, 3 * ((self.degree + 1) ** 2 - 1)
        return {"positions": 9, "alphas": 1, "colours": 3, "scales": 3, "rotations": rotation, "harmonics": harmonics}


def is_packed_spz(path: Path) -> bool:
    """Whether a gzip file holds a ``.spz`` (version 2 or 3)."""
    try:
        with gzip.open(path) as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except (EOFError, OSError, zlib.error):
        return False


def read_spz(path: Path, options: LoadOptions) -> SplatFile:
    """Read a ``.spz``. ValueError, without the file's name, for one that is damaged, too large or of another version."""
    with Path(path).open("rb") as stream:
        packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        try:
            header, sections, extensions = (_read_gzip if packed else _read_zstd)(stream, options)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"damaged or truncated .spz: {error}") from None
    builder = GaussianBuilder(header.count, header.degree, options)
    for start in range(0, header.count, CHUNK_ROWS):
        rows = {name: data[start : start + CHUNK_ROWS] for name, data in sections.items()}
        dc = (rows["colours"] / np.float32(255) - 0.5) / 0.15
        rest = (rows["harmonics"].reshape(len(dc), (header.degree + 1) ** 2 - 1, 3).astype(np.float32) - 128) / 128
        builder.add(
            means=_fixed_point(rows["positions"], header.fractional_bits),
            log_scales=rows["scales"] / np.float32(16) - 10,
            quaternions=_rotations(rows["rotations"]),
            opacity_logits=opacity_logit(rows["alphas"][:, 0] / np.float32(255)),
            sh=np.concatenate([dc[:, None], rest], axis=1),
        )
    loaded = builder.finish(f".spz version {header.version}")
    notes = ("trained with antialiasing",) if header.flags & _ANTIALIASED else ()
    gaussians, axes = _to_right_up_back(loaded.gaussians, extensions)
    return replace(loaded, gaussians=gaussians, notes=(*loaded.notes, *notes, *axes))


def _parse_header(data: bytes, versions: tuple[int, ...], options: LoadOptions) -> _Header:
    if len(data) < _HEADER.size or data[:4] != MAGIC:
        raise ValueError(f"no .spz: it unpacks to {data[:4]!r}, expected {MAGIC!r}")
    _, version, count, degree, fractional_bits, flags, last = _HEADER.unpack(data[: _HEADER.size])
    if version not in versions:
        raise ValueError(f".spz version {version}, expected {' or '.join(map(str, versions))} here")
    if degree > 4 or fractional_bits > 24:
        raise ValueError(f".spz header with degree {degree} and {fractional_bits} fractional bits, expected up to 4 and 24")
    options.check_count(count)
    return _Header(version, count, degree, fractional_bits, flags, last)


def _read_gzip(stream: BinaryIO, options: LoadOptions) -> tuple[_Header, dict[str, np.ndarray], bytes]:
    """Versions 2 and 3. Reads as many bytes as the header's count takes, and no more."""
    size = stream.seek(0, 2)
    stream.seek(0)
    with gzip.GzipFile(fileobj=stream) as unpacked:
        header = _parse_header(unpacked.read(_HEADER.size), (2, 3), options)
        if header.count * sum(header.sizes.values()) > size * _MAX_DEFLATE_RATIO:
            raise ValueError(f"truncated: {size} bytes cannot hold {header.count} Gaussians")
        sections = {name: _section(unpacked, name, header, width) for name, width in header.sizes.items()}
        extensions = unpacked.read(MAX_EXTENSION_BYTES + 1)
    limit = MAX_EXTENSION_BYTES if header.flags & _HAS_EXTENSIONS else 0
    if len(extensions) > limit:
        raise ValueError(f"more than {limit} bytes follow its {header.count} Gaussians")
    return header, sections, extensions


def _read_zstd(stream: BinaryIO, options: LoadOptions) -> tuple[_Header, dict[str, np.ndarray], bytes]:
    """Version 4: header, extensions, table of the streams' sizes, streams."""
    import zstandard

    size = stream.seek(0, 2)
    stream.seek(0)
    header = _parse_header(stream.read(_HEADER.size), (4,), options)
    start = _HEADER.size + _TOC_OFFSET.size
    offset, _ = _TOC_OFFSET.unpack(stream.read(_TOC_OFFSET.size).ljust(_TOC_OFFSET.size, b"\0"))
    sizes = {name: width for name, width in header.sizes.items() if width}
    if header.last != len(sizes) or not start <= offset <= start + MAX_EXTENSION_BYTES or offset + 16 * len(sizes) > size:
        raise ValueError(f"{header.last} streams listed at byte {offset} of {size}, expected {len(sizes)} from byte {start} on")
    extensions = stream.read(offset - start) if header.flags & _HAS_EXTENSIONS else b""
    stream.seek(offset)
    table = np.frombuffer(stream.read(16 * len(sizes)), "<u8").reshape(-1, 2).tolist()
    found, sections = sum(packed for packed, _ in table), {"harmonics": np.empty((header.count, 0), np.uint8)}
    if found != size - stream.tell():
        raise ValueError(f"truncated or damaged: streams of {found} bytes, the file has {size - stream.tell()} for them")
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    for (name, width), (packed, unpacked_size) in zip(sizes.items(), table, strict=True):
        if unpacked_size != width * header.count:
            raise ValueError(f"{name} of {unpacked_size} bytes, expected {width * header.count} for {header.count} Gaussians")
        try:
            unpacked = unpacker.stream_reader(io.BytesIO(stream.read(packed)))
            sections[name] = _section(unpacked, name, header, width)
            if unpacked.read(1):
                raise ValueError(f"{name} unpack to more than the {unpacked_size} bytes that they are said to be")
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged {name}: {error}") from None
    return header, sections, extensions


def _section(stream: BinaryIO, name: str, header: _Header, width: int) -> np.ndarray:
    """Bytes [count, width] of one attribute."""
    data = stream.read(width * header.count)
    if len(data) < width * header.count:
        expected = f"{width * header.count} for {header.count} Gaussians"
        raise ValueError(f"truncated: {len(data)} bytes of {name}, expected {expected}")
    return np.frombuffer(data, np.uint8).reshape(header.count, width)


def _fixed_point(codes: np.ndarray, fractional_bits: int) -> np.ndarray:
    """Positions [n, 3] from bytes [n, 9]: 24-bit signed little endian integers."""
    low, middle, high = codes.reshape(-1, 3, 3).astype(np.int32).transpose(2, 0, 1)
    unsigned = low | middle << 8 | high << 16
    return ((unsigned ^ 0x800000) - 0x800000) * np.float32(2.0**-fractional_bits)


def _rotations(codes: np.ndarray) -> np.ndarray:
    """Quaternions [n, 4] (w x y z) from bytes [n, 3] (x y z) or [n, 4] (index of the largest, the other three)."""
    if codes.shape[1] == 3:
        xyz = codes / np.float32(127.5) - 1
        return np.concatenate([np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True))), xyz], axis=1)
    words = np.ascontiguousarray(codes).view("<u4")[:, 0]
    fields = np.stack([words >> 20, words >> 10, words], axis=1)
    small = (fields & 511) * np.float32(np.sqrt(0.5) / 511) * np.where(fields & 512, np.float32(-1), np.float32(1))
    return complete_quaternions((words >> 30).astype(np.intp), small)[:, [3, 0, 1, 2]]


def _to_right_up_back(gaussians: Gaussians, extensions: bytes) -> tuple[Gaussians, tuple[str, ...]]:
    """Turn Gaussians that an extension says are stored in other axes; with a note for the user."""
    system = next((data for kind, data in _extension_records(extensions) if kind == COORDINATE_SYSTEM), None)
    if system is None:
        return gaussians, ()
    code = int.from_bytes(system, "little")
    if len(system) != 4 or not 0 < code <= len(_COORDINATE_SYSTEMS):
        raise ValueError(f"coordinate system {code} in its extension, expected 1 to {len(_COORDINATE_SYSTEMS)}")
    name = _COORDINATE_SYSTEMS[code - 1]
    if name == "RUB":
        return gaussians, ()
    axes = torch.tensor([_DIRECTIONS[letter] for letter in name], dtype=torch.float32).T  # column k: where stored axis k points
    # A mirrored system is a rotation followed by a point reflection, under which shapes stay and odd bands change sign.
    mirror = 1.0 if torch.linalg.det(axes) > 0 else -1.0
    turned = gaussians.transformed(mirror * axes, torch.zeros(3))
    bands = torch.arange(turned.sh.shape[1]).sqrt().floor().long()
    signs = torch.where(bands % 2 == 1, mirror, 1.0)[:, None]
    return replace(turned, means=mirror * turned.means, sh=turned.sh * signs), (f"stored in axes {name}, turned to RUB",)


def _extension_records(data: bytes) -> list[tuple[int, bytes]]:
    """(type, payload) of every extension; damaged ones are a ValueError."""
    records, position = [], 0
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position) if position + 8 <= len(data) else (0, 2**32)
        if position + 8 + length > len(data):
            raise ValueError(f"damaged extensions: {len(data) - position} bytes left for a record")
        records.append((kind, data[position + 8 : position + 8 + length]))
        position += 8 + length
    return records
