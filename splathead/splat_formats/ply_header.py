"""PLY 1.0 below the Gaussians: the header, checked against the file's size, and the rows of an element in chunks.

The header is checked before anything is allocated, which the package ``plyfile`` does not do, and half floats
(FaceLift's ``use_fp16`` variant) are outside of plyfile's types; so the header is parsed here and the body is read
by numpy. Rows come in chunks, so that a large file needs no second copy of itself in memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from splathead.splat_formats.builder import CHUNK_ROWS

MAX_HEADER_BYTES = 2**16
MAX_ASCII_ROW_BYTES = 2**14

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
    # PLY 1.0 has no half float; these are the names that writers of the fp16 variant use
    "half": "f2", "float16": "f2", "f2": "f2",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
UNIT_COMMENT = "splathead unit"
"""Start of the header comment in which our own files carry their unit of length."""


class PlyError(ValueError):
    """A PLY file that cannot be read; the message names file, value found and what is expected."""


@dataclass
class PlyElement:
    """One ``element`` of a header: its row count and scalar properties (name -> numpy type code)."""

    name: str
    count: int
    properties: dict[str, str] = field(default_factory=dict)
    has_lists: bool = False


@dataclass
class PlyHeader:
    """A parsed PLY header. ``data_offset`` is the byte at which the body starts."""

    format: str
    elements: list[PlyElement]
    comments: list[str]
    data_offset: int

    def element(self, name: str) -> PlyElement | None:
        """The first element of this name, None when there is none."""
        return next((element for element in self.elements if element.name == name), None)

    @property
    def vertex(self) -> PlyElement | None:
        """The ``vertex`` element, None when there is none."""
        return self.element("vertex")

    @property
    def is_facelift(self) -> bool:
        """FaceLift's layout: 8-bit colours after the position, no normals, Gaussian parameters after them."""
        properties = self.vertex.properties if self.vertex else {}
        return [properties.get(name) for name in ("red", "green", "blue")] == ["u1"] * 3 and "nx" not in properties

    @property
    def is_compressed(self) -> bool:
        """SuperSplat's compressed layout: ``packed_position`` and so on, dequantised by an element ``chunk``."""
        return self.vertex is not None and "packed_position" in self.vertex.properties

    @property
    def unit(self) -> str:
        """Unit of length from our own header comment; "scene" when the file does not say."""
        return next((c.removeprefix(UNIT_COMMENT).strip() for c in self.comments if c.startswith(UNIT_COMMENT)), "scene")


