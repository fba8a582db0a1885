"""3D Gaussian splatting PLY files: read by property name, written in Inria's layout.

Read: Inria 3DGS and what follows it (gsplat, LAM, SuperSplat's uncompressed export) and FaceLift, in
ASCII or binary of either byte order. Properties: ``x y z``, ``f_dc_0..2``, ``f_rest_*`` (channel-major:
all of red, then green, then blue), ``opacity`` (logit), ``scale_0..2`` (natural logarithm),
``rot_0..3`` (w x y z, any length); everything else (normals, colours) is ignored. SuperSplat's
compressed layout is read by ``ply_compressed``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from splathead.gaussians import Gaussians
from splathead.images import atomic_path
from splathead.splat_formats.builder import (
    CHUNK_ROWS,
    FACELIFT_LAYOUT,
    MAX_GAUSSIANS,
    GaussianBuilder,
    LoadOptions,
    SplatFile,
    harmonics_from_rest,
)  # fmt: skip
from splathead.splat_formats.ply_compressed import read_compressed_rows
from splathead.splat_formats.ply_header import UNIT_COMMENT, PlyError, PlyHeader, check_size, read_ply_header, read_rows

__all__ = ["PlyError", "load_gaussians_ply", "read_ply_header", "read_splat_ply", "save_gaussians_ply"]

SH_REST_COUNTS = (0, 9, 24, 45)
"""Number of f_rest properties of spherical harmonics of degree 0, 1, 2, 3."""


def load_gaussians_ply(path: Path, max_gaussians: int = MAX_GAUSSIANS) -> Gaussians:
    """The Gaussians of :func:`read_splat_ply`, all of them with all of their harmonics."""
    return read_splat_ply(path, LoadOptions(max_gaussians)).gaussians


def read_splat_ply(path: Path, options: LoadOptions | None = None) -> SplatFile:
    """Read Gaussians from a PLY file (float32; raw parameters as stored, quaternions not normalised).

    Spherical harmonics are cut to the lowest degree that holds every non-zero coefficient. ``unit`` is
    "mm" only when the file carries our comment. Raises FileNotFoundError, or :class:`PlyError` for a file
    that is not PLY, is truncated, lacks a property, holds no Gaussian or more than ``options.max_gaussians``,
    or values that are NaN or infinite.
    """
    path, options = Path(path), options or LoadOptions()
    header = read_ply_header(path)
    try:
        if header.vertex is None:
            raise PlyError(f"no vertex element, it has {[e.name for e in header.elements]}")
        return read_compressed_rows(path, header, options) if header.is_compressed else _read_plain(path, header, options)
    except ValueError as error:
        raise PlyError(f"{path}: {error}") from None


def _read_plain(path: Path, header: PlyHeader, options: LoadOptions) -> SplatFile:
    _check_vertex(header, options)
    check_size(header, "vertex", path.stat().st_size)
    rest_count, degree = _harmonics_layout(path, header)
    builder = GaussianBuilder(header.vertex.count, degree, options)
    rest_names = [f"f_rest_{i}" for i in range(rest_count)] if builder.sh_degree else []
    for rows in read_rows(path, header, "vertex"):
        builder.add(
            means=_stack(rows, [*"xyz"]), log_scales=_stack(rows, [f"scale_{i}" for i in range(3)]),
            quaternions=_stack(rows, [f"rot_{i}" for i in range(4)]), opacity_logits=rows["opacity"],
            sh=harmonics_from_rest(_stack(rows, [f"f_dc_{i}" for i in range(3)]), _stack(rows, rest_names)),
        )  # fmt: skip
    return builder.finish(FACELIFT_LAYOUT if header.is_facelift else "3DGS PLY", header.unit)


def _stack(rows: np.ndarray, names: list[str]) -> np.ndarray:
    """Columns [n, len(names)] float32 of structured rows."""
    values = np.empty((len(rows), len(names)), np.float32)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinity, which the builder reports
        for k, name in enumerate(names):
            values[:, k] = rows[name]
    return values


def _check_vertex(header: PlyHeader, options: LoadOptions) -> None:
    names = header.vertex.properties
    if "opacity" not in names:
        raise PlyError(
            f"no property 'opacity', so this is no Gaussian splat (a point cloud or mesh?); it has {' '.join(names) or 'none'}"
        )
    needed = [*"xyz", "f_dc_0", "f_dc_1", "f_dc_2", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    missing = [name for name in needed if name not in names]
    if missing:
        raise PlyError(f"properties {' '.join(missing)} are missing, expected a 3DGS PLY; it has {' '.join(names)}")
    rest = _rest_count(header)
    if rest not in SH_REST_COUNTS or any(f"f_rest_{i}" not in names for i in range(rest)):
        raise PlyError(f"{rest} f_rest properties, expected {SH_REST_COUNTS} numbered from 0 (degree 0 to 3)")
    if header.unit not in ("mm", "scene"):
        raise PlyError(f"unit {header.unit!r} in the header's comment, expected mm or scene")
    options.check_count(header.vertex.count)


def _rest_count(header: PlyHeader) -> int:
    return sum(name.startswith("f_rest_") for name in header.vertex.properties)


def _harmonics_layout(path: Path, header: PlyHeader) -> tuple[int, int]:
    """How many f_rest properties count, and the lowest degree that holds every non-zero coefficient.

    Reads until a coefficient of the highest band is not zero, the first rows of most files.
    """
    count = _rest_count(header)
    if count == 0:
        return 0, 0
    used = np.zeros(count, bool)
    top = _band_of_rest(count) == SH_REST_COUNTS.index(count)
    for rows in read_rows(path, header, "vertex"):
        used |= np.array([bool(np.any(rows[f"f_rest_{i}"])) for i in range(count)])
        if used[-1] if header.is_facelift else used[top].any():
            break
    if header.is_facelift:
        # FaceLift stores its own degree channel-major and pads with zeros behind it, so that the
        # coefficients lie where a file of that lower degree would have them.
        last = int(used.nonzero()[0].max(initial=-1)) + 1
        count = next(smaller for smaller in SH_REST_COUNTS if last <= smaller)
    return count, int((_band_of_rest(count) * used[:count]).max(initial=0))


def _band_of_rest(count: int) -> np.ndarray:
    """Band (1, 2 or 3) of each of ``count`` channel-major f_rest properties."""
    per_channel = count // 3
    return np.tile([math.isqrt(k + 1) for k in range(per_channel)], 3)


def save_gaussians_ply(path: Path, gaussians: Gaussians) -> None:
    """Write Gaussians in Inria's layout (binary little endian float32, zero normals), atomically.

    A header comment carries the unit. Reading the file back gives the same float32 values.
    """
    count, coefficients = gaussians.sh.shape[:2]
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    names = [*"xyz", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    lines = ["ply", "format binary_little_endian 1.0", f"comment {UNIT_COMMENT} {gaussians.unit}", f"element vertex {count}"]
    lines += [f"property float {name}" for name in names] + ["end_header", ""]
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join(lines).encode("ascii"))
        for start in range(0, count, CHUNK_ROWS):
            g = gaussians.select(slice(start, start + CHUNK_ROWS)).detach().to("cpu", torch.float32)
            f_rest = g.sh[:, 1:].transpose(1, 2).reshape(len(g), len(rest))
            columns = [g.means, torch.zeros(len(g), 3), g.sh[:, 0], f_rest, g.opacity_logits[:, None], g.log_scales]
            stream.write(torch.cat([*columns, g.quaternions], dim=1).numpy().astype("<f4", copy=False).tobytes())
