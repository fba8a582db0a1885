"""3D Gaussian splatting PLY files: read by property name, written in Inria's layout.

Read: Inria 3DGS and what follows it (gsplat, LAM, SuperSplat's uncompressed export) and FaceLift, in
ASCII or binary of either byte order. Properties: ``x y z``, ``f_dc_0..2``, ``f_rest_*`` (channel-major:
all of red, then green, then blue), ``opacity`` (logit), ``scale_0..2`` (natural logarithm),
``rot_0..3`` (w x y z, any length); everything else (normals, colours) is ignored.

The header is checked against the file's size before anything is allocated, which the package
``plyfile`` does not do, and half floats (FaceLift's ``use_fp16`` variant) are outside of plyfile's
types; so the header is parsed here and the body is a numpy memory map.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from splathead.gaussians import Gaussians
from splathead.images import atomic_path

MAX_HEADER_BYTES = 2**16
MAX_GAUSSIANS = 5_000_000
SH_REST_COUNTS = (0, 9, 24, 45)
"""Number of f_rest properties of spherical harmonics of degree 0, 1, 2, 3."""

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
    # PLY 1.0 has no half float; these are the names that writers of the fp16 variant use
    "half": "f2", "float16": "f2", "f2": "f2",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_UNIT_COMMENT = "splathead unit"


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

    @property
    def vertex(self) -> PlyElement | None:
        """The ``vertex`` element, None when there is none."""
        return next((element for element in self.elements if element.name == "vertex"), None)

    @property
    def is_facelift(self) -> bool:
        """FaceLift's layout: 8-bit colours after the position, no normals, Gaussian parameters after them."""
        properties = self.vertex.properties if self.vertex else {}
        return [properties.get(name) for name in ("red", "green", "blue")] == ["u1"] * 3 and "nx" not in properties

    @property
    def unit(self) -> str:
        """Unit of length from our own header comment; "scene" when the file does not say."""
        return next((c.removeprefix(_UNIT_COMMENT).strip() for c in self.comments if c.startswith(_UNIT_COMMENT)), "scene")


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


def load_gaussians_ply(path: Path, max_gaussians: int = MAX_GAUSSIANS) -> Gaussians:
    """Read Gaussians from a 3DGS PLY file (float32; raw parameters as stored, quaternions not normalised).

    Spherical harmonics are cut to the lowest degree that holds every non-zero coefficient. ``unit`` is
    "mm" only when the file carries our comment. Raises :class:`PlyError` for a file that is not PLY,
    is truncated, lacks a property, is compressed (SuperSplat), holds no Gaussian, more than
    ``max_gaussians``, or values that are NaN or infinite.
    """
    path = Path(path)
    header = read_ply_header(path)
    try:
        _check_vertex(header, max_gaussians)
        _check_size(header, path.stat().st_size)
        columns = _read_ascii(path, header) if header.format == "ascii" else _map_binary(path, header)
        gaussians = _build(header, columns)
        _check_values(gaussians)
    except PlyError as error:
        raise PlyError(f"{path}: {error}") from None
    return gaussians


