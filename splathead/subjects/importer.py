"""Heads that already are Gaussians: any splat file becomes a subject in our frame, with map cameras around it.

Such a file says neither which way is up nor how long a unit is. What can be known is used (FaceLift's
layout has a known world, our own files carry their unit), what can be guessed is guessed from the
Gaussians' extent, everything can be set (``reconstruct.import_*``), and what was understood is reported.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from splathead.cameras import orbit_camera, save_cameras
from splathead.config import Config, ReconstructConfig
from splathead.gaussians import Gaussians
from splathead.images import write_json
from splathead.ply import save_gaussians_ply
from splathead.splat_files import SPLAT_SUFFIXES, read_splat_file
from splathead.splat_formats.builder import LoadOptions
from splathead.subjects.frames import FACELIFT_FRAME, HeadFrame, axis_vector

NOMINAL_HEIGHT_MM = 300.0
"""Nominal extent from the top of the hair to the shoulders of a head whose unit is unknown."""

VISIBLE_OPACITY = 0.1
"""Only Gaussians above this opacity say where the head is; the rest may be floaters."""

NO_HEAD_ASYMMETRY = 0.15
"""Heads have up and front asymmetries above left-right's by 0.4 or more (fits, LAM's), boxes and ellipsoids by 0.01 at most"""

# file unit -> mm, taken when the head's height then lies in PLAUSIBLE_HEIGHT_MM
_KNOWN_UNITS = {"metres": 1000.0, "centimetres": 10.0, "millimetres": 1.0}
PLAUSIBLE_HEIGHT_MM = (150.0, 600.0)


@dataclass(frozen=True)
class ImportReport:
    """What was understood of a file. ``lines`` are for the user."""

    subject: str
    frame: HeadFrame
    lines: list[str]


def find_splats(path: Path) -> dict[str, Path]:
    """Subject name -> splat file of ``path``, a file or a folder of PLY, ``.splat`` and ``.spz`` files, searched with its
    sub-folders.

    A file that tools always name alike (``point_cloud.ply``, ``gaussians.ply``) is named by its folders.
    Errors: FileNotFoundError when there is none, ValueError when two files get one name.
    """
    path = Path(path)
    if path.is_file():
        return {subject_name(path): path}
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SPLAT_SUFFIXES) if path.is_dir() else []
    if not files:
        expected = f"a {', '.join(SPLAT_SUFFIXES)} file or a folder of them (reconstruct.import_path)"
        raise FileNotFoundError(f"{path}: no splat file here, expected {expected}")
    found: dict[str, Path] = {}
    generic = {"point_cloud", "gaussians", "splat"}
    for file in files:
        relative = file.relative_to(path).with_suffix("")
        parts = relative.parent.parts if relative.name in generic and relative.parent.parts else relative.parts
        name = subject_name(Path("_".join(parts)))
        if name in found:
            raise ValueError(f"{file} and {found[name]} would both be subject {name!r}; rename one")
        found[name] = file
    return found


def subject_name(path: Path) -> str:
    """A folder name of ours made from a file's stem."""
    stem = path.stem if path.suffix.lower() in (*SPLAT_SUFFIXES, ".png", ".jpg", ".jpeg") else path.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", stem).lstrip("._+-") or "subject"


def import_subject(
    path: Path, out_dir: Path, config: Config, *, fit: str = "import", name: str = "", details: dict | None = None
) -> ImportReport:
    """Read the splat file at ``path`` and write the subject folder ``out_dir``; ``details`` are added to its subject.json.

    Writes subject.json, cameras_maps.json (orbit at ``subjects.map_yaws``), ``<fit>/gaussians.ply`` (mm, our
    frame) and ``<fit>/reconstruction.json``. Errors: those of :func:`splathead.splat_files.load_splats`.
    """
    path, out_dir = Path(path), Path(out_dir)
    loaded = read_splat_file(path, LoadOptions(config.reconstruct.max_gaussians))
    frame, lines = understand_frame(loaded.gaussians, loaded.is_facelift, config.reconstruct)
    lines = [f"format: {loaded.layout}", *loaded.notes, *lines]
    moved = frame.gaussians(loaded.gaussians)
    del loaded  # millions of Gaussians are not kept twice
    name = name or subject_name(path)
    head = f"{name}: {len(moved)} Gaussians, spherical harmonics of degree {moved.sh_degree}, {frame.describe()}"
    low, high = visible_extent(moved)
    info = {
        "name": name, "identity": name, "source": fit, "split": "test", "scale": "nominal", "unit": "mm", "file": path.name,
        "frame": frame.to_dict(), "diagonal_mm": float(np.linalg.norm(high - low)), **(details or {}),
    }  # fmt: skip
    write_json(out_dir / "subject.json", info)
    size = config.subjects.map_size
    save_cameras(out_dir / "cameras_maps.json", [orbit_camera(yaw, size=size) for yaw in config.subjects.map_yaws])
    save_gaussians_ply(out_dir / fit / "gaussians.ply", moved)
    record = {"fit": fit, "source_file": path.name, "gaussians": len(moved), "sh_degree": moved.sh_degree, "understood": lines}
    write_json(out_dir / fit / "reconstruction.json", record)
    report_lines([head, *lines])
    return ImportReport(name, frame, [head, *lines])


