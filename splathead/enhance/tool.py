"""``enhance``: one input to one result folder; see ``write`` for what lies in it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed

from splathead.cli import core_count
from splathead.devices import compute_device
from splathead.enhance.clock import Clock
from splathead.enhance.depth_input import DEPTH_OPTIONS, enhance_depth, read_depth
from splathead.enhance.device_choice import Devices, prepare_network
from splathead.enhance.enlarge import method_network, method_weights
from splathead.enhance.flags import errors_with_flags
from splathead.enhance.front_only import head_views
from splathead.enhance.head import Head, fit_capture, head_from_photo, read_head
from splathead.enhance.mesh import JUMP_MM, depth_mesh, find_holes, fused_mesh, mesh_before
from splathead.enhance.options import AXES, EnhanceOptions
from splathead.enhance.sampling import Sampling
from splathead.enhance.views import FROM_FULL, EnhancedView, prepare_rasteriser
from splathead.enhance.workers import import_mesh_modules, in_workers
from splathead.enhance.write import Result, write_result
from splathead.inputs import detect, file_sha256
from splathead.metrics.zones import HEAD_DIAGONAL_MM
from splathead.result_view.folder import FILES, RESULT_NAME
from splathead.result_view.report import small_mesh
from splathead.result_view.video import load_encoder
from splathead.stages import fingerprint_path
from splathead.subjects.importer import report_lines
from splathead.threads import prepare


def enhance(path: Path, out: Path, options: EnhanceOptions | None = None) -> dict:
    """Enhance ``path`` into the folder ``out``; returns what ``out/result.json`` says.

    ``out`` appears when everything is done; a result of an earlier call there is replaced, anything else is an error.
    Raises FileNotFoundError, ValueError or RuntimeError with one sentence that names the file.
    """
    path, out, options = Path(path), Path(out).resolve(), options or EnhanceOptions()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    _check_files(options)
    _check_target(out, path)
    kind, reason = _kind(path, options)
    _check_options(options, kind, f"{path}, which is {kind} ({reason})")
    devices = Devices.of(options, kind)
    about_method = _check_method(options, kind)
    if kind != "depth":
        prepare_network(options, devices.network)
        prepare_rasteriser(options, devices.raster)
        prepare(_import_modules)  # while the views are made
    report_lines([f"{path.name}: {kind} ({reason})", *about_method])
    with _folder_beside(out) as temporary:
        folder, clock = Path(temporary, "result"), Clock()
        folder.mkdir()
        make = _of_depth if kind == "depth" else _of_head
        result = make(path, kind, options, Path(temporary, "work"), clock)
        used = devices.record(options, kind)
        about_devices = [f"devices: {', '.join(f'{part} on {device}' for part, device in used.items())}"] * bool(used)
        result.understood[:0] = [f"input: {kind}, {reason}", *about_method, *about_devices]
        source = {"path": path.name, "sha256": fingerprint_path(path) if path.is_dir() else file_sha256(path)}
        record = write_result(folder, result, {"input": source, "devices": used}, clock)
        if out.exists():
            out.rename(Path(temporary, "replaced"))
        folder.rename(out)
    return record


def _import_modules() -> None:
    import splathead.raster.cpu  # noqa: F401  first: it changes numba's cache folder while it is imported

    import_mesh_modules()
    import matplotlib.colors  # noqa: F401  for the report


def _folder_beside(out: Path) -> tempfile.TemporaryDirectory:
    """A temporary folder on the disk of ``out``, which need not exist. OSError that names ``out`` where none can be made."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent)
    except OSError as error:
        where = f"nothing can be written in {out.parent} ({error.strerror})"
        raise OSError(f"--out {out}: {where}, expected another folder") from error


def _check_options(options: EnhanceOptions, kind: str, what: str) -> None:
    """Options must go with an input of this kind; ``what``: the input, as an error says it."""
    misplaced = options.given(*DEPTH_OPTIONS) if kind != "depth" else options.given("watertight", "views", "up", "front")
    if misplaced:
        remedy = "; a depth map is no JPEG and has one channel, or colours that are all grey" if kind == "photo" else ""
        raise ValueError(f"--{misplaced[0]} does not go with {what}{remedy}")
    if kind != "capture" and options.front not in AXES:
        raise ValueError(f"--front {options.front!r}, expected one of {', '.join(AXES)}; only captures have views to name")