def _check_vertex(header: PlyHeader, max_gaussians: int) -> None:
    vertex = header.vertex
    if vertex is None:
        raise PlyError(f"no vertex element, it has {[e.name for e in header.elements]}")
    names = vertex.properties
    if "packed_position" in names:
        raise PlyError(
            "compressed SuperSplat PLY (packed_position ...) is not supported; export it from SuperSplat as an uncompressed PLY"
        )
    if "opacity" not in names:
        raise PlyError(
            f"no property 'opacity', so this is no Gaussian splat (a point cloud or mesh?); it has {' '.join(names) or 'none'}"
        )
    needed = [*"xyz", "f_dc_0", "f_dc_1", "f_dc_2", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    missing = [name for name in needed if name not in names]
    if missing:
        raise PlyError(f"properties {' '.join(missing)} are missing, expected a 3DGS PLY; it has {' '.join(names)}")
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in SH_REST_COUNTS or any(f"f_rest_{i}" not in names for i in range(rest)):
        raise PlyError(f"{rest} f_rest properties, expected {SH_REST_COUNTS} numbered from 0 (degree 0 to 3)")
    if header.unit not in ("mm", "scene"):
        raise PlyError(f"unit {header.unit!r} in the header's comment, expected mm or scene")
    if not 0 < vertex.count <= max_gaussians:
        raise PlyError(f"{vertex.count} Gaussians, expected 1 to {max_gaussians} (reconstruct.max_gaussians)")


def _check_size(header: PlyHeader, file_size: int) -> None:
    """The body must be able to hold the rows up to and including ``vertex``: checked before any allocation."""
    if header.vertex.has_lists:
        raise PlyError("list properties in the vertex element, expected scalars")
    needed = 0
    for element in header.elements[: header.elements.index(header.vertex) + 1]:
        if element.has_lists and element.count:
            raise PlyError(f"element {element.name!r} with list properties before 'vertex', expected 'vertex' first")
        # an ASCII value takes at least a digit and a separator; the file's last separator may be missing
        row = 2 * len(element.properties) if header.format == "ascii" else _row_type(header, element).itemsize
        needed += row * element.count
    found = file_size - header.data_offset + (header.format == "ascii")
    if found < needed:
        count = header.vertex.count
        raise PlyError(f"truncated: {found} bytes after the header, expected at least {needed} for {count} Gaussians")


def _row_type(header: PlyHeader, element: PlyElement) -> np.dtype:
    order = _BYTE_ORDERS[header.format]
    return np.dtype([(name, order + code) for name, code in element.properties.items()])


def _map_binary(path: Path, header: PlyHeader) -> np.ndarray:
    """Structured memory map [N] of the vertex rows."""
    before = header.elements[: header.elements.index(header.vertex)]
    offset = header.data_offset + sum(_row_type(header, element).itemsize * element.count for element in before)
    return np.memmap(path, dtype=_row_type(header, header.vertex), mode="r", offset=offset, shape=(header.vertex.count,))


def _read_ascii(path: Path, header: PlyHeader) -> dict[str, np.ndarray]:
    """Columns [N] float64 of the vertex rows by name."""
    skip = sum(element.count for element in header.elements[: header.elements.index(header.vertex)])
    names = list(header.vertex.properties)
    with path.open("rb") as stream:
        stream.seek(header.data_offset)
        try:
            rows = np.loadtxt(stream, dtype=np.float64, comments=None, skiprows=skip, max_rows=header.vertex.count, ndmin=2)
        except ValueError as error:
            raise PlyError(f"vertex rows are not numbers: {error}") from None
    expected = (header.vertex.count, len(names))
    if rows.shape != expected:
        raise PlyError(f"truncated: {rows.shape[0]} rows of {rows.shape[1]} values, expected {expected[0]} of {expected[1]}")
    return dict(zip(names, rows.T, strict=True))


def _build(header: PlyHeader, columns: np.ndarray | dict[str, np.ndarray]) -> Gaussians:
    def stack(*names: str) -> torch.Tensor:
        values = np.empty((header.vertex.count, len(names)), dtype=np.float32)
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinity, which _check_values reports
            for k, name in enumerate(names):
                values[:, k] = columns[name]
        return torch.from_numpy(values)

    rest_count = sum(name.startswith("f_rest_") for name in header.vertex.properties)
    used = _last_nonzero(columns, rest_count)
    if header.is_facelift:
        # FaceLift stores its own degree channel-major and pads with zeros behind it, so that the
        # coefficients lie where a file of that lower degree would have them.
        rest_count = next(count for count in SH_REST_COUNTS if used <= count)
    if used == 0:
        rest_count = 0
    sh = stack("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest_count:
        rest = stack(*(f"f_rest_{i}" for i in range(rest_count)))
        sh = torch.cat([sh, rest.view(-1, 3, rest_count // 3).transpose(1, 2)], dim=1)
    return Gaussians(
        means=stack("x", "y", "z"),
        log_scales=stack("scale_0", "scale_1", "scale_2"),
        quaternions=stack("rot_0", "rot_1", "rot_2", "rot_3"),
        opacity_logits=stack("opacity")[:, 0],
        sh=_cut_degree(sh).contiguous(),
        unit=header.unit,
    )


def _last_nonzero(columns: np.ndarray | dict[str, np.ndarray], rest_count: int) -> int:
    """One more than the index of the last f_rest property with a non-zero value; 0 when there is none."""
    return next((i + 1 for i in reversed(range(rest_count)) if np.any(columns[f"f_rest_{i}"])), 0)


def _cut_degree(sh: torch.Tensor) -> torch.Tensor:
    degree = math.isqrt(sh.shape[1]) - 1
    while degree > 0 and not sh[:, degree**2 : (degree + 1) ** 2].any():
        degree -= 1
    return sh[:, : (degree + 1) ** 2]


def _check_values(gaussians: Gaussians) -> None:
    names = {
        "means": "x y z", "log_scales": "scale_*", "quaternions": "rot_*", "opacity_logits": "opacity", "sh": "f_dc_* f_rest_*",
    }  # fmt: skip
    for attribute, properties in names.items():
        _require(torch.isfinite(getattr(gaussians, attribute)), f"NaN or infinity in {properties}", "finite values")
    _require(torch.isfinite(gaussians.scales), "scale_* overflows exp()", "the natural logarithm of a standard deviation")
    _require(gaussians.quaternions.norm(dim=1) > 0, "rot_* is all zero", "a quaternion w x y z")


def _require(good: torch.Tensor, found: str, expected: str) -> None:
    if not good.all():
        bad = ~good.reshape(len(good), -1).all(dim=1)
        first = int(bad.nonzero()[0, 0])
        raise PlyError(f"{found} for {int(bad.sum())} of {len(bad)} Gaussians (first at index {first}), expected {expected}")


def save_gaussians_ply(path: Path, gaussians: Gaussians) -> None:
    """Write Gaussians in Inria's layout (binary little endian float32, zero normals), atomically.

    A header comment carries the unit. Reading the file back gives the same float32 values.
    """
    count, coefficients = gaussians.sh.shape[:2]
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    names = [*"xyz", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    g = gaussians.detach().to("cpu", torch.float32)
    f_rest = g.sh[:, 1:].transpose(1, 2).reshape(count, len(rest))
    table = torch.cat(
        [g.means, torch.zeros(count, 3), g.sh[:, 0], f_rest, g.opacity_logits[:, None], g.log_scales, g.quaternions], dim=1
    )
    lines = ["ply", "format binary_little_endian 1.0", f"comment {_UNIT_COMMENT} {g.unit}", f"element vertex {count}"]
    lines += [f"property float {name}" for name in names] + ["end_header", ""]
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join(lines).encode("ascii"))
        stream.write(table.numpy().astype("<f4", copy=False).tobytes())