def report_lines(lines: list[str]) -> None:
    """Print what was understood of a foreign file, above progress bars and from worker processes too."""
    from tqdm import tqdm

    tqdm.write("\n  ".join(lines))


def understand_frame(gaussians: Gaussians, is_facelift: bool, settings: ReconstructConfig) -> tuple[HeadFrame, list[str]]:
    """The file's frame from its layout, its extent and the ``import_*`` settings, with a line for each decision."""
    lines = []
    up, front = _axes(is_facelift, settings.import_up, settings.import_front)
    chosen = "auto" in (settings.import_up, settings.import_front)
    if chosen:
        lines.append(f"axes: {'the layout is FaceLift' if is_facelift else 'assumed'} (set import_up, import_front to change)")
    frame = HeadFrame(up, front, np.zeros(3), 1.0)
    low, high = visible_extent(gaussians)
    if not is_facelift:
        lines += _check_symmetry(gaussians, frame, low, high)
    unit_mm = settings.import_mm_per_unit
    if unit_mm:
        lines.append("scale: as set")
    elif is_facelift:
        unit_mm = FACELIFT_FRAME.mm_per_unit
        lines.append("scale: FaceLift's unit")
    else:
        unit_mm, line = _guess_scale(gaussians.unit, float(np.abs((high - low) @ frame.up)))
        lines.append(line)
    # A head's own model (FLAME, FaceLift, ours) has its origin inside of the head; a capture's need not.
    inside = bool(((low + 0.1 * (high - low) < 0) & (high - 0.1 * (high - low) > 0)).all())
    lines.append("centre: the file's origin" if inside or is_facelift else "centre: the middle of the visible Gaussians")
    origin = np.zeros(3) if inside or is_facelift else (low + high) / 2
    return dataclasses.replace(frame, origin=origin, mm_per_unit=unit_mm), lines


def _axes(is_facelift: bool, up: str, front: str) -> tuple[np.ndarray, np.ndarray]:
    """The directions [3] up and out of the face. Where the one that is left open would be parallel to the one that is set,
    it is that of the other common layout: z up goes with -y to the front, and so on."""
    layouts = (FACELIFT_FRAME, HeadFrame(axis_vector("y"), axis_vector("z"), np.zeros(3), 1.0))
    for usual in layouts if is_facelift else layouts[::-1]:
        found = usual.up if up == "auto" else axis_vector(up), usual.front if front == "auto" else axis_vector(front)
        if abs(found[0] @ found[1]) < 1:
            break
    return found


def visible_extent(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Corners ([3], [3]) of the box with the 1st to 99th percentile of the visible Gaussians' centres."""
    points = _visible_points(gaussians)
    return np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)


def _visible_points(gaussians: Gaussians) -> np.ndarray:
    visible = gaussians.opacities > VISIBLE_OPACITY
    points = gaussians.means[visible if visible.any() else slice(None)]
    return points.to(torch.float64).numpy()


def _guess_scale(unit: str, height: float) -> tuple[float, str]:
    if unit == "mm":
        return 1.0, "scale: millimetres, says the file"
    for name, unit_mm in _KNOWN_UNITS.items():
        if PLAUSIBLE_HEIGHT_MM[0] <= height * unit_mm <= PLAUSIBLE_HEIGHT_MM[1]:
            return unit_mm, f"scale: {height * unit_mm:.0f} mm high if the unit is {name}, taken as that (nominal)"
    if height <= 0:
        raise ValueError("the visible Gaussians have no height, expected a head")
    return NOMINAL_HEIGHT_MM / height, f"scale: unknown, {height:.4g} units high, set to a nominal {NOMINAL_HEIGHT_MM:.0f} mm"


def _check_symmetry(gaussians: Gaussians, frame: HeadFrame, low: np.ndarray, high: np.ndarray) -> list[str]:
    """A warning when the head is less symmetric about its supposed left-right axis than about another one, and a note when
    all axes are alike: a head has a face, and a neck instead of a second crown."""
    points = _visible_points(gaussians) @ frame.rotation.T  # our axes: x is left-right
    corners = np.stack([low, high]) @ frame.rotation.T
    asymmetry = [mirror_asymmetry(points, corners.min(0), corners.max(0), axis) for axis in range(3)]
    shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(("left-right", "up", "front"), asymmetry, strict=True))
    lines = [f"mirror asymmetry (0 = symmetric): {shown}"]
    if asymmetry[0] > min(asymmetry) + 0.05:
        lines.append("WARNING: a head is most symmetric left-right; import_up or import_front is probably wrong for this file")
    elif max(asymmetry[1:]) < asymmetry[0] + NO_HEAD_ASYMMETRY:
        lines.append("NOTE: as symmetric from front to back and from top to bottom as from left to right: perhaps not a head")
    return lines


def mirror_asymmetry(points: np.ndarray, low: np.ndarray, high: np.ndarray, axis: int, bins: int = 12) -> float:
    """Share in [0, 1] of points [N, 3] in the box without a counterpart mirrored along ``axis``, on a coarse grid."""
    ranges = [(a, max(b, a + 1e-9)) for a, b in zip(low, high, strict=True)]
    counts, _ = np.histogramdd(points, bins=bins, range=ranges)
    return float(np.abs(counts - np.flip(counts, axis)).sum() / (2 * max(counts.sum(), 1)))
