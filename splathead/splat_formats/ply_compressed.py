"""SuperSplat's compressed PLY: 256 Gaussians a chunk, 16 bytes each, dequantised with the chunk's ranges.

Elements: ``chunk`` (ranges of position, log scale and, in newer files, colour), ``vertex`` (four 32-bit words) and
optionally ``sh`` (``f_rest_*``, 8 bits each). Bits, from the highest:

* ``packed_position``, ``packed_scale``: 11, 10, 11 bits of x, y, z between the chunk's minimum and maximum.
* ``packed_rotation``: 2 bits say which of w, x, y, z is largest; 10 bits for each of the others, in that order,
  from -1/sqrt(2) to 1/sqrt(2).
* ``packed_color``: 8 bits of red, green, blue (between the chunk's range, else 0 to 1) and opacity, not its logit.
* ``sh``: 256 bins over -4 to 4, read at the middle of the bin (the outermost two: at the end).

Source: the readers and writers of PlayCanvas' splat-transform and SuperSplat (MIT), which define the format.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splathead.gaussians import SH_C0
from splathead.splat_formats.builder import (
    CHUNK_ROWS,
    GaussianBuilder,
    LoadOptions,
    SplatFile,
    complete_quaternions,
    harmonics_from_rest,
    opacity_logit,
)  # fmt: skip
from splathead.splat_formats.ply_header import PlyError, PlyHeader, check_size, read_rows

CHUNK_SIZE = 256
"""Gaussians that share one row of ranges."""

LAYOUT = "SuperSplat compressed PLY"
_WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_GEOMETRY_RANGES = [f"{end}_{what}{axis}" for what in ("", "scale_") for end in ("min", "max") for axis in "xyz"]
_COLOUR_RANGES = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]
_SH_DEGREES = {9: 1, 24: 2, 45: 3}


def read_compressed_rows(path: Path, header: PlyHeader, options: LoadOptions) -> SplatFile:
    """Read the Gaussians of a compressed PLY. Errors: PlyError, ValueError, without the file's name."""
    degree = _check_layout(header, options)
    for element in header.elements:
        check_size(header, element.name, path.stat().st_size)
    ranges = np.concatenate(list(read_rows(path, header, "chunk")))
    bad = next((name for name in ranges.dtype.names if not np.isfinite(ranges[name]).all()), "")
    if bad:
        raise PlyError(f"NaN or infinity in {bad} of the chunks, expected finite ranges")
    builder = GaussianBuilder(header.vertex.count, degree, options)
    rest = read_rows(path, header, "sh") if builder.sh_degree else None
    for k, words in enumerate(read_rows(path, header, "vertex")):
        chunk = ranges[(k * CHUNK_ROWS + np.arange(len(words))) // CHUNK_SIZE]
        colour = _unpack(words["packed_color"], (8, 8, 8, 8))
        if "min_r" in ranges.dtype.names:
            colour[:, :3] = _between(chunk, "", "rgb", colour[:, :3])
        sh = ((colour[:, :3] - 0.5) / SH_C0)[:, None]
        builder.add(
            means=_between(chunk, "", "xyz", _unpack(words["packed_position"], (11, 10, 11))),
            log_scales=_between(chunk, "scale_", "xyz", _unpack(words["packed_scale"], (11, 10, 11))),
            quaternions=_unpack_rotation(words["packed_rotation"]),
            opacity_logits=opacity_logit(colour[:, 3]),
            sh=sh if rest is None else harmonics_from_rest(sh[:, 0], _unpack_rest(next(rest))),
        )
    return builder.finish(LAYOUT)


def _check_layout(header: PlyHeader, options: LoadOptions) -> int:
    """Check names, types and counts; the degree of the harmonics."""
    if header.format == "ascii":
        raise PlyError("a compressed SuperSplat PLY in ASCII, expected a binary one")
    chunk, vertex, sh = header.element("chunk"), header.vertex, header.element("sh")
    if chunk is None:
        raise PlyError(f"packed_position without an element 'chunk', it has {[e.name for e in header.elements]}")
    names = set(chunk.properties)
    if not names >= set(_GEOMETRY_RANGES) or (names & set(_COLOUR_RANGES) and not names >= set(_COLOUR_RANGES)):
        raise PlyError(f"chunk properties {' '.join(chunk.properties)}, expected {' '.join(_GEOMETRY_RANGES + _COLOUR_RANGES)}")
    if wrong := [name for name in _WORDS if vertex.properties.get(name) != "u4"]:
        raise PlyError(f"vertex properties {' '.join(wrong)} are missing or not 32-bit unsigned, expected {' '.join(_WORDS)}")
    options.check_count(vertex.count)
    if chunk.count != -(-vertex.count // CHUNK_SIZE):
        raise PlyError(f"{chunk.count} chunks for {vertex.count} Gaussians, expected one for every {CHUNK_SIZE}")
    if sh is None:
        return 0
    expected = {f"f_rest_{i}": "u1" for i in range(len(sh.properties))}
    if len(expected) not in _SH_DEGREES or sh.properties != expected or sh.count != vertex.count:
        raise PlyError(
            f"sh element with {sh.count} rows of {len(sh.properties)} properties, expected {vertex.count} rows of 8-bit "
            f"f_rest_0 and so on, {' or '.join(map(str, _SH_DEGREES))} of them"
        )
    return _SH_DEGREES[len(expected)]


def _unpack(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Fields [n, len(bits)] float32 in 0..1 of 32-bit words [n], the highest bits first."""
    fields, shift = [], sum(bits)
    for width in bits:
        shift -= width
        fields.append(((words >> shift) & (2**width - 1)) / np.float32(2**width - 1))
    return np.stack(fields, axis=1).astype(np.float32)


def _between(chunk: np.ndarray, what: str, axes: str, fraction: np.ndarray) -> np.ndarray:
    """Fractions [n, 3] between the minima and maxima of each row's chunk."""
    low, high = (np.stack([chunk[f"{end}_{what}{axis}"] for axis in axes], axis=1) for end in ("min", "max"))
    return low * (1 - fraction) + high * fraction


def _unpack_rotation(words: np.ndarray) -> np.ndarray:
    """Quaternions [n, 4] (w x y z) from their three smaller components."""
    small = (_unpack(words & 0x3FFFFFFF, (10, 10, 10)) - 0.5) * np.float32(np.sqrt(2))
    return complete_quaternions((words >> 30).astype(np.intp), small)


def _unpack_rest(rows: np.ndarray) -> np.ndarray:
    codes = np.stack([rows[name] for name in rows.dtype.names], axis=1)
    middles = (np.arange(256, dtype=np.float32) + 0.5) / 256
    middles[[0, 255]] = 0, 1
    return ((middles - 0.5) * 8)[codes]
