"""TSDF fusion against analytic surfaces."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from splathead import fusion
from splathead.cameras import Camera, orbit_camera
from splathead.fusion import kernels
from splathead.fusion.surface import FusedMesh
from splathead.metrics.surface import Surface

RADIUS = 100.0
VOXEL = 2.5
YAWS = (-60.0, -25.0, 10.0, 45.0)


def sphere_view(yaw: float, *, centre=(0.0, 0.0, 0.0), radius: float = RADIUS, size: int = 256, behind: float = 0.0):
    """Exact depth of a sphere; its colour encodes the position. ``behind`` moves the depth away from the camera."""
    camera = orbit_camera(yaw, 10.0, size)
    rays = camera.ray_directions()
    offset = camera.rotation @ np.array(centre) + camera.translation
    a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
    root = b * b - a * c
    mask = root > 0
    depth = np.where(mask, (b - np.sqrt(np.maximum(root, 0))) / a + behind, 0)
    rgb = np.clip((camera.unproject(depth) / RADIUS * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)
    return fusion.DepthView(depth.astype(np.float32), mask, camera, rgb=rgb)


def plane_view(camera: Camera, normal, offset: float) -> fusion.DepthView:
    """Exact depth of the plane normal . x = offset."""
    normal = np.asarray(normal, dtype=float) / np.linalg.norm(normal)
    in_camera = camera.rotation @ normal
    depth = (offset + in_camera @ camera.translation) / (camera.ray_directions() @ in_camera)
    return fusion.DepthView(depth.astype(np.float32), np.isfinite(depth) & (depth > 0), camera)


def fused(views, voxel: float = VOXEL, jump: float = 8.0) -> FusedMesh:
    return fusion.extract_surface(fusion.fuse_views(views, voxel=voxel, jump=jump))


def radial_error(mesh: FusedMesh, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.linalg.norm(mesh.vertices.astype(np.float64) - centre, axis=1) - RADIUS


def sphere_centre(points: np.ndarray) -> np.ndarray:
    """Least-squares centre of points on a sphere."""
    points = points.astype(np.float64)
    return np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0][:3]


@pytest.fixture(scope="module")
def views() -> list[fusion.DepthView]:
    return [sphere_view(yaw) for yaw in YAWS]


@pytest.fixture(scope="module")
def sphere(views) -> FusedMesh:
    return fused(views)


def test_sphere_is_within_a_fraction_of_a_voxel(sphere):
    error = radial_error(sphere) / VOXEL
    assert abs(error.mean()) < 0.01
    assert error.std() < 0.02
    assert np.abs(error).max() < 0.2


def test_triangles_face_outwards(sphere):
    a, b, c = (sphere.vertices[sphere.faces[:, k]].astype(np.float64) for k in range(3))
    assert ((np.cross(b - a, c - a) * a).sum(1) > 0).mean() > 0.999


def test_no_half_pixel_shift(views):
    pixel_mm = (486 - RADIUS) / views[0].camera.fx  # on the nearest point of the sphere
    view = views[1]
    right = view.camera.rotation[0]
    assert abs(sphere_centre(fused([view]).vertices) @ right) < 0.02 * pixel_mm
    moved = replace(view, camera=replace(view.camera, cx=view.camera.cx + 0.5))  # the user complaint: the test can see it
    assert abs(sphere_centre(fused([moved]).vertices) @ right) > 0.3 * pixel_mm


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.5, 0.2, 1.0), (1.0, 0.3, 0.6)])
def test_plane_has_no_bias(normal):
    views = [plane_view(orbit_camera(yaw, 0.0, 128, hfov_deg=20), normal, 5.0) for yaw in (-10.0, 20.0)]
    distance = fused(views).vertices @ (np.array(normal) / np.linalg.norm(normal)) - 5.0
    assert abs(distance.mean()) < 0.002 * VOXEL
    assert np.abs(distance).max() < 0.02 * VOXEL


def test_depth_jump_is_not_bridged():
    camera = orbit_camera(0.0, 0.0, 128, hfov_deg=20)
    depth = np.full((128, 128), 500.0, dtype=np.float32)
    depth[:, 64:] = 480.0
    mesh = fused([fusion.DepthView(depth, depth > 0, camera)])
    z = camera.project(mesh.vertices)[1]
    assert np.minimum(np.abs(z - 500), np.abs(z - 480)).max() < 0.01 * VOXEL
    assert (z < 490).any() and (z > 490).any()


def test_the_back_of_a_thin_part_is_not_eaten_by_what_is_seen_from_the_front():
    """A slab thinner than the truncation distance: where one view looks into it, it says less of the other side."""
    cameras = {1.5: orbit_camera(0.0, 0.0, 96, hfov_deg=2.0), -1.5: orbit_camera(180.0, 0.0, 96, hfov_deg=2.0)}
    slab = [plane_view(camera, (0.0, 0.0, 1.0), offset) for offset, camera in cameras.items()]
    z = fusion.extract_surface(fusion.fuse_views(slab, voxel=0.8, truncation_voxels=6.0)).vertices[:, 2]
    assert abs(np.median(z[z > 0]) + np.median(z[z < 0])) < 0.05
    assert 3.0 < np.median(z[z > 0]) - np.median(z[z < 0]) < 5.5  # 7.0 with the same weight all the way down


def test_cells_beside_what_was_not_seen_from_near_hold_no_surface():
    distance, weight, cells = np.zeros((8, 8, 8), np.float32), np.ones((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.bool_)
    distance[3, 3, 3], distance[6, 6, 6], weight[1, 6, 1] = 10.0, 9.5, 0.0
    kernels.mark_cells(cells, distance, weight, np.zeros((1, 3), np.int32), 10.0)
    expected = np.zeros_like(cells)
    expected[1:, 1:, 1:] = True
    expected[3:5, 3:5, 3:5] = expected[1:3, 6:8, 1:3] = False
    assert np.array_equal(cells, expected)


def test_confidence_decides_between_views_that_disagree(views):
    wrong = sphere_view(10.0, behind=4.0)
    trusted = fused([*views, replace(wrong, confidence=np.ones(wrong.depth.shape))])
    doubted = fused([*views, replace(wrong, confidence=np.full(wrong.depth.shape, 0.01))])
    facing = np.array([np.sin(np.radians(10)), 0, np.cos(np.radians(10))])

    def dent(mesh: FusedMesh) -> float:
        return -radial_error(mesh)[mesh.vertices @ facing > 0.95 * RADIUS].mean()

    assert dent(trusted) > 0.8
    assert abs(dent(doubted)) < 0.05


def test_slanted_views_count_less(views):
    """Each view's depth is wrong by 3 mm along its ray where it sees the sphere at more than 60 degrees."""
    bad = []
    for view in views:
        points = view.camera.unproject(view.depth)
        to_camera = view.camera.position - points
        cosine = (points * to_camera).sum(-1) / RADIUS / np.maximum(np.linalg.norm(to_camera, axis=-1), 1)
        bad.append(replace(view, depth=np.where(view.mask & (cosine < 0.5), view.depth + 3, view.depth)))
    mesh = fused(bad)
    front = np.array([0, 0, 1.0])
    error = radial_error(mesh)[mesh.vertices @ front > 0.9 * RADIUS]
    assert np.abs(error).mean() < 0.1


