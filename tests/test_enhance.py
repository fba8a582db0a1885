"""The tool: a splatted ellipsoid, its depth map and a fake FaceLift's photo through ``enhance``; what it must refuse."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth, ellipsoid_mesh
from conftest import REPOSITORY
from scipy.spatial.transform import Rotation
from test_captures import rig, write_opencv
from test_facelift import FAKE_INFERENCE
from test_fusion import sphere_view

from splathead.cameras import Camera, orbit_camera
from splathead.config import Config
from splathead.depth_files import save_depth_exr
from splathead.enhance import EnhanceOptions, enhance
from splathead.enhance import mesh as mesh_module
from splathead.enhance import views as views_module
from splathead.enhance.depth_input import read_depth
from splathead.enhance.head import Head, fit_capture, read_head
from splathead.enhance.mesh import closed, depth_mesh, find_holes, fused_mesh, is_watertight
from splathead.enhance.views import enhance_views, view_cameras
from splathead.fusion import DepthView, FusedMesh, load_mesh, view_choice
from splathead.fusion.poisson import load_open3d
from splathead.fusion.view_choice import choose_views, conflict_share, inside_share
from splathead.gaussians import Gaussians
from splathead.images import DepthEncoding, DepthMap, load_depth_png, save_depth_png, write_png
from splathead.maps.render_subject import render_maps
from splathead.metrics.surface import Surface
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.ply import save_gaussians_ply
from splathead.raster import RasterSettings

SMALL = {"resolution": 128, "views": 3, "faces": 3000, "jobs": 1, "backend": "cpu"}
SPLATS = {**SMALL, "method": "splat_surface"}  # the network knows 256 pixels; a head of 32 it has never seen
pytestmark = pytest.mark.filterwarnings("ignore:.*need more than")


def splatted_ellipsoid(count: int = 40_000) -> Gaussians:
    """Opaque discs on the ellipsoid, evenly spread, in mm."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), math.pi * (1 + 5**0.5) * k
    sphere = np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], axis=1)
    points, normals = sphere * HEAD_AXES_MM, sphere / HEAD_AXES_MM
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    side = np.cross(normals, np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    frames = np.stack([side, np.cross(normals, side), normals], axis=2)
    scales = np.tile(np.log([1.5, 1.5, 0.2]), (count, 1))
    arrays = (points, scales, np.zeros((count, 4)), np.full(count, 6.0), np.full((count, 1, 3), 0.4))
    gaussians = Gaussians(*(torch.from_numpy(a.astype(np.float32)) for a in arrays), unit="mm")
    xyzw = Rotation.from_matrix(frames).as_quat()
    gaussians.quaternions[:] = torch.from_numpy(xyzw[:, [3, 0, 1, 2]].astype(np.float32))
    return gaussians


@pytest.fixture(scope="module")
def splats(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("head") / "my_head.ply"
    save_gaussians_ply(path, splatted_ellipsoid())
    return path


@pytest.fixture(scope="module")
def result(splats, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results") / "out"
    enhance(splats, out, EnhanceOptions(**SPLATS))
    return out


def distance_to_ellipsoid(path: Path) -> np.ndarray:
    squared, _ = Surface.build(*ellipsoid_mesh()).tree.closest(load_mesh(path).vertices.astype(np.float64))
    return np.sqrt(squared)


def test_splats_become_depth_and_a_mesh_on_the_true_surface(result):
    truth = ellipsoid_depth(orbit_camera(0.0, 0.0, 128))
    front = load_depth_png(result / "depth.png")
    assert front.encoding.unit == "mm" and (front.mask & (truth > 0)).sum() > 0.9 * (truth > 0).sum()
    inside = front.mask & compute_zones(truth, ZoneSettings(6, 20.0)).interior
    error = (front.depth - truth)[inside]  # pixels are 3.5 mm wide: the nearest of the discs that share one wins
    assert abs(np.median(error)) < 3.5 and np.std(error) < 2.0
    distance = distance_to_ellipsoid(result / "mesh.ply")
    assert np.median(distance) < 3.0 and np.quantile(distance, 0.95) < 5.0


def test_the_folder_holds_what_its_record_says(result):
    record = json.loads((result / "result.json").read_text())
    assert record["kind"] == "splats" and record["method"] == "splat_surface" and record["scale"] == "metric"
    made = {"depth", "depth_exr", "normal", "confidence", "rgb", "mesh_glb", "mesh_obj", "splats", "report"}
    assert set(record["files"]) >= made
    assert all((result / name).stat().st_size > 0 for name in record["files"].values())
    assert len(list((result / "views").glob("*.png"))) == len(record["views"]) == 3
    assert record["mesh"]["faces"] <= 3000
    assert any("40,000 Gaussians" in line for line in record["understood"])
    assert record["options"] == {key: value for key, value in SPLATS.items() if key != "jobs"}
    (size,) = [line for line in record["understood"] if line.startswith("size of the mesh, ")]
    found = np.array(size.removesuffix(" mm").split(": ")[1].split(" x "), float)
    assert np.allclose(found, np.ptp(load_mesh(result / "mesh.ply").vertices, axis=0), atol=0.5)


def test_depth_does_not_depend_on_the_number_of_threads():
    """Torch splits sums over more than 32,768 Gaussians between its threads: the mean distance had other last digits."""
    gaussians, config, threads, maps = splatted_ellipsoid(), Config(), torch.get_num_threads(), []
    config.render.backend = "cpu"
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            maps.append(render_maps(gaussians, orbit_camera(40.0, 10.0, 64), RasterSettings(), config))
    finally:
        torch.set_num_threads(threads)
    for other in maps[1:]:
        assert all(np.array_equal(other[name], maps[0][name]) for name in maps[0])


def test_the_same_input_gives_the_same_bytes(splats, result, tmp_path):
    enhance(splats, tmp_path / "again", EnhanceOptions(**SPLATS))
    for path in sorted(result.rglob("*")):
        if path.is_file() and path.name not in ("result.json", "report.html", "turntable.mp4"):
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(result)).read_bytes(), path.name
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (result, tmp_path / "again"))
    assert {**first, "seconds": {}} == {**second, "seconds": {}}


def test_worker_processes_give_the_same_bytes(splats, result, tmp_path):
    enhance(splats, tmp_path / "again", EnhanceOptions(**{**SPLATS, "jobs": 2}))
    compared = [path for path in result.rglob("*") if path.suffix in (".ply", ".glb", ".obj", ".png", ".exr")]
    assert len(compared) > 10
    for path in compared:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(result)).read_bytes(), path.name
    pages = [(folder / "report.html").read_text().split('id="viewer-data">')[1] for folder in (result, tmp_path / "again")]
    assert pages[0].split("</script>")[0] == pages[1].split("</script>")[0]


