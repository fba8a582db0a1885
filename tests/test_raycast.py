"""Ray casting: exact depth, coverage, normals, colours, shading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from splathead.cameras import Camera, look_at, orbit_camera
from splathead.raycast import Lighting, RayCaster, sample_texture, shaded_rgba
from splathead.subjects.base import HeadMesh


def make_mesh(mesh: trimesh.Trimesh, colours: np.ndarray | None = None, **options) -> HeadMesh:
    colours = np.full(mesh.vertices.shape, 0.5) if colours is None else colours
    return HeadMesh(mesh.vertices, mesh.faces, colours, **options)


def quad(half: float = 50.0, z: float = 0.0) -> trimesh.Trimesh:
    vertices = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], process=False)


def brute_force(mesh: HeadMesh, camera: Camera) -> np.ndarray:
    """Nearest z-depth [H, W] by Moeller-Trumbore over every triangle and pixel in float64; 0 = none."""
    directions = camera.ray_directions().reshape(-1, 3) @ camera.rotation
    best = np.full(len(directions), np.inf)
    vertices = mesh.vertices.astype(np.float64)
    for i, j, k in mesh.faces:
        a, e1, e2 = vertices[i], vertices[j] - vertices[i], vertices[k] - vertices[i]
        p = np.cross(directions, e2)
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / (p @ e1)
            offset = camera.position - a
            u = (p @ offset) * inverse
            q = np.cross(offset, e1)
            v = (directions @ q) * inverse
            t = (e2 @ q) * inverse
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-3)
        best = np.where(inside & (t < best), t, best)
    return np.where(np.isfinite(best), best, 0).reshape(camera.height, camera.width)


def off_centre_camera(seed: int) -> Camera:
    rng = np.random.default_rng(seed)
    camera = orbit_camera(float(rng.uniform(-180, 180)), float(rng.uniform(-60, 60)), 60, radius=300.0)
    return replace(camera, width=70, cx=camera.cx + rng.uniform(-8, 12), cy=camera.cy + rng.uniform(-8, 8), fy=camera.fy * 1.1)


@pytest.mark.parametrize("seed", range(3))
def test_depth_equals_brute_force_in_float64(seed):
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=2, radius=90.0))
    camera = off_centre_camera(seed)
    hits = RayCaster(mesh).cast(camera)
    expected = brute_force(mesh, camera)
    both = hits.mask & (expected > 0)
    assert (hits.mask != (expected > 0)).mean() < 2e-3  # rays through the silhouette's edges
    np.testing.assert_allclose(hits.depth_map[both], expected[both], rtol=3e-7)


def test_depth_of_a_camera_inside_the_mesh():
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=2, radius=90.0))
    camera = Camera(40, 40, 20.0, 20.0, 20.0, 20.0, look_at([5.0, 3.0, -2.0], [60.0, 10.0, 5.0], [0.0, 1.0, 0.0]))
    hits = RayCaster(mesh).cast(camera)
    assert hits.mask.all()
    np.testing.assert_allclose(hits.depth_map, brute_force(mesh, camera), rtol=1e-6)
    towards = (hits.normal_map(smooth=False) * camera.ray_directions()).sum(-1)
    assert (towards < 0).all()  # the inside is seen: normals are turned to the viewer


def test_threads_do_not_change_the_result():
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=4, radius=90.0))
    camera = off_centre_camera(4)
    one, three = RayCaster(mesh).cast(camera), RayCaster(mesh, threads=3).cast(camera)
    for name in ("pixels", "triangles", "barycentric", "depth", "facing"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


def test_points_lie_on_the_surface_at_pixel_centres():
    mesh = make_mesh(quad())
    camera = orbit_camera(30, 20, 65)
    hits = RayCaster(mesh).cast(camera)
    assert len(hits.pixels) > 100
    np.testing.assert_allclose(hits.points_world()[:, 2], 0.0, atol=1e-9)
    np.testing.assert_allclose(camera.unproject(hits.depth_map)[hits.mask], hits.points_world(), atol=1e-3)


def test_no_ray_slips_through_shared_edges():
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=6, radius=100.0))
    camera = orbit_camera(13, 7, 700)
    mask = RayCaster(mesh).cast(camera).mask
    directions = camera.ray_directions() @ camera.rotation
    along = directions @ camera.position
    nearest = camera.position @ camera.position - along**2 / (directions**2).sum(-1)
    assert mask[nearest < 99.5**2].all() and not mask[nearest > 100.0**2].any()


def test_smooth_and_face_normals_of_a_sphere():
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=5, radius=100.0))
    camera = orbit_camera(-40, 15, 120)
    hits = RayCaster(mesh).cast(camera)
    expected = hits.points_world() / np.linalg.norm(hits.points_world(), axis=1, keepdims=True)
    for smooth, limit in ((True, 0.2), (False, 3.0)):
        angle = np.degrees(np.arccos(np.clip((hits.normals_world(smooth) * expected).sum(1), -1, 1)))
        assert angle.max() < limit
    in_camera = hits.normal_map()[hits.mask]
    np.testing.assert_allclose(in_camera @ camera.rotation, hits.normals_world(), atol=1e-5)
    centre = hits.normal_map()[60, 60]
    assert centre[2] < -0.99  # towards the camera, which looks along +z


def test_colours_are_interpolated_linearly():
    box = quad()
    mesh = make_mesh(box, colours=(box.vertices + 50) / 100)
    hits = RayCaster(mesh).cast(orbit_camera(25, -10, 64))
    np.testing.assert_allclose(hits.albedo(), (hits.points_world() + 50) / 100, atol=1e-5)


def test_texture_is_bilinear_repeats_and_starts_at_the_top():
    texture = np.zeros((2, 4, 3), dtype=np.uint8)
    texture[0, :, 0], texture[1, :, 1] = 255, 255
    uv = np.array([[0.125, 0.25], [0.125, 0.75], [0.5, 0.5], [1.125, 1.25], [0.125, 1.0]])
    red_green = sample_texture(texture, uv)[:, :2]
    np.testing.assert_allclose(red_green, [[1, 0], [0, 1], [0.5, 0.5], [1, 0], [0.5, 0.5]], atol=1e-6)


def test_textured_mesh_uses_its_texture():
    box = quad()
    texture = np.zeros((8, 8, 3), dtype=np.uint8)
    texture[:4, :, 0] = 255  # the upper half is red
    uv = (box.vertices[:, :2] + 50) / 100
    face_uv = np.stack([uv[:, 0], 1 - uv[:, 1]], 1)[box.faces]
    mesh = make_mesh(box, face_uv=face_uv, texture=texture)
    hits = RayCaster(mesh).cast(orbit_camera(0, 0, 64))
    red = hits.albedo()[:, 0]
    height = hits.points_world()[:, 1]
    inside = np.abs(height) < 43  # at the border the texture repeats
    assert (red[inside & (height > 8)] > 0.99).all() and (red[inside & (height < -8)] < 0.01).all()


def test_alpha_is_coverage_and_colour_is_straight():
    camera = orbit_camera(0, 0, 32, radius=500.0)
    half = 8.5 * 500.0 / camera.fx  # 17 x 17 pixels: the border pixels are covered by half
    lighting = Lighting(0.5, np.array([[0.0, 0.0, 1.0]]), np.array([0.5]))
    rgba = shaded_rgba(RayCaster(make_mesh(quad(half))), camera, lighting)
    alpha = rgba[..., 3]
    assert alpha[16, 16] == 255 and alpha[0, 0] == 0
    assert {int(a) for a in np.unique(alpha)} == {0, 64, 128, 255}
    assert (rgba[alpha > 0][:, :3] == 128).all()  # 0.5 albedo under irradiance 1, edges not darkened
    assert (rgba[alpha == 0][:, :3] == 0).all()


def test_light_is_fixed_in_the_world():
    mesh = make_mesh(trimesh.creation.icosphere(subdivisions=5, radius=100.0))
    caster, lighting = RayCaster(mesh), Lighting.sample(3)
    point = np.array([100 * np.sin(0.3), 0.0, 100 * np.cos(0.3)])
    seen = []
    for yaw in (-10, 17, 50):
        camera = orbit_camera(yaw, 5, 128)
        u, v = camera.project(point[None])[0][0]
        seen.append(shaded_rgba(caster, camera, lighting)[int(v), int(u), :3].astype(float))
    assert np.abs(np.diff(seen, axis=0)).max() <= 4
    front, back = (shaded_rgba(caster, orbit_camera(yaw, 0, 16), lighting)[8, 8, 0] for yaw in (0, 180))
    assert front != back


def test_lighting_depends_on_its_seed_only():
    first, again, other = Lighting.sample(1), Lighting.sample(1), Lighting.sample(2)
    np.testing.assert_array_equal(first.directions, again.directions)
    assert not np.allclose(first.directions, other.directions)
    normals = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    expected = first.ambient + np.maximum(normals @ first.directions.T, 0) @ first.intensities
    np.testing.assert_allclose(first.shade(normals), expected, rtol=1e-5)
    for seed in range(30):
        shade = Lighting.sample(seed).shade(normals)
        assert shade.min() > 0.4 and shade.max() < 1.35


def test_a_view_that_sees_nothing():
    mesh = make_mesh(quad(half=5.0))
    camera = orbit_camera(0, 0, 24)
    away = replace(camera, world_to_cam=look_at(camera.position, camera.position * 2, [0.0, 1.0, 0.0]))
    beside = replace(camera, cx=camera.cx + 5000)
    for view in (away, beside):
        hits = RayCaster(mesh).cast(view)
        assert not hits.mask.any() and not hits.depth_map.any()
        assert not shaded_rgba(RayCaster(mesh), view, Lighting.sample(0)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.zeros((0, 3))}, "vertices of shape"),
        ({"faces": np.array([[0, 1, 9]])}, "face indices"),
        ({"vertices": np.full((4, 3), np.nan)}, "NaN"),
        ({"colours": np.zeros((3, 3))}, "colours of shape"),
        ({"texture": np.zeros((2, 2, 3), np.uint8)}, "texture and face_uv"),
    ],
)
def test_bad_meshes_are_refused(change, message):
    box = quad()
    values = {"vertices": box.vertices, "faces": box.faces, "colours": np.zeros((4, 3)), **change}
    with pytest.raises(ValueError, match=message):
        HeadMesh(**values)
