"""Subdivision operators, noise, rigs, splits: the parts that heads are built from."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from splathead.cameras import camera_yaw_elevation
from splathead.subjects.base import HeadMesh, concatenated, mesh_sha256, quantised, vertex_normals
from splathead.subjects.detail import DETAIL_BANDS_MM, band_noise, skin_displacement
from splathead.subjects.rig import subject_cameras
from splathead.subjects.splits import assign_splits, check_frozen, freeze_splits
from splathead.subjects.subdivide import cap, clip, longest_boundary_loop, loop_refine, refine_to_length, unique_edges

SPHERE = trimesh.creation.icosphere(subdivisions=2, radius=50.0)
OPEN = trimesh.Trimesh(SPHERE.vertices, SPHERE.faces[SPHERE.triangles_center[:, 1] > -10], process=True)


def sorted_rows(vertices: np.ndarray) -> np.ndarray:
    rounded = np.round(vertices, 6)
    return rounded[np.lexsort(rounded.T)]


@pytest.mark.parametrize("mesh", [SPHERE, OPEN], ids=["closed", "open"])
def test_loop_step_equals_trimesh(mesh):
    operator, faces = loop_refine(np.asarray(mesh.faces), len(mesh.vertices))
    expected, expected_faces = trimesh.remesh.subdivide_loop(mesh.vertices, mesh.faces, iterations=1)
    assert len(faces) == len(expected_faces) == 4 * len(mesh.faces)
    np.testing.assert_allclose(sorted_rows(operator @ mesh.vertices), sorted_rows(expected), atol=2e-6)


def test_partial_refinement_stays_closed_oriented_and_even():
    vertices, faces = np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces)
    limit = np.where(vertices[:, 0] > 0, 4.0, 9.0)
    volume = trimesh.Trimesh(vertices, faces).volume
    for step, refined in refine_to_length(vertices, faces, limit, levels=6):
        vertices, limit, faces = step @ vertices, step @ limit, refined
        assert (unique_edges(faces, len(vertices))[2] == 2).all()  # no T-junction, no hole
    edges = unique_edges(faces, len(vertices))[0]
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    assert (lengths <= limit[edges].mean(1) + 1e-9).all()
    solid = trimesh.Trimesh(vertices, faces, process=False)
    assert solid.is_winding_consistent and solid.volume == pytest.approx(volume, rel=0.03)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 50, rtol=0.04)


def test_clip_and_cap_leave_a_closed_mesh_on_one_side():
    normal = np.array([0.0, 0.8, 0.6])
    distance = SPHERE.vertices @ normal + 17.3
    operator, faces = clip(np.asarray(SPHERE.faces), distance)
    vertices = operator @ SPHERE.vertices
    away = vertices @ normal + 17.3
    assert away.min() > -1e-9
    loop = longest_boundary_loop(faces, vertices)
    np.testing.assert_allclose(away[loop], 0, atol=1e-9)
    append, closed = cap(faces, loop, len(vertices), rings=3)
    solid = trimesh.Trimesh(append @ vertices, closed, process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    height = 50 + 17.3
    assert solid.volume == pytest.approx(np.pi * height**2 * (150 - height) / 3, rel=0.05)  # spherical cap


def test_closed_mesh_has_no_loop():
    with pytest.raises(ValueError, match="closed"):
        longest_boundary_loop(np.asarray(SPHERE.faces), SPHERE.vertices)


def test_vertex_normals_of_a_sphere_and_of_an_unused_vertex():
    vertices = np.vstack([SPHERE.vertices, [[0, 0, 0]]])
    normals = vertex_normals(vertices, np.asarray(SPHERE.faces))
    np.testing.assert_allclose((normals[:-1] * SPHERE.vertices).sum(1), 50, rtol=1e-2)
    np.testing.assert_array_equal(normals[-1], 0)


@pytest.mark.parametrize("band", DETAIL_BANDS_MM)
def test_noise_has_unit_rms_and_stays_in_its_band(band):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(40) * band[0] / 4] * 3, indexing="ij"), -1).reshape(-1, 3)
    noise = band_noise(grid, rng, band)
    assert np.sqrt((noise**2).mean()) == pytest.approx(1.0, abs=0.2)
    assert abs(noise.mean()) < 0.15
    power = np.abs(np.fft.fftn(noise.reshape(40, 40, 40) * np.hanning(40)[:, None, None])) ** 2
    frequency = np.linalg.norm(np.stack(np.meshgrid(*[np.fft.fftfreq(40, band[0] / 4)] * 3, indexing="ij"), -1), axis=-1)
    in_band = (frequency > 0.6 / band[1]) & (frequency < 1.3 / band[0])
    assert power[in_band].sum() / power.sum() > 0.93


def test_displacement_has_the_drawn_strength():
    points = np.random.default_rng(1).uniform(-80, 80, (40000, 3))
    total, amplitudes = skin_displacement(points, np.ones(len(points)), np.random.default_rng(5))
    smooth, _ = skin_displacement(points, np.zeros(len(points)), np.random.default_rng(5))
    expected = np.sqrt(np.square(amplitudes).sum())
    assert np.sqrt((total**2).mean()) == pytest.approx(expected, rel=0.25)
    assert np.sqrt(((total - smooth) ** 2).mean()) == pytest.approx(amplitudes[0], rel=0.25)  # the shortest band only


def test_quantised_mesh_is_exact_in_float32_and_its_hash_sees_every_change():
    mesh = quantised(HeadMesh(SPHERE.vertices * 1.2345, SPHERE.faces, np.random.default_rng(0).random(SPHERE.vertices.shape)))
    lattice = mesh.vertices.astype(np.float64) * 4096
    np.testing.assert_array_equal(lattice, np.rint(lattice))
    nudged = HeadMesh(mesh.vertices + np.float32([[1 / 4096, 0, 0]]), mesh.faces, mesh.colours)
    turned = HeadMesh(mesh.vertices, mesh.faces[:, [1, 2, 0]], mesh.colours)
    darker = HeadMesh(mesh.vertices, mesh.faces, mesh.colours * 0.99)
    hashes = {mesh_sha256(m) for m in (mesh, nudged, turned, darker)}
    assert len(hashes) == 4 and mesh_sha256(quantised(mesh)) == mesh_sha256(mesh)


def test_concatenated_parts_keep_their_faces():
    mesh = HeadMesh(SPHERE.vertices, SPHERE.faces, np.zeros(SPHERE.vertices.shape), {"nose_tip": np.zeros(3)})
    both = concatenated([mesh, HeadMesh(OPEN.vertices, OPEN.faces, np.ones(OPEN.vertices.shape))])
    np.testing.assert_allclose(both.vertices[both.faces[len(SPHERE.faces) :]], OPEN.vertices[OPEN.faces], rtol=1e-6)
    assert "nose_tip" in both.landmarks


def rig(seed: int, fit_views: int = 24, heldout_views: int = 4):
    yaws = [-40.0, -15.0, 15.0, 40.0]
    return subject_cameras(
        seed, fit_views=fit_views, heldout_views=heldout_views, fit_size=256, map_yaws_deg=yaws, map_size=1024
    )


def test_rig_counts_names_and_coverage():
    cameras = rig(3)
    assert (len(cameras.fit), len(cameras.heldout), len(cameras.maps)) == (24, 4, 4)
    names = [camera.name for group in (cameras.fit, cameras.heldout, cameras.maps) for camera in group]
    assert len(set(names)) == len(names)
    for camera in cameras.fit + cameras.heldout + cameras.maps:
        assert np.linalg.norm(camera.position) == pytest.approx(486.0)
    angles = np.array([camera_yaw_elevation(camera) for camera in cameras.fit])
    np.testing.assert_allclose(sorted(angles[:6, 0]), [-90, -45, 0, 45, 90, 180], atol=1e-9)
    gaps = np.diff(np.sort(np.concatenate([angles[:, 0], [angles[:, 0].min() + 360]])))
    assert gaps.max() < 50 and angles[:, 1].max() > 15 and angles[:, 1].min() < -10
    for camera, yaw in zip(cameras.maps, (-40, -15, 15, 40)):
        found = camera_yaw_elevation(camera)
        assert abs(found[0] - yaw) <= 4 and abs(found[1]) <= 4 and camera.width == 1024


def test_map_views_take_the_elevations_in_turn_and_change_nothing_else():
    yaws, elevations = [-140.0, 0.0, 90.0], [0.0, 40.0, -20.0]
    sizes = {"fit_views": 8, "heldout_views": 2, "fit_size": 64, "map_size": 64}
    seen = {yaw: set() for yaw in yaws}
    for seed in range(4, 7):
        level = subject_cameras(seed, map_yaws_deg=yaws, **sizes)
        tilted = subject_cameras(seed, map_yaws_deg=yaws, map_elevations_deg=elevations, **sizes)
        for group in ("fit", "heldout"):
            for one, other in zip(getattr(level, group), getattr(tilted, group), strict=True):
                np.testing.assert_array_equal(one.world_to_cam, other.world_to_cam)
        for k, (one, other) in enumerate(zip(level.maps, tilted.maps, strict=True)):
            expected = elevations[(seed + k) % 3]
            found = np.array(camera_yaw_elevation(other)) - camera_yaw_elevation(one)
            np.testing.assert_allclose(found, [0, expected], atol=1e-9)  # the same jitter
            assert other.name == one.name + (f"_el{expected:+03.0f}" if expected else "")
            seen[yaws[k]].add(expected)
    assert all(found == set(elevations) for found in seen.values())


def test_heldout_views_are_not_fitted_and_seeds_differ():
    cameras = rig(0)
    fitted = np.array([camera.position for camera in cameras.fit])
    for camera in cameras.heldout:
        assert np.linalg.norm(fitted - camera.position, axis=1).min() > 1.0
    assert [c.to_dict() for c in rig(0).maps] == [c.to_dict() for c in cameras.maps]
    assert not np.allclose(rig(1).maps[0].position, cameras.maps[0].position)
    assert [len(rig(0, fit_views=n).fit) for n in (3, 6, 7)] == [3, 6, 7] and not rig(0, heldout_views=0).heldout


def test_splits_have_their_counts_whatever_the_order():
    names = [f"head_{k}" for k in range(20)]
    splits = assign_splits(names, 4, val=3, test=6)
    counts = [list(splits.values()).count(split) for split in ("train", "val", "test")]
    assert counts == [11, 3, 6] and splits == assign_splits(names[::-1], 4, val=3, test=6)
    assert splits != assign_splits(names, 5, val=3, test=6)
    with pytest.raises(ValueError, match="15 val and 6 test of 20"):
        assign_splits(names, 4, val=15, test=6)
    with pytest.raises(ValueError, match="twice"):
        assign_splits(["a", "a"], 4, val=0, test=1)


def test_frozen_splits_refuse_another_split_or_mesh(tmp_path):
    path = tmp_path / "eval" / "splits.json"
    splits = ("train", "test", "test")
    subjects = [{"name": f"h{k}", "identity": f"h{k}", "split": split, "mesh_sha256": str(k)} for k, split in enumerate(splits)]
    freeze_splits(path, "quick", subjects)
    freeze_splits(path, "other", subjects[:2])
    freeze_splits(path, "quick", subjects)  # the same again is fine
    with pytest.raises(ValueError, match="h1 is frozen as test, found as train"):
        check_frozen(path, "quick", [{**subjects[1], "split": "train"}])
    with pytest.raises(ValueError, match="mesh of h2 differs"):
        freeze_splits(path, "quick", [subjects[0], {**subjects[2], "mesh_sha256": "x"}])
    check_frozen(path, "quick", [{**subjects[0], "mesh_sha256": "retrained"}])  # only test meshes are frozen
    with pytest.raises(ValueError, match="no frozen splits of 'new'"):
        check_frozen(path, "new", subjects)
