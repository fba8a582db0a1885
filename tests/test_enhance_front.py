"""Heads that are good from the front only: when views near the front are added, what they fill in, what they leave alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth
from test_enhance import SPLATS, splatted_ellipsoid

from splathead.cameras import Camera, orbit_camera
from splathead.enhance import EnhanceOptions, enhance, front_only
from splathead.enhance.front_only import FAN, _advice, fan_cameras, head_views, is_front_only, second_to_front
from splathead.enhance.head import Head
from splathead.enhance.mesh import fused_mesh
from splathead.enhance.views import DIRECTIONS, view_cameras
from splathead.fusion import DepthView, FusedMesh, load_mesh, view_choice
from splathead.metrics.surface import Surface
from splathead.ply import load_gaussians_ply, save_gaussians_ply
from splathead.raycast import RayCaster
from splathead.subjects.base import HeadMesh

OPTIONS = {**SPLATS, "resolution": 256, "faces": 200_000}
pytestmark = pytest.mark.filterwarnings("ignore:.*need more than")


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(splatted_ellipsoid(), [], "metric")


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    gaussians = splatted_ellipsoid()
    path = tmp_path_factory.mktemp("half") / "half.ply"
    save_gaussians_ply(path, gaussians.select(gaussians.means[:, 2] > 0))
    return path


def enhanced_as_if_sides_contradicted(path: Path, out: Path, **options) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_choice, "CONFLICT_SHARE", -1.0)  # all but the front are over it
        return enhance(path, out, EnhanceOptions(**{**OPTIONS, **options}))


@pytest.fixture(scope="module")
def filled(half, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("filled") / "out"
    enhanced_as_if_sides_contradicted(half, out)
    return out


@pytest.fixture(scope="module")
def front_alone(half, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    enhance(half, out, EnhanceOptions(**{**OPTIONS, "views": 1}))
    return out


def coverage(result: Path, name: str, within_mm: float = 2.5) -> float:
    """Share of the ellipsoid's front half, evenly sampled on the unit sphere, that a result's mesh comes near."""
    directions = np.random.default_rng(0).normal(size=(20_000, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True) * HEAD_AXES_MM
    mesh = load_mesh(result / name)
    moved = load_gaussians_ply(result / "splats.ply").means.numpy().max(0) - HEAD_AXES_MM  # the tool centres the half
    squared, _ = Surface.build(mesh.vertices.astype(np.float64) - moved, mesh.faces).tree.closest(points[points[:, 2] > 0])
    return float((np.sqrt(squared) < within_mm).mean())


def cast_depth(mesh: FusedMesh, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    hits = RayCaster(HeadMesh(mesh.vertices, mesh.faces, np.ones((len(mesh.vertices), 3), np.float32))).cast(camera)
    return hits.depth_map, hits.mask


@pytest.mark.parametrize("role", ["mesh.ply", "mesh_before.ply"])
def test_views_near_the_front_cover_more_of_the_true_surface(filled, front_alone, role):
    alone, with_fan = coverage(front_alone, role), coverage(filled, role)
    assert alone < 0.6 and with_fan > 0.85


def test_what_the_front_sees_stays_where_it_was(filled, front_alone):
    camera = orbit_camera(0.0, 0.0, 256)
    (old, seen), (new, still) = (cast_depth(load_mesh(folder / "mesh.ply"), camera) for folder in (front_alone, filled))
    moved = np.abs(new - old)[seen & still]
    assert still[seen].mean() > 0.999 and np.quantile(moved, 0.95) < 0.03
    for name in ("depth.png", "depth_before.png", "confidence.png"):
        assert (filled / name).read_bytes() == (front_alone / name).read_bytes()


def test_the_record_and_the_report_say_what_was_done_and_list_all_views(filled):
    record = json.loads((filled / "result.json").read_text())
    names = [view["name"] for view in record["views"]]
    near = [orbit_camera(*direction).name for direction in FAN]
    assert len(set(names)) == len(names) == 3 + len(FAN) and names[3:] == near
    assert [view["fused"] for view in record["views"]] == [True, False, False] + [True] * len(FAN)
    (note,) = [line for line in record["understood"] if "the front does not see" in line]
    assert note == "NOTE: 1 of 3 views is fit: what the front does not see is filled in from 8 of 8 views near it"
    assert not [line for line in record["understood"] if "compare with" in line]  # made by what would be named
    assert sorted(path.stem for path in (filled / "views").glob("*.png")) == sorted(names)
    page = (filled / "report.html").read_text()
    assert note in page and all(name in page for name in names) and "11 views" in page


def test_a_network_names_what_its_result_should_be_compared_with():
    (advice,) = _advice("splathead")
    assert advice.endswith("compare with --method splat_surface") and _advice("splat_surface") == []


def test_the_same_bytes_with_worker_processes(half, filled, tmp_path):
    enhanced_as_if_sides_contradicted(half, tmp_path / "again", jobs=2)
    for path in [path for path in filled.rglob("*") if path.suffix in (".ply", ".glb", ".png", ".exr")]:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(filled)).read_bytes(), path.name


def test_who_asks_for_one_view_gets_one(front_alone):
    record = json.loads((front_alone / "result.json").read_text())
    assert len(record["views"]) == 1 and not any("the front does not see" in line for line in record["understood"])


@pytest.mark.parametrize(
    ("outside", "said"),
    [
        ([0, 1, 3], "1 of 2 views is fit: what the front does not see is filled in from 2 of 8 views near it; left out: a, b"),
        (
            [0],
            "1 of 2 views is fit: what the front does not see is not filled in from the 8 views near it; left out: a, b",
        ),
    ],
)
def test_one_line_says_what_fills_in_and_what_does_not(head, monkeypatch, outside, said):
    monkeypatch.setattr(view_choice, "CONFLICT_SHARE", -1.0)
    monkeypatch.setattr(front_only, "outside_views", lambda views: (outside, ["a", "b"]))
    seen = head_views(head, EnhanceOptions(**{**OPTIONS, "views": 2, "resolution": 64}), 1)
    assert [line for line in seen.lines if "views near it" in line] == [f"NOTE: {said}"]
    assert seen.used == [0, *(place + 1 for place in outside[1:])] and len(seen.views) == 10


@pytest.mark.parametrize(
    ("kept", "views", "expected"),
    [(1, 1, False), (1, 2, True), (2, 2, False), (1, 8, True), (2, 8, True), (3, 8, False), (5, 16, True), (6, 16, False)],
)
def test_a_head_is_good_from_the_front_only_when_next_to_nothing_else_is_fit(kept, views, expected):
    assert is_front_only(kept, views) is expected


def test_cameras_near_the_front_are_as_far_away_and_have_names_of_their_own(head):
    front = orbit_camera(0.0, 0.0, 192, radius=700.0)
    cameras = fan_cameras(head, front)
    for camera in cameras:
        assert (camera.width, camera.height) == (192, 192) and np.allclose(camera.K, front.K)
        assert np.linalg.norm(camera.position) == pytest.approx(700.0)
    names = [camera.name for camera in cameras] + [orbit_camera(*direction).name for direction in DIRECTIONS]
    assert len(set(names)) == len(names)


def test_cameras_near_the_front_stand_back_where_the_head_only_fits_into_the_fronts_picture(head):
    """A flat head, as high as what the front sees at its distance: from above its lower edge is nearer, and so larger."""
    front = orbit_camera(0.0, 0.0, 192)
    edge = front.unproject(np.full((192, 192), float(np.linalg.norm(front.position)), np.float32))[0, 96]
    tall = head.gaussians.select(torch.arange(200))
    tall.means[:] = torch.linspace(-0.99, 0.99, 200)[:, None] * torch.tensor([0.0, abs(edge[1]), 0.0])
    tall = Head(tall, [], "metric")
    (same,) = view_cameras(tall, EnhanceOptions(**{**OPTIONS, "views": 1, "resolution": 192}))
    assert np.array_equal(same.position, front.position)
    points = tall.gaussians.means.double().numpy()
    for camera in fan_cameras(tall, front):
        pixels, _ = camera.project(points)
        assert np.linalg.norm(camera.position) > 500.0 and (pixels >= 0).all() and (pixels <= 192).all()


def displaced_views(behind_mm: float) -> list[DepthView]:
    """Exact views of the ellipsoid near the front, all but the front's own with a surface that lies behind the true one."""
    front, views = orbit_camera(0.0, 0.0, 256), []
    for camera in (front, *(orbit_camera(*direction, 256) for direction in FAN)):
        depth = ellipsoid_depth(camera)
        shifted = np.where(depth > 0, depth + behind_mm * (camera is not front), 0).astype(np.float32)
        confidence, rgb = np.ones(depth.shape, np.float32), np.full((*depth.shape, 3), 9, np.uint8)
        views.append(DepthView(shifted, depth > 0, camera, confidence, rgb))
    return views