def test_workers_need_no_torch():
    """Its import alone takes seconds."""
    code = "import sys; from splathead.enhance import workers; workers.import_modules(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_what_is_prepared_for_a_gpu_runs(monkeypatch):
    """On a machine without one nothing begins; what would run there runs here, too."""
    begun = []
    monkeypatch.setattr(views_module, "prepare", lambda function, *arguments: begun.append((function, *arguments)))
    views_module.prepare_rasteriser(EnhanceOptions(), torch.device("cpu"))
    views_module.prepare_rasteriser(EnhanceOptions(), None)
    assert not begun
    views_module.prepare_rasteriser(EnhanceOptions(backend="cpu"), torch.device("cuda"))
    ((function, backend, _),) = begun
    maps = function(backend, torch.device("cpu"))
    assert 0.01 < maps["mask"].mean() < 0.5


def test_rendered_maps_do_not_depend_on_turns():
    class Turn(contextlib.AbstractContextManager):
        taken = 0

        def __enter__(self):
            self.taken += 1

        def __exit__(self, *error):
            self.taken += 1

    gaussians, config, turn = splatted_ellipsoid(1000), Config(), Turn()
    config.render.backend = "cpu"
    alone, in_turn = (render_maps(gaussians, orbit_camera(0, 0, 64), RasterSettings(), config, one) for one in (None, turn))
    assert all(np.array_equal(alone[name], in_turn[name]) for name in alone) and turn.taken == 2


def test_a_depth_map_loses_its_steps(tmp_path):
    camera = orbit_camera(0.0, 0.0, 64, hfov_deg=30.0)
    truth = ellipsoid_depth(camera)
    mask = truth > 0
    encoding = DepthEncoding.from_depth(truth, mask, 8, "mm")
    write_png(tmp_path / "depth.png", encoding.encode(truth, mask))
    write_png(tmp_path / "photo.png", np.full((128, 128, 3), 90, np.uint8))
    options = EnhanceOptions(
        near=encoding.near, far=encoding.far, hfov=30.0, rgb=tmp_path / "photo.png", **{**SMALL, "views": 8}
    )
    record = enhance(tmp_path / "depth.png", tmp_path / "out", options)
    assert record["kind"] == "depth" and record["method"] == "variational" and record["unit"] == "scene"
    found = load_depth_png(tmp_path / "out" / "depth.png")
    assert found.depth.shape == (128, 128)
    fine = ellipsoid_depth(orbit_camera(0.0, 0.0, 128, hfov_deg=30.0))
    inside = found.mask & (fine > 0)
    inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    before = load_depth_png(tmp_path / "out" / "depth_before.png").depth
    error, was = (np.median(np.abs(depth - fine)[inside]) for depth in (found.depth, before))
    assert error < 0.6 * was
    mesh = load_mesh(tmp_path / "out" / "mesh.ply")
    assert mesh.vertices[:, 2].max() < 0 and mesh.colours is not None  # +Z towards the camera, which looks along -Z


@pytest.mark.parametrize("white_is_near", [False, True])
def test_a_map_read_inside_out_is_noticed(tmp_path, white_is_near):
    truth = ellipsoid_depth(orbit_camera(0.0, 0.0, 64, hfov_deg=30.0))
    codes = DepthEncoding.from_depth(truth, truth > 0, 8, "mm").encode(truth, truth > 0)
    write_png(tmp_path / "near_is_dark.png", codes)
    write_png(tmp_path / "near_is_white.png", np.where(codes > 0, 256 - codes.astype(int), 0).astype(np.uint8))
    options = EnhanceOptions(near=2.0, far=2.5, hfov=30.0, white_is_near=white_is_near)
    notes = {name: [line for line in read_depth(tmp_path / name, options)[1] if "inside out" in line]
             for name in ("near_is_dark.png", "near_is_white.png")}  # fmt: skip
    assert bool(notes["near_is_dark.png"]) == white_is_near and bool(notes["near_is_white.png"]) != white_is_near


