"""What a result folder holds, and how it is written: maps, meshes, turntable, report, ``result.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from joblib import delayed

from splathead.cli import core_count
from splathead.depth_files import save_depth_exr
from splathead.enhance.clock import Clock
from splathead.enhance.mesh import Holes, is_watertight
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.views import EnhancedView
from splathead.enhance.workers import in_workers
from splathead.fusion import FusedMesh, save_mesh
from splathead.gaussians import Gaussians
from splathead.images import DepthMap, encode_normals, save_depth_png, write_json, write_png
from splathead.maps.normals import normals_from_depth
from splathead.ply import save_gaussians_ply
from splathead.result_view.folder import FILES, RESULT_NAME, SCHEMA, open_result, unit_label
from splathead.result_view.report import DrawnReport, draw_front, draw_pair, write_report


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


def write_result(folder: Path, result: Result, about: dict, clock: Clock) -> dict:
    """Write every file into ``folder``; returns what ``result.json`` holds. ``about``: parts of it that are known before."""
    from splathead.result_view.turntable import turntable

    with clock.step("write"), ThreadPoolExecutor(core_count()) as pool:
        slow_parts = _begin_slow_parts(folder, result, about["input"]["path"])
        film = pool.submit(turntable, result.mesh, folder / FILES["turntable"], result.gaussians)
        facts = pool.submit(_facts, result)
        for done in [pool.submit(call) for call in _quick_files(folder, result)]:
            done.result()
        known = facts.result() | about
        write_json(folder / RESULT_NAME, known | _files_and_times(folder, clock))
        front = draw_front(open_result(folder))
        drawn_meshes, *_ = slow_parts
        film.result()
    write_json(folder / RESULT_NAME, known | _files_and_times(folder, clock))
    with clock.step("report"):
        write_report(folder, DrawnReport(*front, drawn_meshes))
    record = known | _files_and_times(folder, clock)
    write_json(folder / RESULT_NAME, record)
    return record


def _begin_slow_parts(folder: Path, result: Result, name: str) -> Iterator:
    """Begin in other processes what is made by Python code: the report's section on meshes (the first result), mesh files."""
    about = {"scale": result.scale, "unit": result.unit}
    calls = [delayed(draw_pair)(name, unit_label(result.unit), result.mesh, result.mesh_before)]
    calls += [delayed(save_mesh)(folder / FILES[role], result.mesh, **about) for role in ("mesh_obj", "mesh_glb")]
    return in_workers(calls, result.options.jobs or core_count())


def _quick_files(folder: Path, result: Result) -> list[Callable[[], None]]:
    """Calls that each write some of the other files."""
    about = {"scale": result.scale, "unit": result.unit}
    calls = [
        partial(_write_front, folder, result.views[0], result.scale),
        partial(save_mesh, folder / FILES["mesh_ply"], result.mesh, **about),
        partial(save_mesh, folder / FILES["mesh_before"], result.mesh_before, **about),
    ]
    if result.gaussians is not None:
        calls.append(partial(save_gaussians_ply, folder / FILES["splats"], result.gaussians))
    if len(result.views) > 1:
        paths = [folder / "views" / f"{view.camera.name}.png" for view in result.views]
        calls += [partial(save_depth_png, path, _of_scale(view.after, result.scale)) for path, view in zip(paths, result.views)]
    return calls


def _of_scale(depth_map: DepthMap, scale: str) -> DepthMap:
    """The map, saying whether its unit is a guess, as the file may come back as an input."""
    return replace(depth_map, encoding=replace(depth_map.encoding, nominal=scale == "nominal"))


def _write_front(folder: Path, view: EnhancedView, scale: str) -> None:
    after, before = (_of_scale(depth_map, scale) for depth_map in (view.after, view.before))
    save_depth_png(folder / FILES["depth"], after)
    save_depth_png(folder / FILES["depth_before"], before)
    save_depth_exr(folder / FILES["depth_exr"], after)
    normals, valid = normals_from_depth(view.after.depth, view.after.mask, view.camera, jump=np.inf)
    write_png(folder / FILES["normal"], encode_normals(np.where(valid[..., None], normals, 0)))
    write_png(folder / FILES["confidence"], np.rint(view.confidence * 255).astype(np.uint8))
    if view.rgb is not None:
        write_png(folder / FILES["rgb"], view.rgb)


def _facts(result: Result) -> dict:
    """What ``result.json`` says of the result, its files left out."""
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
        "schema": SCHEMA, "kind": result.kind, "understood": result.understood,
        "method": result.options.method_for(result.kind), "options": result.options.overridden(),
        "unit": result.unit, "scale": result.scale, "near": encoding.near, "far": encoding.far, "views": views,
        "mesh": {
            "faces": len(result.mesh.faces), "vertices": len(result.mesh.vertices), "watertight": is_watertight(result.mesh),
            "holes": holes.count, "largest_hole": round(holes.largest, 3),
        },
    }  # fmt: skip


def _files_and_times(folder: Path, clock: Clock) -> dict:
    files = {role: name for role, name in FILES.items() if (folder / name).is_file()}
    return {"files": files, "seconds": dict(clock.seconds)}