def read_ply_header(path: Path) -> PlyHeader:
    """Parse a PLY header. Raises FileNotFoundError, or :class:`PlyError` for anything that is not PLY 1.0."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such PLY file")
    with path.open("rb") as stream:
        start = stream.read(MAX_HEADER_BYTES)
    if not re.match(rb"ply\r?\n", start):
        raise PlyError(f"{path}: not a PLY file: it starts with {start[:8]!r}, expected b'ply' and a line end")
    end = re.search(rb"^end_header\r?\n", start, re.MULTILINE)
    if end is None:
        raise PlyError(f"{path}: no end_header line in the first {len(start)} bytes (truncated file?)")
    try:
        lines = start[: end.start()].decode("ascii", errors="replace").splitlines()[1:]
        return _parse_header(lines, end.end())
    except PlyError as error:
        raise PlyError(f"{path}: {error}") from None


def _parse_header(lines: list[str], data_offset: int) -> PlyHeader:
    header = PlyHeader("", [], [], data_offset)
    for line in lines:
        match line.split():
            case [] | ["obj_info", *_]:
                continue
            case ["comment", *words]:
                header.comments.append(" ".join(words))
            case ["format", name, "1.0"] if name in _BYTE_ORDERS:
                header.format = name
            case ["element", name, count] if count.isdecimal() and len(count) < 16:
                header.elements.append(PlyElement(name, int(count)))
            case ["property", "list", _, _, _] if header.elements:
                header.elements[-1].has_lists = True
            case ["property", kind, name] if header.elements and kind in _TYPES:
                if name in header.elements[-1].properties:
                    raise PlyError(f"property {name!r} appears twice in element {header.elements[-1].name!r}")
                header.elements[-1].properties[name] = _TYPES[kind]
            case _:
                raise PlyError(f"unexpected header line {line[:80]!r}")
    if not header.format:
        raise PlyError(f"no format line, expected one of {', '.join(_BYTE_ORDERS)} 1.0")
    return header


def check_size(header: PlyHeader, name: str, file_size: int) -> None:
    """The body must be able to hold the rows up to and including element ``name``: checked before any allocation."""
    wanted = header.element(name)
    if wanted.has_lists:
        raise PlyError(f"list properties in the {name} element, expected scalars")
    needed = 0
    for element in header.elements[: header.elements.index(wanted) + 1]:
        if element.has_lists and element.count:
            raise PlyError(f"element {element.name!r} with list properties before {name!r}, expected {name!r} first")
        # an ASCII value takes at least a digit and a separator; the file's last separator may be missing
        row = 2 * len(element.properties) if header.format == "ascii" else row_type(header, element).itemsize
        needed += row * element.count
    found = file_size - header.data_offset + (header.format == "ascii")
    if found < needed:
        rows = f"{wanted.count} rows of {name}"
        raise PlyError(f"truncated: {found} bytes after the header, expected at least {needed} for {rows}")


def row_type(header: PlyHeader, element: PlyElement) -> np.dtype:
    """Structured type of one row of a binary file."""
    order = _BYTE_ORDERS[header.format]
    return np.dtype([(name, order + code) for name, code in element.properties.items()])


def read_rows(path: Path, header: PlyHeader, name: str, chunk_rows: int = CHUNK_ROWS) -> Iterator[np.ndarray]:
    """Structured arrays [at most ``chunk_rows``] of an element's rows; :func:`check_size` must have passed."""
    element = header.element(name)
    before = header.elements[: header.elements.index(element)]
    with Path(path).open("rb") as stream:
        stream.seek(header.data_offset)
        if header.format == "ascii":
            yield from _ascii_rows(stream, element, sum(other.count for other in before))
            return
        stream.seek(sum(row_type(header, other).itemsize * other.count for other in before), 1)
        for start in range(0, element.count, chunk_rows):
            rows = np.fromfile(stream, row_type(header, element), min(chunk_rows, element.count - start))
            if not len(rows):
                raise PlyError(f"truncated: the file ends after {start} of {element.count} rows of {name}")
            yield rows


def _ascii_rows(stream: BinaryIO, element: PlyElement, skip: int, chunk_rows: int = 4096) -> Iterator[np.ndarray]:
    """Rows as float64, after ``skip`` rows of other elements; empty lines count for nothing."""
    lines = itertools.islice(_ascii_lines(stream), skip, skip + element.count)
    names, done = list(element.properties), 0
    while chunk := list(itertools.islice(lines, chunk_rows)):
        try:
            rows = np.loadtxt(chunk, dtype=np.float64, comments=None, ndmin=2)
        except ValueError as error:
            raise PlyError(f"{element.name} rows are not numbers: {error}") from None
        if rows.shape[1] != len(names):
            raise PlyError(f"truncated: rows of {rows.shape[1]} values, expected {len(names)}")
        done += len(rows)
        yield np.ascontiguousarray(rows).view([(name, np.float64) for name in names])[:, 0]
    if done < element.count:
        raise PlyError(f"truncated: {done} rows of {len(names)} values, expected {element.count}")


def _ascii_lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MAX_ASCII_ROW_BYTES):
        if len(line) == MAX_ASCII_ROW_BYTES:
            raise PlyError(f"a row of more than {MAX_ASCII_ROW_BYTES} bytes, expected numbers and line ends")
        if line.strip():
            yield line
