"""What a result folder holds, and how it is written: maps, meshes, turntable, report, ``result.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from splathead.depth_files import save_depth_exr
from splathead.enhance.mesh import Holes, is_watertight
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.views import EnhancedView
from splathead.fusion import FusedMesh, save_mesh
from splathead.gaussians import Gaussians
from splathead.images import encode_normals, save_depth_png, write_json, write_png
from splathead.maps.normals import normals_from_depth
from splathead.ply import save_gaussians_ply
from splathead.result_view.folder import FILES, RESULT_NAME, SCHEMA

if TYPE_CHECKING:
    from splathead.enhance.tool import Clock


@dataclass(frozen=True)
class Result:
    """Everything that a call made; ``views`` begins with the front."""

    kind: str
    options: EnhanceOptions
    scale: str
    understood: list[str]
    views: list[EnhancedView]
    fused: list[str]
    """names of the views that the mesh is made of"""
    mesh: FusedMesh
    holes: Holes
    mesh_before: FusedMesh
    gaussians: Gaussians | None

    @property
    def unit(self) -> str:
        """Of depth and meshes."""
        return self.views[0].after.encoding.unit


def write_result(folder: Path, result: Result, source: dict, clock: Clock) -> dict:
    """Write every file into ``folder``; returns what ``result.json`` holds. ``source``: name and digest of the input."""
    from splathead.result_view.report import write_report
    from splathead.result_view.turntable import turntable

    with clock.step("write"):
        _write_front(folder, result.views[0])
        if len(result.views) > 1:
            for view in result.views:
                save_depth_png(folder / "views" / f"{view.camera.name}.png", view.after)
        _write_meshes(folder, result)
    with clock.step("turntable"):
        turntable(result.mesh, folder / FILES["turntable"], result.gaussians)
    record = _record(folder, result, source, clock)
    write_json(folder / RESULT_NAME, record)
    with clock.step("report"):
        write_report(folder)
    record = _record(folder, result, source, clock)
    write_json(folder / RESULT_NAME, record)
    return record


def _write_front(folder: Path, view: EnhancedView) -> None:
    save_depth_png(folder / FILES["depth"], view.after)
    save_depth_png(folder / FILES["depth_before"], view.before)
    save_depth_exr(folder / FILES["depth_exr"], view.after)
    normals, valid = normals_from_depth(view.after.depth, view.after.mask, view.camera, jump=np.inf)
    write_png(folder / FILES["normal"], encode_normals(np.where(valid[..., None], normals, 0)))
    write_png(folder / FILES["confidence"], np.rint(view.confidence * 255).astype(np.uint8))
    if view.rgb is not None:
        write_png(folder / FILES["rgb"], view.rgb)


def _write_meshes(folder: Path, result: Result) -> None:
    scale = result.scale
    for role in ("mesh_ply", "mesh_glb", "mesh_obj"):
        save_mesh(folder / FILES[role], result.mesh, scale=scale, unit=result.unit)
    save_mesh(folder / FILES["mesh_before"], result.mesh_before, scale=scale, unit=result.unit)
    if result.gaussians is not None:
        save_gaussians_ply(folder / FILES["splats"], result.gaussians)


def _record(folder: Path, result: Result, source: dict, clock: Clock) -> dict:
    from splathead.cameras import camera_yaw_elevation

    encoding = result.views[0].after.encoding
    views = [
        {
            "name": view.camera.name, "fused": view.camera.name in result.fused,
            "yaw_deg": 0.0 if result.gaussians is None else round(camera_yaw_elevation(view.camera)[0], 3),
        }
        for view in result.views
    ]  # fmt: skip
    holes = result.holes
    return {
        "schema": SCHEMA, "kind": result.kind, "input": source, "understood": result.understood,
        "method": result.options.method_for(result.kind), "options": result.options.overridden(),
        "unit": result.unit, "scale": result.scale, "near": encoding.near, "far": encoding.far, "views": views,
        "mesh": {
            "faces": len(result.mesh.faces), "vertices": len(result.mesh.vertices), "watertight": is_watertight(result.mesh),
            "holes": holes.count, "largest_hole": round(holes.largest, 3),
        },
        "files": {role: name for role, name in FILES.items() if (folder / name).is_file()}, "seconds": clock.seconds,
    }  # fmt: skip
