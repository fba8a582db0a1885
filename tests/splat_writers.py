"""Splat files written from the formats' public descriptions, one Gaussian at a time, without any code of ``splathead``."""

from __future__ import annotations

import gzip
import math
import struct

import numpy as np
import plyfile

C0 = 0.28209479177387814
RANGES = [f"{end}_{what}{axis}" for what in ("", "scale_") for end in ("min", "max") for axis in "xyz"]
COLOUR_RANGES = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def byte(x: float) -> int:
    return max(0, min(255, math.floor(x + 0.5)))


def unorm(x: float, bits: int) -> int:
    top = 2**bits - 1
    return max(0, min(top, math.floor(x * top + 0.5)))


def unit(quaternion) -> list[float]:
    length = math.sqrt(sum(float(q) ** 2 for q in quaternion))
    return [float(q) / length for q in quaternion]


def largest_first(quaternion: list[float]) -> tuple[int, list[float]]:
    """Index of the largest component and the others, of the quaternion or its opposite with that component positive."""
    k = max(range(4), key=lambda i: abs(quaternion[i]))
    sign = -1 if quaternion[k] < 0 else 1
    return k, [sign * q for i, q in enumerate(quaternion) if i != k]


def compressed_words(g, ranges: dict[str, float], i: int, with_colours: bool) -> tuple[int, int, int, int]:
    """The four words of Gaussian ``i`` in SuperSplat's layout."""

    def place(value: float, name: str) -> float:
        low, high = ranges["min_" + name], ranges["max_" + name]
        return 0 if high - low < 1e-5 else (value - low) / (high - low)

    def pack(values: list[float], bits: list[int]) -> int:
        word = 0
        for value, width in zip(values, bits, strict=True):
            word = word << width | unorm(value, width)
        return word

    position = pack([place(float(g.means[i, k]), "xyz"[k]) for k in range(3)], [11, 10, 11])
    scale = pack([place(float(g.log_scales[i, k]), "scale_" + "xyz"[k]) for k in range(3)], [11, 10, 11])
    colours = [0.5 + C0 * float(g.sh[i, 0, k]) for k in range(3)]
    if with_colours:
        colours = [place(colour, "rgb"[k]) for k, colour in enumerate(colours)]
    colour = pack([*colours, sigmoid(float(g.opacity_logits[i]))], [8, 8, 8, 8])
    largest, small = largest_first(unit(g.quaternions[i]))
    rotation = largest << 30 | pack([q * math.sqrt(2) / 2 + 0.5 for q in small], [10, 10, 10])
    return position, rotation, scale, colour


def write_compressed_ply(path, g, with_colours: bool = True, byte_order: str = "<") -> None:
    """SuperSplat's compressed PLY of Gaussians ``g``; the container by plyfile."""
    count, degree_columns = len(g.means), 3 * (g.sh.shape[1] - 1)
    chunks, words = [], []
    for start in range(0, count, 256):
        part = slice(start, min(start + 256, count))
        values = {axis: g.means[part, k] for k, axis in enumerate("xyz")}
        values |= {"scale_" + axis: g.log_scales[part, k] for k, axis in enumerate("xyz")}
        values |= {channel: 0.5 + C0 * g.sh[part, 0, k] for k, channel in enumerate("rgb")}
        ranges = {f"{end}_{name}": float(getattr(v, end)()) for name, v in values.items() for end in ("min", "max")}
        chunks.append(tuple(ranges[name] for name in RANGES + COLOUR_RANGES * with_colours))
        words += [compressed_words(g, ranges, i, with_colours) for i in range(part.start, part.stop)]
    chunk_type = [(name, "f4") for name in RANGES + COLOUR_RANGES * with_colours]
    word_type = [("packed_" + name, "u4") for name in ("position", "rotation", "scale", "color")]
    elements = [
        plyfile.PlyElement.describe(np.array(chunks, chunk_type), "chunk"),
        plyfile.PlyElement.describe(np.array(words, word_type), "vertex"),
    ]
    if degree_columns:
        rest = g.sh[:, 1:].permute(0, 2, 1).reshape(count, degree_columns).tolist()
        codes = [tuple(max(0, min(255, int((v / 8 + 0.5) * 256))) for v in row) for row in rest]
        sh_type = [(f"f_rest_{i}", "u1") for i in range(degree_columns)]
        elements.append(plyfile.PlyElement.describe(np.array(codes, sh_type), "sh"))
    plyfile.PlyData(elements, byte_order=byte_order).write(str(path))


