"""Mesh files: PLY and OBJ in the scene's unit, GLB in metres as glTF demands. The same mesh gives the same bytes.

Axes are +Y up and +Z out of the face in all of them, which is glTF's own convention; Blender's glTF and OBJ
importers turn it to its Z-up world by default.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splathead.fusion.surface import FusedMesh
from splathead.images import atomic_path
from splathead.subjects.base import vertex_normals

METRES_PER_MM = 1e-3


def save_mesh(path: Path, mesh: FusedMesh, *, scale: str, unit: str = "mm") -> None:
    """Write a mesh as ``.ply``, ``.obj`` or ``.glb`` (by suffix), atomically, with vertex colours if it has them.

    ``scale`` is "metric" or "nominal" (the size is a guess) and is written into the file's header, as ``unit`` is: "mm", or
    "scene" where nobody knows it (then a unit becomes a metre in glTF).
    """
    path = Path(path)
    writers = {".ply": _ply_bytes, ".obj": _obj_bytes, ".glb": _glb_bytes}
    if path.suffix not in writers:
        raise ValueError(f"{path}: mesh format {path.suffix!r}, expected one of {', '.join(writers)}")
    if scale not in ("metric", "nominal"):
        raise ValueError(f"{path}: scale {scale!r}, expected 'metric' or 'nominal'")
    if unit not in ("mm", "scene"):
        raise ValueError(f"{path}: unit {unit!r}, expected 'mm' or 'scene'")
    data = writers[path.suffix](mesh, scale, unit)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_mesh(path: Path) -> FusedMesh:
    """Read a mesh written by :func:`save_mesh` as PLY (mm)."""
    import trimesh

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such mesh")
    loaded = trimesh.load(path, process=False, force="mesh")
    colours = loaded.visual.vertex_colors[:, :3] if loaded.visual.kind == "vertex" else None
    return FusedMesh(np.float32(loaded.vertices), np.int32(loaded.faces), None if colours is None else np.array(colours))


def _description(unit: str, scale: str) -> str:
    return f"unit {unit} ({scale} scale), axes +Y up +Z out of the face"


def _ply_bytes(mesh: FusedMesh, scale: str, unit: str) -> bytes:
    vertex_type = [("position", "<f4", 3)] + ([("colour", "u1", 3)] if mesh.colours is not None else [])
    vertices = np.empty(len(mesh.vertices), dtype=vertex_type)
    vertices["position"] = mesh.vertices
    colour_lines = []
    if mesh.colours is not None:
        vertices["colour"] = mesh.colours
        colour_lines = [f"property uchar {name}" for name in ("red", "green", "blue")]
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = [
        "ply", "format binary_little_endian 1.0", f"comment {_description(unit, scale)}",
        f"element vertex {len(vertices)}", *(f"property float {axis}" for axis in "xyz"), *colour_lines,
        f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", "",
    ]  # fmt: skip
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()


def _obj_bytes(mesh: FusedMesh, scale: str, unit: str) -> bytes:
    from trimesh.exchange.obj import export_obj

    return export_obj(_trimesh(mesh), header=_description(unit, scale), digits=4 if unit == "mm" else 7).encode()


def _glb_bytes(mesh: FusedMesh, scale: str, unit: str) -> bytes:
    from trimesh import Scene

    converted = _trimesh(mesh)
    if unit == "mm":
        converted.apply_scale(METRES_PER_MM)
    if mesh.colours is not None:  # glTF vertex colours are linear, ours are sRGB
        converted.visual.vertex_colors = _linear_from_srgb(mesh.colours)
    scene = Scene(base_frame="head")
    scene.add_geometry(converted, node_name="head_mesh", geom_name="head")
    scene.metadata = {"description": _description("m" if unit == "mm" else unit, scale)}
    return scene.export(file_type="glb", include_normals=True)


def _trimesh(mesh: FusedMesh):
    from trimesh import Trimesh

    # float64 normals of ours: trimesh's own leave zero vectors, which glTF forbids, at vertices without area
    normals = vertex_normals(mesh.vertices, mesh.faces)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)
    return Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colours, vertex_normals=normals, process=False)


def _linear_from_srgb(colours: np.ndarray) -> np.ndarray:
    encoded = colours.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.rint(linear * 255).astype(np.uint8)