def _check_files(options: EnhanceOptions) -> None:
    """What options name must be there, and what they need must load, before minutes of work."""
    weights = Path(options.method) if options.method.endswith(".safetensors") else None
    for name, path in (("method", weights), ("rgb", options.rgb)):
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"--{name} {path}: no such file")
    load_encoder()
    if options.watertight:
        from splathead.fusion.poisson import load_open3d

        load_open3d()


def _check_method(options: EnhanceOptions, kind: str) -> list[str]:
    """A network must load, and a method take this resolution, before minutes of work; a line on which network it is."""
    name = options.method_for(kind)
    weights = method_weights(name)
    if kind != "depth" and name not in FROM_FULL:
        Sampling.of(options.resolution)
    return [] if weights is None else [f"network: {method_network(weights).description}"]


def _check_target(out: Path, source: Path) -> None:
    """``out`` may be new, empty, or a result of ours and nothing else, as it will be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out}: a file, expected a folder to write into")
    ours = {RESULT_NAME, "views", *FILES.values(), *(Path(name).with_suffix(".json").name for name in FILES.values())}
    found = {entry.name for entry in out.iterdir()}
    if found and not (RESULT_NAME in found and found <= ours):
        others = ", ".join(sorted(found - ours)[:3]) or "no result.json of ours"
        raise ValueError(f"{out}: holds other files ({others}), expected an empty folder or a result of an earlier call")
    if source.resolve().is_relative_to(out):
        raise ValueError(f"{source}: lies in {out}, which would be replaced; expected another --out")


def _kind(path: Path, options: EnhanceOptions) -> tuple[str, str]:
    if options.kind != "auto":
        return options.kind, "as --kind says"
    found = detect(path)
    return found.kind, found.reason


def _of_head(path: Path, kind: str, options: EnhanceOptions, work: Path, clock: Clock) -> Result:
    jobs = options.jobs or core_count()
    with clock.step("read" if kind == "splats" else kind), errors_with_flags(path):
        head = _load(path, kind, options, work)
    with clock.step("views"):
        seen = head_views(head, options, jobs)
    with clock.step("mesh"):
        raw = [view.cropped() for view in seen.depth_views(enhanced=False)]
        before = functools.cache(functools.partial(_only, in_workers([delayed(mesh_before)(raw, options.faces)], jobs)))
        mesh, dropped = fused_mesh(seen.depth_views(enhanced=True), options.faces, watertight=options.watertight)
        if jobs == 1:  # or it would be made when it is asked for, beside other work that needs memory
            before()
    size = " x ".join(f"{side:.0f}" for side in np.ptp(mesh.vertices, axis=0))
    made = [*seen.lines, *dropped, f"size of the mesh, width x height x depth: {size} mm"]
    report_lines(made)
    lines = [*head.lines, *made]
    return Result(kind, options, head.scale, lines, seen.views, seen.fused, mesh, find_holes(mesh), before, head.gaussians)


def _only(results: Iterator) -> Any:
    """The one result, when it is there."""
    (result,) = results
    return result


def _load(path: Path, kind: str, options: EnhanceOptions, work: Path) -> Head:
    if kind == "splats":
        head = read_head(path, options)
        report_lines(head.lines)
        return head
    work.mkdir()
    return fit_capture(path, options, work) if kind == "capture" else head_from_photo(path, options, work)


def _of_depth(path: Path, kind: str, options: EnhanceOptions, _work: Path, clock: Clock) -> Result:
    with clock.step("read"):
        depth_map, lines = read_depth(path, options)
    report_lines(lines)
    with clock.step("views"):
        view, done = enhance_depth(depth_map, options, compute_device(options.device))
    report_lines(done)
    jump = _jump(view)
    with clock.step("mesh"):
        try:
            mesh, before = (depth_mesh(depth, view.rgb, jump, options.faces) for depth in (view.after, view.before))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        both = before, small_mesh(before)
    encoding = depth_map.encoding
    scale = "metric" if encoding.unit == "mm" and not encoding.nominal else "nominal"
    fused = [view.camera.name]
    return Result(kind, options, scale, [*lines, *done], [view], fused, mesh, find_holes(mesh), lambda: both, None)


def _jump(view: EnhancedView) -> float:
    """Depth difference of neighbouring pixels that separates surfaces: 4 mm, or the same part of a head of unknown unit.

    Such a head's diagonal is taken for twice the range of its depth.
    """
    if view.after.encoding.unit == "mm":
        return JUMP_MM
    return JUMP_MM / HEAD_DIAGONAL_MM * (view.after.encoding.far - view.after.encoding.near) * 2