def dot_splat(g) -> bytes:
    """antimatter15's convert.py, without its sorting."""
    rows = []
    for i in range(len(g.means)):
        colours = [0.5 + C0 * float(g.sh[i, 0, k]) for k in range(3)] + [sigmoid(float(g.opacity_logits[i]))]
        codes = [int(max(0.0, min(255.0, colour * 255))) for colour in colours]
        codes += [int(max(0.0, min(255.0, q * 128 + 128))) for q in unit(g.quaternions[i])]
        rows.append(struct.pack("<6f8B", *g.means[i].tolist(), *g.log_scales[i].exp().tolist(), *codes))
    return b"".join(rows)


def spz_sections(g, version: int, fractional_bits: int = 12) -> dict[str, bytes]:
    """The attributes of an .spz, in its order."""
    names = ("positions", "alphas", "colours", "scales", "rotations", "harmonics")
    out = {name: bytearray() for name in names}
    for i in range(len(g.means)):
        for k in range(3):
            fixed = round(float(g.means[i, k]) * 2**fractional_bits)
            out["positions"] += (fixed & 0xFFFFFF).to_bytes(3, "little")
            out["colours"].append(byte(float(g.sh[i, 0, k]) * 0.15 * 255 + 127.5))
            out["scales"].append(byte((float(g.log_scales[i, k]) + 10) * 16))
        out["alphas"].append(byte(sigmoid(float(g.opacity_logits[i])) * 255))
        w, x, y, z = unit(g.quaternions[i])
        if version == 2:
            out["rotations"] += bytes(byte(q * math.copysign(127.5, w) + 127.5) for q in (x, y, z))
        else:
            word, small = largest_first([x, y, z, w])
            for q in small:
                word = word << 10 | (512 if q < 0 else 0) | int(511 * abs(q) / math.sqrt(0.5) + 0.5)
            out["rotations"] += struct.pack("<I", word)
        out["harmonics"] += bytes(byte(float(v) * 128 + 128) for v in g.sh[i, 1:].reshape(-1))
    return {name: bytes(data) for name, data in out.items()}


def spz_header(count: int, degree: int, version: int, fractional_bits: int = 12, flags: int = 0, last: int = 0) -> bytes:
    return struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, fractional_bits, flags, last)


def spz(g, version: int, extensions: bytes = b"", flags: int = 0) -> bytes:
    """An .spz of version 2, 3 (gzip) or 4 (zstd)."""
    degree = math.isqrt(g.sh.shape[1]) - 1
    sections, flags = spz_sections(g, version), flags | (2 if extensions else 0)
    if version < 4:
        return gzip.compress(spz_header(len(g.means), degree, version, flags=flags) + b"".join(sections.values()) + extensions)
    return spz4(len(g.means), degree, sections, extensions, flags)


def spz4(count: int, degree: int, sections: dict[str, bytes], extensions: bytes = b"", flags: int = 0) -> bytes:
    import zstandard

    streams = [(zstandard.ZstdCompressor().compress(data), len(data)) for data in sections.values() if data]
    toc = b"".join(struct.pack("<QQ", len(packed), size) for packed, size in streams)
    start = spz_header(count, degree, 4, flags=flags, last=len(streams)) + struct.pack("<I12x", 32 + len(extensions))
    return start + extensions + toc + b"".join(packed for packed, _ in streams)