@pytest.mark.parametrize("broken", [400, 401])
def test_a_head_may_have_a_few_diverged_gaussians(tmp_path, broken):
    gaussians = splatted_ellipsoid()
    gaussians.means[:broken, 0] = math.nan
    save_gaussians_ply(tmp_path / "head.ply", gaussians)
    if broken > len(gaussians) / 100:
        with pytest.raises(ValueError, match=r"x y z for 401 of 40000 .*finite values; 401 .* at most 400 are left out"):
            read_head(tmp_path / "head.ply", EnhanceOptions())
        return
    head = read_head(tmp_path / "head.ply", EnhanceOptions())
    assert len(head.gaussians) == 39_600 and any("400 of 40000 Gaussians are broken" in line for line in head.lines)


def test_cameras_stand_back_for_what_is_larger_than_a_head():
    points = torch.tensor([[-100.0, -225.0, -100.0], [100.0, 225.0, 100.0], [0.0, 0.0, 0.0]]).repeat(50, 1)
    zeros = torch.zeros(len(points), 3)
    quaternions = torch.tensor([[1.0, 0, 0, 0]]).repeat(len(points), 1)
    tall = Gaussians(points, zeros, quaternions, torch.full((len(points),), 5.0), zeros[:, None], unit="mm")
    cameras = view_cameras(Head(tall, [], "metric"), EnhanceOptions(**{**SMALL, "views": 16}))
    for camera in cameras:
        pixels, z = camera.project(points.double().numpy())
        assert (z > 0).all() and (pixels >= 0).all() and (pixels <= 128).all()
    assert np.linalg.norm(cameras[0].position) > 486.0


def test_holes_are_counted_and_measured():
    vertices, faces = ellipsoid_mesh(3)
    mesh = FusedMesh(np.float32(vertices), np.int32(faces))
    assert find_holes(mesh).count == 0
    top = vertices[faces].mean(1)[:, 1] < 100
    open_mesh = FusedMesh(mesh.vertices, mesh.faces[top])
    holes = find_holes(open_mesh)
    assert holes.count == 1 and 40 < holes.largest < 100


def test_a_mesh_that_touches_itself_along_an_edge_is_not_watertight_until_it_is_cut():
    vertices, faces = ellipsoid_mesh(3)
    first, second = faces[0, :2]
    twin = faces + len(vertices)  # a second ellipsoid, sewn to the first along one edge
    twin = np.where(twin == first + len(vertices), first, np.where(twin == second + len(vertices), second, twin))
    sewn = FusedMesh(np.float32(np.concatenate([vertices, vertices + 300])), np.int32(np.concatenate([faces, twin])))
    assert find_holes(sewn).count == 0 and not is_watertight(sewn)
    whole = closed(sewn)
    assert is_watertight(whole) and len(faces) - 20 < len(whole.faces) <= 2 * len(faces)
    solid = trimesh.Trimesh(whole.vertices, whole.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    split = np.concatenate([sewn.vertices, sewn.vertices[[first, second]]])  # the seam, twice
    twice = np.where(twin == first, len(sewn.vertices), np.where(twin == second, len(sewn.vertices) + 1, twin))
    apart = FusedMesh(split, np.int32(np.concatenate([faces, twice])))
    assert is_watertight(apart) and trimesh.Trimesh(closed(apart).vertices, closed(apart).faces).is_watertight
    lone = FusedMesh(np.float32(vertices), np.int32(faces))
    assert is_watertight(lone) and closed(lone) is lone
    opened = FusedMesh(lone.vertices, lone.faces[4:])
    assert not is_watertight(opened) and is_watertight(closed(opened))
    tetrahedra = np.int32([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2], [0, 1, 4], [0, 5, 1], [0, 4, 5], [1, 5, 4]])
    nothing_left = FusedMesh(np.random.default_rng(0).random((6, 3), np.float32), tetrahedra)
    assert closed(nothing_left) is nothing_left and not is_watertight(nothing_left)


@pytest.mark.filterwarnings("error::numba.core.errors.NumbaWarning")
def test_a_closed_mesh_where_open3d_can_be_loaded(splats, tmp_path):
    try:
        load_open3d()
    except RuntimeError as error:
        pytest.skip(str(error))
    record = enhance(splats, tmp_path / "out", EnhanceOptions(watertight=True, **{**SPLATS, "views": 8}))
    mesh = load_mesh(tmp_path / "out" / "mesh.ply")
    assert record["mesh"]["watertight"] and trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    assert np.median(distance_to_ellipsoid(tmp_path / "out" / "mesh.ply")) < 3.0


def cut_ellipsoid(normal: tuple[float, float, float], offset: float, *, other_piece_mm: float = 0.0) -> FusedMesh:
    """What of the ellipsoid lies below ``offset`` along ``normal``, and a small ball ``other_piece_mm`` above it (0: none)."""
    vertices, faces = ellipsoid_mesh(5)
    kept = faces[(vertices[faces] @ normal < offset).all(axis=1)]
    if other_piece_mm:
        ball, ball_faces = ellipsoid_mesh(2, np.full(3, 5.0))
        kept = np.concatenate([kept, ball_faces + len(vertices)])
        vertices = np.concatenate([vertices, ball + np.array([0, other_piece_mm, 0])])
    used, kept = np.unique(kept, return_inverse=True)
    return FusedMesh(np.float32(vertices[used]), np.int32(kept.reshape(-1, 3)))


