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
from splathead.enhance.device_choice import Devices
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
from splathead.result_view.report import DrawnReport, draw_front, draw_pair, small_mesh, write_report


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
    before: Callable[[], tuple[FusedMesh, FusedMesh]]
    """waits for the mesh of the depth before, and that mesh as the report shows it"""
    gaussians: Gaussians | None

    @property
    def unit(self) -> str:
        """Of depth and meshes."""
        return self.views[0].after.encoding.unit


def write_result(folder: Path, result: Result, about: dict, clock: Clock) -> dict:
    """Write every file into ``folder``; returns what ``result.json`` holds. ``about``: parts of it that are known before."""
    from splathead.result_view.turntable import turntable

    with clock.step("write"), ThreadPoolExecutor(core_count() + 1) as pool:  # one thread waits for the mesh before
        parts = _begin_mesh_parts(folder, result)
        drawn_meshes = pool.submit(_with_before, folder, result, about["input"]["path"], parts)
        backend = result.options.backend
        film = pool.submit(turntable, result.mesh, folder / FILES["turntable"], _splats_to_film(result), backend=backend)
        facts = pool.submit(_facts, result)
        for done in [pool.submit(call) for call in _quick_files(folder, result)]:
            done.result()
        known = facts.result() | about
        write_json(folder / RESULT_NAME, known | _files_and_times(folder, clock))
        front = draw_front(open_result(folder))
        film.result()
    write_json(folder / RESULT_NAME, known | _files_and_times(folder, clock))
    with clock.step("report"):
        write_report(folder, DrawnReport(*front, drawn_meshes.result()))
    record = known | _files_and_times(folder, clock)
    write_json(folder / RESULT_NAME, record)
    return record


def _begin_mesh_parts(folder: Path, result: Result) -> Iterator:
    """Begin in other processes what Python code makes of the mesh: the small one of the report (first result), text files."""
    about = {"scale": result.scale, "unit": result.unit}
    calls = [delayed(small_mesh)(result.mesh)]
    calls += [delayed(save_mesh)(folder / FILES[role], result.mesh, **about) for role in ("mesh_obj", "mesh_glb")]
    return in_workers(calls, result.options.jobs or core_count())


def _with_before(folder: Path, result: Result, name: str, parts: Iterator) -> str:
    """What needs the mesh before, which may still be in the making: its file, and the report's section on meshes.

    ``parts``: of :func:`_begin_mesh_parts`.
    """
    small_after = next(parts)
    before, small_before = result.before()
    call = delayed(draw_pair)(name, unit_label(result.unit), result.mesh, before, (small_after, small_before))
    drawn = in_workers([call], result.options.jobs or core_count())
    save_mesh(folder / FILES["mesh_before"], before, scale=result.scale, unit=result.unit)
    for _ in parts:  # until the mesh files are written, too
        pass
    (section,) = drawn
    return section


def _splats_to_film(result: Result) -> Gaussians | None:
    """The Gaussians, where the rasteriser of this call works."""
    if result.gaussians is None:
        return None
    return result.gaussians.to(Devices.of(result.options, result.kind).raster)


def _quick_files(folder: Path, result: Result) -> list[Callable[[], None]]:
    """Calls that each write some of the other files."""
    about = {"scale": result.scale, "unit": result.unit}
    calls = [*_front_files(folder, result), partial(save_mesh, folder / FILES["mesh_ply"], result.mesh, **about)]
    if result.gaussians is not None:
        calls.append(partial(save_gaussians_ply, folder / FILES["splats"], result.gaussians))
    if len(result.views) > 1:
        paths = [folder / "views" / f"{view.camera.name}.png" for view in result.views]
        calls += [partial(save_depth_png, path, _of_scale(view.after, result.scale)) for path, view in zip(paths, result.views)]
    return calls


def _of_scale(depth_map: DepthMap, scale: str) -> DepthMap:
    """The map, saying whether its unit is a guess, as the file may come back as an input."""
    return replace(depth_map, encoding=replace(depth_map.encoding, nominal=scale == "nominal"))


def _front_files(folder: Path, result: Result) -> list[Callable[[], None]]:
    """Calls that each write a map of the front view."""
    view = result.views[0]
    after, before = (_of_scale(depth_map, result.scale) for depth_map in (view.after, view.before))
    calls = [
        partial(save_depth_exr, folder / FILES["depth_exr"], after),
        partial(_write_normals, folder / FILES["normal"], view),
        partial(save_depth_png, folder / FILES["depth"], after),
        partial(save_depth_png, folder / FILES["depth_before"], before),
        partial(write_png, folder / FILES["confidence"], np.rint(view.confidence * 255).astype(np.uint8)),
    ]
    return calls + [partial(write_png, folder / FILES["rgb"], view.rgb)] * (view.rgb is not None)


def _write_normals(path: Path, view: EnhancedView) -> None:
    normals, valid = normals_from_depth(view.after.depth, view.after.mask, view.camera, jump=np.inf)
    write_png(path, encode_normals(np.where(valid[..., None], normals, 0)))


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
        "method": result.options.method_name(result.kind), "options": result.options.overridden(),
        "unit": result.unit, "scale": result.scale, "near": encoding.near, "far": encoding.far, "views": views,
        "mesh": {
            "faces": len(result.mesh.faces), "vertices": len(result.mesh.vertices), "watertight": is_watertight(result.mesh),
            "holes": holes.count, "largest_hole": round(holes.largest, 3),
        },
    }  # fmt: skip


def _files_and_times(folder: Path, clock: Clock) -> dict:
    files = {role: name for role, name in FILES.items() if (folder / name).is_file()}
    return {"files": files, "seconds": dict(clock.seconds)}
