"""The folder that an enhanced head lies in: its ``result.json`` checked, its files found. Nothing outside of it is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from splathead.choices import KINDS

SCHEMA = 1
RESULT_NAME = "result.json"
ROLES = {
    "depth": ("depth.png", "depth of the front view, enhanced: 16 bits, with its sidecar"),
    "depth_before": ("depth_before.png", "the same view before"),
    "depth_exr": ("depth.exr", "the enhanced depth in float32, in the unit of the scene"),
    "normal": ("normal.png", "normals of the front view: red to the right, green up, blue towards the camera"),
    "confidence": ("confidence.png", "how far the depth is to be trusted, 0 to 255"),
    "rgb": ("rgb.png", "colour of the front view"),
    "mesh_ply": ("mesh.ply", "the enhanced mesh"),
    "mesh_glb": ("mesh.glb", "the same for Blender and the web, in metres where the unit is known"),
    "mesh_obj": ("mesh.obj", "the same for programs that read neither"),
    "mesh_before": ("mesh_before.ply", "the same fusion of the depth before"),
    "splats": ("splats.ply", "the Gaussians in the frame of the meshes"),
    "turntable": ("turntable.mp4", "the mesh turning"),
    "report": ("report.html", "before and after, on one page that works offline"),
}
"""role of a file in result.json -> its name as the tool writes it, and what it holds; some inputs have nothing for one"""
FILES = {role: name for role, (name, _) in ROLES.items()}
MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ResultFolder:
    """A checked result folder."""

    path: Path
    kind: str
    input_name: str
    input_sha256: str
    understood: tuple[str, ...]
    method: str
    unit: str
    """mm or scene"""
    scale: str
    """metric or nominal"""
    views: tuple[tuple[str, float], ...]
    """(name, yaw in degrees)"""
    mesh: dict
    """what is known of the mesh: faces, vertices, watertight, holes, largest_hole (in the unit)"""
    seconds: dict[str, float]
    """step -> duration"""
    files: dict[str, Path]
    """role (of :data:`ROLES`) -> file, which exists"""

    @property
    def unit_label(self) -> str:
        """Unit as it is shown beside a number."""
        return unit_label(self.unit)


def unit_label(unit: str) -> str:
    """A unit, "mm" or "scene", as it is shown beside a number."""
    return "mm" if unit == "mm" else "units"


def open_result(path: Path) -> ResultFolder:
    """Read and check ``path/result.json``.

    Raises FileNotFoundError or ValueError with one sentence: no such folder, no result, a damaged one, a file that
    it names but that is missing or lies elsewhere.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    description = path / RESULT_NAME
    if not description.is_file():
        raise FileNotFoundError(f"{path}: no {RESULT_NAME} in it, expected the --out folder of scripts/20_enhance_head.py")
    if description.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{description}: {description.stat().st_size} bytes, expected at most {MAX_JSON_BYTES}")
    try:
        return _parsed(path, json.loads(description.read_text(encoding="utf-8"), parse_constant=_refuse_constant))
    except KeyError as error:
        raise ValueError(f"{description}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{description}: {error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}, expected finite ones")


def _parsed(path: Path, data: dict) -> ResultFolder:
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__}, expected an object")
    if data.get("schema") != SCHEMA:
        raise ValueError(f"schema {data.get('schema')!r}, expected {SCHEMA}")
    mesh = data.get("mesh") or {}
    if not isinstance(mesh, dict):
        raise ValueError(f"mesh {mesh!r}, expected an object")
    return ResultFolder(
        path=path, kind=_choice(data, "kind", KINDS), input_name=Path(str(data["input"]["path"])).name,
        input_sha256=str(data["input"].get("sha256", "")), understood=tuple(str(line) for line in data["understood"]),
        method=str(data["method"]), unit=_choice(data, "unit", ("mm", "scene")),
        scale=_choice(data, "scale", ("metric", "nominal")),
        views=tuple((str(view["name"]), float(view["yaw_deg"])) for view in data.get("views", [])), mesh=mesh,
        seconds={str(step): _duration(step, value) for step, value in data["seconds"].items()},
        files={role: _inside(path, role, name) for role, name in data["files"].items() if role in ROLES},
    )  # fmt: skip


def _choice(data: dict, key: str, expected: tuple[str, ...]) -> str:
    if data[key] not in expected:
        raise ValueError(f"{key} {data[key]!r}, expected one of {', '.join(expected)}")
    return data[key]


def _duration(step: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"seconds of {step!r} are {value!r}, expected a number from 0")
    return float(value)


def _inside(folder: Path, role: str, name: str) -> Path:
    file = folder / str(name)
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the file of {role} is {name!r}, which lies outside of the folder")
    # the report may be being written now, and the turntable after it
    if not file.is_file() and role not in ("report", "turntable"):
        raise ValueError(f"the file of {role}, {name!r}, is missing")
    return file