def test_a_neck_is_closed_flat():
    neck = cut_ellipsoid((0, -1, 0), 70)
    points, normals = mesh_module._flat_ends(neck, 1.0)
    assert len(points) > 5000 and np.abs(points[:, 1] + 70).max() < 6  # the rim is ragged
    assert np.linalg.norm(normals - [0, -1, 0], axis=1).max() < 0.1


@pytest.mark.parametrize(
    ("why", "mesh"),
    [
        ("closed", cut_ellipsoid((0, -1, 0), 999)),
        ("small", cut_ellipsoid((0, -1, 0), HEAD_AXES_MM[1] - 4)),
        ("not in the lower third", cut_ellipsoid((0, -1, 0), 70, other_piece_mm=-500)),
        ("looks up", cut_ellipsoid((0, 1, 0), 70, other_piece_mm=1500)),
        ("higher than wide", cut_ellipsoid((0.8, -0.6, 0), 10, other_piece_mm=1500)),
    ],
)
def test_other_holes_are_no_necks(why, mesh):
    if why != "closed":
        assert find_holes(mesh).count == 1
    if why == "higher than wide":
        mesh = FusedMesh(mesh.vertices * np.float32([1, 1, 0.6]), mesh.faces)
        width, height, depth = np.ptp(mesh.vertices[mesh_module._boundary(mesh)[2]], axis=0)
        assert height > max(width, depth) > mesh_module.END_MM
    assert not len(mesh_module._flat_ends(mesh, 1.0)[0])


def test_where_the_splats_end_a_closed_mesh_does_not_bulge(monkeypatch):
    try:
        load_open3d()
    except RuntimeError as error:
        pytest.skip(str(error))
    gaussians = splatted_ellipsoid()
    head = Head(gaussians.select(gaussians.means[:, 1] > -70), [], "metric")
    options = EnhanceOptions(**{**SPLATS, "views": 8})
    views = [view.depth_view(enhanced=True) for view in enhance_views(head, options, 1, view_cameras(head, options))[0]]
    flat, lines = fused_mesh(views, 3000, watertight=True)
    assert flat.vertices[:, 1].min() > -76 and not any("bulge" in line for line in lines)
    monkeypatch.setattr(mesh_module, "_flat_ends", lambda *_: (np.zeros((0, 3)), np.zeros((0, 3))))
    bulging, lines = fused_mesh(views, 3000, watertight=True)
    assert bulging.vertices[:, 1].min() < -80 and "NOTE: no rim of a neck was found" in lines[-1]


def test_what_a_closed_mesh_makes_up_is_said_of_one_view_too(monkeypatch):
    vertices, faces = ellipsoid_mesh(3)
    ball = FusedMesh(np.float32(vertices), np.int32(faces))
    monkeypatch.setattr("splathead.fusion.poisson.poisson_mesh", lambda *_: ball)
    camera = orbit_camera(0.0, 0.0, 64)
    depth = ellipsoid_depth(camera)
    _, lines = fused_mesh([DepthView(depth, depth > 0, camera, rgb=np.zeros((64, 64, 3), np.uint8))], 3000, watertight=True)
    assert "NOTE: closed by screened Poisson reconstruction: what the one view did not see is made up" in lines


def test_the_script_counts_one_hole(tmp_path):
    plate = np.zeros((32, 32), np.float32)
    plate[8:24, 8:24] = 500 + np.arange(16)
    np.save(tmp_path / "plate.npy", plate)
    command = [sys.executable, str(REPOSITORY / "scripts" / "20_enhance_head.py"), str(tmp_path / "plate.npy"), "--hfov", "50"]
    options = ["--scale_mm", "1", "--resolution", "64", "--jobs", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert " faces, 1 hole, the largest " in done.stdout


def test_without_the_encoder_nothing_is_begun(splats, tmp_path, monkeypatch):
    """It was missed at the turntable only, after all the work."""
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("splathead.enhance.tool.read_head", lambda *_: pytest.fail("the head was read"))
    with pytest.raises(ImportError, match="pip install imageio-ffmpeg"):
        enhance(splats, tmp_path / "out", EnhanceOptions(**SPLATS))
    assert not list(tmp_path.iterdir())


def test_a_photo_goes_through_facelift_or_says_what_is_missing(tmp_path, monkeypatch):
    import skimage.data

    photo = tmp_path / "selfie.png"
    write_png(photo, skimage.data.astronaut())
    monkeypatch.delenv("FACELIFT_DIR", raising=False)
    with pytest.raises(RuntimeError, match="no FaceLift"):
        enhance(photo, tmp_path / "out", EnhanceOptions(**SMALL))
    checkout = tmp_path / "facelift"
    checkout.mkdir()
    (checkout / "inference.py").write_text(FAKE_INFERENCE)
    monkeypatch.setenv("FACELIFT_DIR", str(checkout))
    monkeypatch.setenv("FACELIFT_PYTHON", sys.executable)
    monkeypatch.setenv("FAKE_FACELIFT", "ball")
    record = enhance(photo, tmp_path / "out", EnhanceOptions(**SMALL))
    assert record["kind"] == "photo" and any("one photo" in line for line in record["understood"])


def test_results_are_replaced_and_other_folders_are_not_touched(splats, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        enhance(splats, out, EnhanceOptions(**SMALL))
    assert (out / "thesis.txt").read_text() == "mine"
    (out / "thesis.txt").rename(tmp_path / "thesis.txt")
    options = EnhanceOptions(method="raw", **{**SMALL, "views": 1})
    assert enhance(splats, out, options)["method"] == "raw" == enhance(splats, out, options)["method"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis.txt"]  # nothing temporary is left
    (out / "notes.txt").write_text("mine too")
    with pytest.raises(ValueError, match=r"holds other files \(notes.txt\)"):
        enhance(splats, out, options)
    (out / "notes.txt").unlink()
    with pytest.raises(ValueError, match="which would be replaced"):
        enhance(out / "splats.ply", out, options)
    assert (out / "splats.ply").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 1.0}, "--near does not go with"),
        ({"front": "view_02"}, "--front 'view_02', expected one of auto, x, y.*; only captures have views to name"),
        ({"up": "z", "front": "-z"}, "^--up z and --front -z are parallel"),
        ({"kind": "depth"}, r"my_head\.ply"),
        ({"method": "nothing.safetensors"}, "--method nothing.safetensors: no such file"),
        ({"method": "bilinear", "resolution": 1000}, "--resolution 1000, expected a multiple of 64"),
    ],
)
def test_what_does_not_fit_the_input_is_one_sentence(splats, tmp_path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        enhance(splats, tmp_path / "out", EnhanceOptions(**{**SMALL, **options}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "--views 0, expected 1 to 16"),
        ({"up": "w"}, "--up 'w', expected one of auto, x"),
        ({"method": "magic"}, "--method 'magic', expected auto"),
        ({"resolution": 10}, "--resolution 10, expected 64 to 4096"),
        ({"resolution": 254}, "--resolution 254, expected a multiple of 4"),
    ],
)
def test_options_out_of_range_say_the_range(options, message):
    with pytest.raises(ValueError, match=message):
        EnhanceOptions(**options)