def test_largest_component_removes_floaters(views, sphere):
    floater = sphere_view(10.0, centre=(0, 150, 40), radius=15)
    both = [replace(view, depth=view.depth.copy(), mask=view.mask.copy()) for view in views]
    merged = replace(
        both[2], depth=np.where(floater.mask, floater.depth, both[2].depth), mask=floater.mask | both[2].mask
    )
    mesh = fused([*both[:2], merged, both[3]])
    assert mesh.vertices[:, 1].max() > 130
    cleaned = fusion.largest_component(mesh)
    assert cleaned.vertices[:, 1].max() < 105
    assert len(cleaned.faces) <= len(sphere.faces) + 10
    assert cleaned.faces.max() == len(cleaned.vertices) - 1


@pytest.mark.parametrize("target", [5000, 500, 60])
def test_decimation_honours_its_bound(sphere, target):
    mesh = fusion.decimated(sphere, target)
    assert 0.5 * target <= len(mesh.faces) <= target
    if target >= 500:
        assert np.abs(radial_error(mesh)).mean() < 0.5


def test_decimation_leaves_small_meshes_alone(sphere):
    assert np.array_equal(fusion.decimated(sphere, len(sphere.faces)).faces, sphere.faces)


def test_vertex_colours(sphere, views):
    colours = fusion.vertex_colours(sphere.vertices, views, tolerance=VOXEL, jump=8.0)
    expected = (sphere.vertices / RADIUS * 0.5 + 0.5) * 255
    assert np.abs(colours - expected).max() < 4
    far = np.concatenate([sphere.vertices, [[0, 0, -RADIUS]]]).astype(np.float32)
    nearest = np.linalg.norm(sphere.vertices - far[-1], axis=1).argmin()
    assert np.abs(fusion.vertex_colours(far, views, tolerance=VOXEL, jump=8.0)[-1] - expected[nearest]).max() < 4