@pytest.mark.parametrize(("own_confidence", "limit_mm"), [(None, 0.05), (1.0, 0.05), (0.02, 0.2)])
def test_views_that_contradict_the_front_do_not_move_what_it_sees(own_confidence, limit_mm):
    views = displaced_views(3.0)
    if own_confidence is None:
        views = [replace(view, confidence=None) for view in views]
    else:
        views[0] = replace(views[0], confidence=np.full_like(views[0].confidence, own_confidence))
    front, used = views[0], {"alone": views[:1], "equal": views, "second": second_to_front(views)}
    found = {name: cast_depth(fused_mesh(some, 200_000)[0], front.camera) for name, some in used.items()}
    seen = found["alone"][1]
    error = {name: np.quantile(np.abs(depth - front.depth)[seen & hit], 0.95) for name, (depth, hit) in found.items()}
    assert found["second"][1][seen].all() and found["second"][1].sum() > 1.05 * seen.sum()
    assert error["alone"] < 0.05 and error["equal"] > 3.0 and error["second"] < limit_mm


def test_the_front_and_what_else_a_view_holds_are_left_alone_by_the_priority():
    views = displaced_views(0.0)
    lowered = second_to_front(views)
    assert lowered[0] is views[0]
    weights = [float(view.confidence.max()) for view in lowered[1:]]
    np.testing.assert_allclose(weights, [1e-4, 1e-4, 1e-8, 1e-8, 1e-8, 1e-8, 1e-4, 1e-4], rtol=1e-5)
    assert all(view.depth is other.depth and view.rgb is other.rgb for view, other in zip(lowered, views))


def test_a_view_of_the_inside_is_left_out_and_one_that_contradicts_is_not():
    """From behind, an ellipsoid without a front shows the inside of its back."""
    back, beside, front = (orbit_camera(yaw, 0.0, 256) for yaw in (180.0, 160.0, 0.0))
    shown = (ellipsoid_depth(back), ellipsoid_depth(beside), ellipsoid_depth(front, back=True))
    views = [DepthView(depth, depth > 0, camera) for depth, camera in zip(shown, (back, beside, front))]
    views[1] = replace(views[1], depth=np.where(views[1].mask, views[1].depth + 12.0, 0).astype(np.float32))
    kept, lines = view_choice.outside_views(views)
    assert kept == [0, 1] and len(lines) == 1
    assert lines[0].startswith(f"{front.name} (sees the inside on ")