def test_the_script_ends_with_one_sentence_for_a_broken_file(tmp_path):
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\n")
    command = [sys.executable, str(REPOSITORY / "scripts" / "20_enhance_head.py"), str(tmp_path / "broken.ply")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "broken.ply" in done.stderr and not (tmp_path / "out").exists()


def test_the_script_takes_negative_axes(tmp_path):
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\n")
    command = [sys.executable, str(REPOSITORY / "scripts" / "20_enhance_head.py"), str(tmp_path / "broken.ply"), "--jobs", "1"]
    axes = ["--up", "-z", "--front", "-y", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *axes], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("error: ") and "broken.ply" in done.stderr


def hear_ctrl_c() -> None:
    """In a new process, before its program: what a shell starts in the background ignores it, the tests themselves perhaps."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_script_that_is_ended_leaves_nothing(splats, tmp_path, number, code):
    command = [sys.executable, str(REPOSITORY / "scripts" / "20_enhance_head.py"), str(splats), "--out", str(tmp_path / "out")]
    options = ["--method", "splat_surface", "--backend", "cpu", "--jobs", "2"]
    about = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True, "preexec_fn": hear_ctrl_c}
    with subprocess.Popen([*command, *options], **about) as process:
        while not list(tmp_path.glob(".out-*/result")) and process.poll() is None:
            time.sleep(0.05)
        # as a terminal does for Ctrl-C, and kill for one process
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        said = process.communicate(timeout=120)[1]  # waits for the workers, which write there, too
    assert process.returncode == code and "Traceback" not in said and not list(tmp_path.iterdir())
    assert said.endswith("interrupted\n") or number == signal.SIGTERM


def test_processes_beside_the_first_one_ignore_ctrl_c():
    """A terminal sends it to all of them, and each printed a traceback."""
    code = """if __name__ == "__main__":
    import signal
    from joblib import delayed
    from splathead.enhance import workers
    workers.start_workers(2)
    (handler,) = workers.in_workers([delayed(signal.getsignal)(signal.SIGINT)], 2)
    assert handler == signal.SIG_IGN and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    workers.stop_workers(2)"""
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, preexec_fn=hear_ctrl_c).returncode == 0


def test_views_of_the_inside_are_left_out_of_the_mesh_and_no_others(tmp_path):
    gaussians = splatted_ellipsoid()
    face = gaussians.select(gaussians.means[:, 2] > 0)  # a mask without a back of the head
    save_gaussians_ply(tmp_path / "mask.ply", face)
    options = {**SPLATS, "views": 8}
    record = enhance(tmp_path / "mask.ply", tmp_path / "out", EnhanceOptions(**options))
    (note,) = [line for line in record["understood"] if line.startswith("NOTE")]
    assert "yaw+180_el+40 (sees the inside" in note and "yaw+000" not in note and "yaw+040" not in note
    assert len(record["views"]) == 8  # the sides are fit, too: none near the front are added
    save_gaussians_ply(tmp_path / "head.ply", gaussians)
    lines = enhance(tmp_path / "head.ply", tmp_path / "whole", EnhanceOptions(**options))["understood"]
    assert not any("left out" in line for line in lines)


def test_long_hair_is_seen_from_both_sides_and_its_views_are_kept():
    """Two sheets beside the neck: views that also saw their inner side were left out, most of a long-haired head."""
    head, rng = splatted_ellipsoid(), np.random.default_rng(0)
    parts = [head]
    for x in (-75.0, 75.0):
        sheet = splatted_ellipsoid(6000)
        points = np.stack([np.full(6000, x), rng.uniform(-140, 0, 6000), rng.uniform(-60, 0, 6000)], axis=1)
        sheet.means[:] = torch.from_numpy(points.astype(np.float32))
        sheet.quaternions[:] = torch.tensor([0.5**0.5, 0.0, 0.5**0.5, 0.0])  # flat along x
        parts.append(sheet)
    names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    haired = Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in names), unit="mm")
    options = EnhanceOptions(**{**SPLATS, "views": 8, "resolution": 256})
    head = Head(haired, [], "metric")
    views = [view.depth_view(enhanced=True) for view in enhance_views(head, options, 1, view_cameras(head, options))[0]]
    shares = [inside_share(view, views[:place]) for place, view in enumerate(views) if place]
    assert 0.1 < max(shares) < 0.2
    assert choose_views(views, 400.0) == (list(range(8)), [])


def test_the_part_with_the_head_says_what_the_whole_view_says():
    """Views are chosen by it: odd rows and columns around a head that is not in the middle must not move its pixels."""
    whole = []
    for place, yaw in enumerate((0.0, 20.0, -20.0, 45.0)):
        camera = orbit_camera(yaw, 5.0, 320)
        camera = replace(camera, cx=camera.cx + 7 * place, cy=camera.cy - 3)
        depth = ellipsoid_depth(camera) + 6 * place
        whole.append(DepthView(np.where(depth > 6 * place, depth, 0).astype(np.float32), depth > 6 * place, camera))
    parts = view_choice._heads_of(whole)
    for one, part in zip(whole, parts):
        assert part.mask.sum() == one.mask.sum() and part.mask.size < 0.7 * one.mask.size
    shares = [
        [[conflict_share(view, [other], 300.0) for other in views[:place]] for place, view in enumerate(views)]
        + [[inside_share(view, views[:place])] for place, view in enumerate(views)]
        for views in (whole, parts)
    ]
    assert shares[0] == shares[1] and max(shares[0][1]) > 0


def test_a_view_that_contradicts_the_others_is_left_out():
    cameras = [orbit_camera(yaw, 0.0, 256) for yaw in (0.0, 20.0, 40.0)]
    views = []
    for camera, behind in zip(cameras, (0.0, 0.0, 12.0)):
        depth = ellipsoid_depth(camera)
        views.append(DepthView(np.where(depth > 0, depth + behind, 0), depth > 0, camera))
    kept, lines = choose_views(views, 300.0)
    assert kept == [0, 1]
    assert len(lines) == 1 and f"{cameras[2].name} (contradicts" in lines[0]


def test_a_depth_maps_mesh_keeps_the_neck_behind_the_chin_and_no_specks():
    depth = np.zeros((64, 64), np.float32)
    depth[4:40, 16:48], depth[40:60, 24:40], depth[2, 2:5], depth[3, 2:5] = 500, 540, 300, 300
    mesh = depth_mesh(DepthMap.of_float(depth, depth > 0, orbit_camera(0.0, 0.0, 64), "parts"), None, 4.0, 10_000)
    assert len(mesh.faces) == 2 * (35 * 31 + 19 * 15)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("noise", {"scale_mm": 1.0}, r"a\.npy: no surface to mesh: nowhere does the depth .* by at most 4 mm; .* --scale_mm"),
        ("codes", {"far": 2.0, "scale_mm": 1e3}, r"a\.npy: no scale: uint8 codes say no distance, expected --near and --far"),
    ],
)
def test_a_depth_map_that_cannot_be_one_is_named(tmp_path, content, options, message):
    noise = np.random.default_rng(0).random((48, 64))
    np.save(tmp_path / "a.npy", np.float32(500 + 4000 * noise) if content == "noise" else np.uint8(255 * noise))
    options = EnhanceOptions(hfov=50.0, **options, **{**SMALL, "views": 8, "resolution": 64})
    with pytest.raises(ValueError, match=message):
        enhance(tmp_path / "a.npy", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        ("codes", {}, "no scale: uint16 codes say no distance, expected --near and --far, --values depth with --scale_mm, or"),
        ("codes", {"values": "inverse", "scale_mm": 1.0}, "no --near and --far: inverse values say no distance"),
        ("codes", {"values": "depth"}, r"no scale for uint16 values .*, expected the length of one step \(--scale_mm\)"),
        ("codes", {"near": 2.0, "far": 1.0}, "--near 2.0 and --far 1.0, expected 0 < --near < --far, finite"),
        ("codes", {"near": 1.0, "far": 2.0, "hfov": None}, "no field of view, expected --hfov"),
        ("codes", {"near": 1.0, "far": 2.0, "hfov": 300.0}, "--hfov 300.0, expected 1 to 170 degrees"),
        ("codes", {"values": "disparity"}, "^--values 'disparity', expected one of depth, normalised, inverse"),
        ("floats", {"near": 1.0}, r"--near or --far given for float32 values .* say so \(--values normalised\)"),
        ("floats", {"white_is_near": True}, "--white_is_near given .*, expected --values normalised or --values inverse with"),
        ("nan", {}, r"expected finite values \(name those of 'no surface' in --no_surface\)"),
        ("nan", {"no_surface": (math.nan, 1.0)}, r"no pixel with a surface: all are nan or 1.0 \(--no_surface\)"),
        ("own", {"near": 1.0, "scale_mm": 1.0}, r"its sidecar near\.json says .*, but --near, --hfov, --scale_mm were given"),
        ("own", {"values": "depth", "scale_mm": 1.0}, "but --hfov, --values, --scale_mm were given, expected one or the other"),
    ],
)
def test_errors_about_a_depth_map_name_flags(tmp_path, stored, options, message):
    """They named what the library takes: "expected hfov", "values='depth' with a scale"."""
    codes = np.arange(256, dtype=np.uint16).reshape(16, 16) + 1
    path = tmp_path / ("near.png" if stored == "own" else "near.npy")
    if stored == "own":
        save_depth_png(path, DepthMap.of_float(np.float32(codes), codes > 0, orbit_camera(0.0, 0.0, 16), "near"))
    else:
        np.save(path, {"codes": codes, "floats": np.float32(codes), "nan": np.where(codes > 1, np.nan, 1.0)}[stored])
    with pytest.raises(ValueError, match=message) as caught:
        read_depth(path, EnhanceOptions(**{"hfov": 50.0, **options}))
    if not message.startswith("^"):
        assert str(caught.value).startswith(f"{path}: ")  # in which "near" is no setting


def test_floats_have_no_steps_and_a_range_that_is_hardly_used_is_noticed(tmp_path):
    truth = ellipsoid_depth(orbit_camera(0.0, 0.0, 64))
    mask = truth > 0
    disparity = np.where(mask, 1 / np.maximum(truth, 1), 0)  # in 1/mm, which is not what from 0 to 1 means
    np.save(tmp_path / "disparity.npy", np.float32(disparity))
    np.save(tmp_path / "codes.npy", np.uint16(1e4 * disparity))
    np.save(tmp_path / "good.npy", np.float32(np.where(mask, (truth - 300) / 600, 0)))
    save_depth_exr(tmp_path / "own.exr", DepthMap.of_float(truth, mask, orbit_camera(0.0, 0.0, 64), "own"))
    ends = {"near": 300.0, "far": 900.0, "hfov": 50.0}
    found = {}
    for name, options in (
        ("disparity.npy", {"values": "inverse", "scale_mm": 10.0, **ends}), ("codes.npy", {"values": "inverse", **ends}),
        ("good.npy", {"values": "normalised", "white_is_near": True, **ends}), ("own.exr", {}),
    ):  # fmt: skip
        found[name] = "\n".join(read_depth(tmp_path / name, EnhanceOptions(**options))[1])
    flat = "NOTE: all depth lies within 1 % of --near to --far, between which "
    turned = "; where large is near, set --white_is_near"
    assert f"{flat}floats run from 0 to 1{turned}" in found["disparity.npy"]
    assert f"{flat}integers run over all that their type has{turned}" in found["codes.npy"]
    assert flat not in found["good.npy"] and flat not in found["own.exr"]
    for name, lines in found.items():
        assert ("a step of the code" in lines and "16-bit code" in lines) == (name == "codes.npy")
        assert ("pixels, float depth, " in lines) == (name != "codes.npy")


def test_depth_options_with_a_photo_say_what_depth_looks_like(tmp_path):
    write_png(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8))
    with pytest.raises(ValueError, match=r"--near does not go with .*, which is photo .*; a depth map is no JPEG and "):
        enhance(tmp_path / "photo.png", tmp_path / "out", EnhanceOptions(near=1.0))


def test_where_nothing_can_be_written_is_one_sentence(splats, tmp_path, monkeypatch):
    monkeypatch.setattr("splathead.enhance.tool.read_head", lambda *_: pytest.fail("the head was read"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^--out .*out: nothing can be written in .*file \(.*\), expected another folder$"):
        enhance(splats, tmp_path / "file" / "out", EnhanceOptions(**SPLATS))


def fit_without_fitting(folder: Path, work: Path, options: EnhanceOptions, psnr: float) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "splathead.reconstruction.fit_subject",
            lambda _config, _item, target: save_gaussians_ply(target / "gaussians.ply", splatted_ellipsoid(100)),
        )
        patch.setattr("splathead.reconstruction.held_out_scores", lambda *_, **__: {"one": {"psnr": psnr}})
        return fit_capture(folder, options, work).lines


def test_a_capture_is_explained_once_with_flags_and_a_bad_fit_is_noted(tmp_path, capsys):
    write_opencv(tmp_path / "ball", rig(count=8))
    lines = fit_without_fitting(tmp_path / "ball", tmp_path / "good", EnhanceOptions(), 20.1)
    assert lines[-1] == "fitted: 100 Gaussians, 20.1 dB on 1 view that the fit did not see"
    printed = capsys.readouterr().out
    assert all(printed.count(line) == 1 for line in lines) and "(set --front to change)" in printed
    assert "capture_" not in printed
    (note,) = fit_without_fitting(tmp_path / "ball", tmp_path / "bad", EnhanceOptions(), 19.9)[-1:]
    assert note.startswith("NOTE: the fit is bad (below 20 dB)") and "cameras" in note and "alpha or a mask" in note
    assert note in capsys.readouterr().out


def test_the_front_of_a_capture_may_be_a_view(tmp_path):
    write_opencv(tmp_path / "ball", rig(count=8))
    lines = fit_without_fitting(tmp_path / "ball", tmp_path / "named", EnhanceOptions(front="view_02"), 30.0)
    assert "front: view_02, as set" in lines
    with pytest.raises(ValueError, match=r"^--front: axis 'nose', expected one of x, .*, or the name of a view \(view_00, "):
        enhance(tmp_path / "ball", tmp_path / "out", EnhanceOptions(front="nose"))
    (tmp_path / "few").mkdir()
    write_opencv(tmp_path / "few", rig(count=3))
    with pytest.raises(ValueError, match=r"few: 3 views with 4 held out, expected at least 3 to fit, so 7 photos or more"):
        enhance(tmp_path / "few", tmp_path / "out", EnhanceOptions())


def test_large_pixels_do_not_tear_a_mesh():
    """A sphere of 100 mm in views whose pixels are 6.5 mm wide: with voxels of 0.8 mm 43 % of it were left."""
    mesh, _ = fused_mesh([sphere_view(yaw, size=64) for yaw in range(0, 360, 45)], 200_000)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    assert area > 0.7 * 4 * np.pi * 100**2 and np.abs(np.linalg.norm(mesh.vertices, axis=1) - 100).mean() < 1.0


def test_a_single_view_keeps_parts_that_others_would_join():
    depth = np.zeros((64, 64), np.float32)
    depth[4:40, 16:48], depth[40:60, 24:40], depth[2, 2:5], depth[3, 2:5] = 500, 540, 300, 300  # chin, neck, speck
    camera = Camera(64, 64, 600.0, 600.0, 32.0, 32.0, np.eye(4))
    view = DepthView(depth, depth > 0, camera, rgb=np.zeros((64, 64, 3), np.uint8))
    z = fused_mesh([view], 100_000)[0].vertices[:, 2]
    assert (np.abs(z - 500) < 1).any() and (np.abs(z - 540) < 1).any() and not (np.abs(z - 300) < 50).any()
    z = fused_mesh([view, view], 100_000)[0].vertices[:, 2]
    assert (np.abs(z - 500) < 1).all()


def test_units_of_a_depth_map_are_millimetres_where_their_size_is_given(tmp_path):
    camera = orbit_camera(0.0, 0.0, 64)
    truth = ellipsoid_depth(camera)
    np.save(tmp_path / "metres.npy", np.where(truth > 0, truth / 1000, np.float32(1e10)))
    options = EnhanceOptions(hfov=50.0, scale_mm=1000.0, no_surface=(1e10, math.inf, math.nan), **{**SMALL, "views": 8})
    record = enhance(tmp_path / "metres.npy", tmp_path / "out", options)
    assert record["options"]["no_surface"] == ["10000000000.0", "inf", "nan"]
    found = load_depth_png(tmp_path / "out" / "depth.png")
    assert found.encoding.unit == "mm" and abs(found.encoding.near - truth[truth > 0].min()) < 0.5
    mask = truth > 0
    encoding = DepthEncoding.from_depth(truth / 1000, mask, 8, "scene")
    write_png(tmp_path / "codes.png", encoding.encode(truth / 1000, mask))
    options = EnhanceOptions(near=encoding.near, far=encoding.far, hfov=50.0, scale_mm=1000.0, **{**SMALL, "views": 8})
    enhance(tmp_path / "codes.png", tmp_path / "codes", options)
    assert abs(load_depth_png(tmp_path / "codes" / "depth.png").encoding.near - truth[mask].min()) < 1.0


@pytest.mark.parametrize("name", ["depth.png", "depth.exr"])
def test_a_guessed_size_stays_a_guess_when_its_depth_comes_back(tmp_path, name):
    camera = orbit_camera(0.0, 0.0, 64)
    truth = ellipsoid_depth(camera)
    guess = DepthMap.of_float(truth, truth > 0, camera, "a head of nominal size", "mm")
    guess = replace(guess, encoding=replace(guess.encoding, nominal=True))
    (save_depth_png if name.endswith("png") else save_depth_exr)(tmp_path / name, guess)
    record = enhance(tmp_path / name, tmp_path / "out", EnhanceOptions(**{**SMALL, "views": 8}))
    assert record["unit"] == "mm" and record["scale"] == "nominal"
    assert "NOTE: the file says that its millimetres are a guess" in record["understood"]
    assert "its size is a guess" in (tmp_path / "out" / "report.html").read_text()
    assert any(line.startswith("method: variational; ") for line in record["understood"])
    again = enhance(tmp_path / "out" / "depth.png", tmp_path / "again", EnhanceOptions(**{**SMALL, "views": 8}))
    assert again["scale"] == "nominal"


def test_an_unknown_unit_is_no_guess_of_millimetres_when_its_depth_comes_back(tmp_path):
    camera = orbit_camera(0.0, 0.0, 64)
    truth = ellipsoid_depth(camera)
    save_depth_png(tmp_path / "depth.png", DepthMap.of_float(truth, truth > 0, camera, "somewhere", "scene"))
    options = EnhanceOptions(**{**SMALL, "views": 8})
    first = enhance(tmp_path / "depth.png", tmp_path / "out", options)
    again = enhance(tmp_path / "out" / "depth.png", tmp_path / "again", options)
    for record in (first, again):
        assert record["unit"] == "scene" and record["scale"] == "nominal"
        assert not any("millimetres" in line for line in record["understood"])
    assert "its unit is unknown" in (tmp_path / "out" / "report.html").read_text()


def test_a_process_that_is_replaced_for_its_memory_is_no_warning():
    from joblib import delayed

    from splathead.enhance.workers import in_workers

    said = "A worker stopped while some jobs were given to the executor"  # of joblib's loky/process_executor.py
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert list(in_workers([delayed(len)("ab")] * 2, 1)) == [2, 2]
        warnings.warn(f"{said}. This can be caused by a too short worker timeout", UserWarning, stacklevel=1)
    assert not seen