def test_colours_need_a_view_that_sees_the_mesh(views):
    with pytest.raises(ValueError, match="none of 1 vertices"):
        fusion.vertex_colours(np.zeros((1, 3), np.float32), views, tolerance=1.0, jump=8.0)


def test_same_result_with_any_number_of_threads(views, sphere):
    import numba

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        single = fused(views)
    finally:
        numba.set_num_threads(threads)
    assert np.array_equal(single.vertices, sphere.vertices) and np.array_equal(single.faces, sphere.faces)


def test_too_many_voxels_are_made_larger_with_a_note(views, caplog):
    with caplog.at_level(logging.WARNING):
        volume = fusion.fuse_views(views, voxel=0.01, max_voxels=500_000)
    assert volume.distance.size <= 500_000
    assert "using" in caplog.text
    assert np.abs(radial_error(fusion.extract_surface(volume))).mean() < 0.1 * volume.voxel


def test_bad_views_are_named(views):
    view = views[0]
    with pytest.raises(ValueError, match=r"view 'yaw-060_el\+10': depth of shape"):
        replace(view, depth=view.depth[:-1])
    with pytest.raises(ValueError, match="finite and positive"):
        replace(view, depth=np.where(view.mask, np.nan, 0).astype(np.float32))
    with pytest.raises(ValueError, match="confidence outside"):
        replace(view, confidence=np.full(view.depth.shape, 2.0))
    with pytest.raises(ValueError, match="empty mask"):
        fusion.fuse_views([replace(view, mask=np.zeros_like(view.mask))], voxel=VOXEL)
    with pytest.raises(ValueError, match="no pixel with weight"):
        fusion.fuse_views([replace(view, confidence=np.zeros(view.depth.shape))], voxel=VOXEL)
    with pytest.raises(ValueError, match="expected voxel > 0"):
        fusion.fuse_views([view], voxel=0.0)


def test_agrees_with_open3d(views, sphere):
    """Open3D's UniformTSDFVolume (in its 0.20 ScalableTSDFVolume extracts nothing, even of a plane)."""
    try:
        from open3d import camera as o3d_camera
        from open3d import geometry, pipelines
    except (ImportError, OSError) as error:
        pytest.skip(f"open3d cannot be imported: {error}")
    tsdf = pipelines.integration
    colourless, corner = tsdf.TSDFVolumeColorType.NoColor, [-60 * VOXEL] * 3
    volume = tsdf.UniformTSDFVolume(120 * VOXEL, 120, 4 * VOXEL, colourless, corner)
    for view in views:
        camera = view.camera
        # Open3D's pixel centres are at whole numbers, ours at +0.5
        intrinsics = (camera.width, camera.height, camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5)
        images = geometry.Image(np.ascontiguousarray(view.rgb)), geometry.Image(view.depth)
        rgbd = geometry.RGBDImage.create_from_color_and_depth(
            *images, depth_scale=1.0, depth_trunc=1e4, convert_rgb_to_intensity=False
        )
        volume.integrate(rgbd, o3d_camera.PinholeCameraIntrinsic(*intrinsics), camera.world_to_cam)
    theirs = np.asarray(volume.extract_triangle_mesh().vertices)
    theirs = theirs[theirs[:, 2] > 0.7 * RADIUS]
    ours = sphere.vertices[sphere.vertices[:, 2] > 0.7 * RADIUS]
    assert np.quantile(Surface.build(sphere.vertices, sphere.faces).closest(theirs)[0], 0.9) < 0.2 * VOXEL
    assert abs(np.linalg.norm(theirs, axis=1).mean() - np.linalg.norm(ours, axis=1).mean()) < 0.02 * VOXEL
    assert np.abs(np.linalg.norm(ours, axis=1) - RADIUS).mean() <= np.abs(np.linalg.norm(theirs, axis=1) - RADIUS).mean()


def test_cropping_a_second_time_changes_nothing(views):
    cut = [view.cropped() for view in views]
    assert all(view.cropped() is view for view in cut) and cut[0].mask.size < views[0].mask.size
