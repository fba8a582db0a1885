"""What stage 01 writes of a subject, and its reading back; the list of subjects of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from splathead.cameras import camera_yaw_elevation
from splathead.config import Config
from splathead.raycast import RayCaster
from splathead.subjects.base import HeadMesh, mesh_sha256, quantised
from splathead.subjects.collect import collect_subject, face_edge_mm, make_head, plan_subjects, prepare_model
from splathead.subjects.rig import subject_cameras
from splathead.subjects.writer import CLOUD_NOISE_MM, SubjectLabel, load_subject, write_subject

LABEL = SubjectLabel("ball_0001", "ball_0001", "anny", "test", seed=5)


def ball() -> HeadMesh:
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=100.0)
    colours = (sphere.vertices + 100) / 200
    landmarks = {"nose_tip": np.array([0.0, 0.0, 100.0])}
    return quantised(HeadMesh(sphere.vertices, sphere.faces, colours, landmarks, {"hair": "none"}))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    cameras = subject_cameras(5, fit_views=8, heldout_views=2, fit_size=48, map_yaws_deg=[-20.0, 20.0], map_size=96)
    write_subject(folder, ball(), cameras, LABEL, init_points=4000)
    return folder


def test_files_and_description(written):
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    views = [*(f"facelift_{k}" for k in range(6)), "ring_00", "ring_01", "heldout_00", "heldout_01"]
    images = {f"images/{name}.png" for name in views}
    cameras = {f"cameras_{group}.json" for group in ("fit", "heldout", "maps")}
    truth = {"truth/map_00_yaw-020.npz", "truth/map_01_yaw+020.npz"}
    assert names == images | cameras | truth | {"subject.json", "mesh.ply", "points.npz"}
    info = json.loads((written / "subject.json").read_text())
    expected = {"name": "ball_0001", "identity": "ball_0001", "source": "anny", "split": "test", "scale": "metric", "seed": 5}
    assert {key: info[key] for key in expected} == expected
    assert info["landmarks"] == {"nose_tip": [0.0, 0.0, 100.0]} and info["mm_per_unit"] == 180.0
    assert info["diagonal_mm"] == pytest.approx(200 * np.sqrt(3), rel=1e-3)


def test_reading_back_gives_the_same_mesh_images_and_truth(written):
    subject, head = load_subject(written), ball()
    assert subject.has_truth and mesh_sha256(subject.mesh) == mesh_sha256(head) == subject.info["mesh_sha256"]
    camera = subject.cameras.maps[1]
    truth, hits = subject.truth(camera.name), RayCaster(head).cast(camera)
    np.testing.assert_array_equal(truth["depth"], hits.depth_map)
    np.testing.assert_array_equal(truth["mask"], hits.mask)
    np.testing.assert_allclose(truth["normal"], hits.normal_map(), atol=1e-3)
    assert truth["depth"].dtype == np.float32 and truth["depth"].shape == (96, 96)
    image = subject.image(subject.cameras.heldout[0].name)
    assert image.shape == (48, 48, 4) and image[24, 24, 3] == 255 and image[0, 0, 3] == 0


def test_the_initial_cloud_is_noisy_and_not_the_mesh(written):
    subject = load_subject(written)
    points, colours = subject.initial_cloud()
    assert points.shape == colours.shape == (4000, 3) and points.dtype == np.float32
    assert colours.min() >= 0 and colours.max() <= 1
    error = np.linalg.norm(points, axis=1) - 100  # normal component of isotropic noise
    near = np.abs(error) < 4 * CLOUD_NOISE_MM
    assert 0.96 < near.mean() < 0.995  # outliers
    assert error[near].std() == pytest.approx(CLOUD_NOISE_MM, rel=0.1)
    nearest = np.abs(points[:, None] - ball().vertices[None, ::20]).sum(-1).min(1)
    assert (nearest < 1e-3).sum() == 0
    again = subject_cameras(5, fit_views=8, heldout_views=2, fit_size=48, map_yaws_deg=[-20.0, 20.0], map_size=96)
    assert [c.name for c in again.fit] == [c.name for c in subject.cameras.fit]


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    cameras = subject_cameras(5, fit_views=8, heldout_views=2, fit_size=48, map_yaws_deg=[-20.0, 20.0], map_size=96)
    write_subject(tmp_path, ball(), cameras, LABEL, init_points=4000)
    for name in ("mesh.ply", "subject.json", "cameras_fit.json", "images/ring_00.png"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name
    for name in ("points.npz", "truth/map_00_yaw-020.npz"):
        with np.load(tmp_path / name) as one, np.load(written / name) as two:
            assert one.files == two.files and all(np.array_equal(one[key], two[key]) for key in one.files)


def test_a_head_outside_of_the_views_is_refused(tmp_path):
    far = ball()
    far = HeadMesh(far.vertices + np.float32([5000, 0, 0]), far.faces, far.colours)
    cameras = subject_cameras(0, fit_views=3, heldout_views=0, fit_size=16, map_yaws_deg=[0.0], map_size=16)
    with pytest.raises(ValueError, match=r"ball_0001: view map_00_yaw\+000 sees nothing"):
        write_subject(tmp_path, far, cameras, LABEL, 10)


def test_missing_subjects_and_broken_json_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"subject\.json"):
        load_subject(tmp_path)
    (tmp_path / "subject.json").write_text("{")
    with pytest.raises(ValueError, match=r"subject\.json: not valid JSON"):
        load_subject(tmp_path)


def test_plans_of_generated_heads():
    config = Config(seed=2)
    plans = plan_subjects(config)
    assert list(plans) == [f"anny_{k:04d}" for k in range(16)]
    splits = [plan.label.split for plan in plans.values()]
    assert [splits.count(split) for split in ("train", "val", "test")] == [8, 2, 6]
    seeds = {plan.label.seed for plan in plans.values()} | {plan.label.seed for plan in plan_subjects(Config(seed=3)).values()}
    assert len(seeds) == 32  # no head of one seed is a head of another
    config.subjects.source = "facelift"
    assert plan_subjects(config) == {}


def test_plans_of_scans_and_their_errors(tmp_path):
    config = Config()
    config.subjects.source = "scan"
    with pytest.raises(ValueError, match=r"subjects\.path is empty, expected the scan's file or folder"):
        plan_subjects(config)
    config.subjects.path = str(tmp_path)
    for name in ("a.ply", "b.ply"):
        trimesh.creation.box().export(tmp_path / name)
    config.subjects.test_only = True
    config.subjects.size_mm = 300.0
    plans = plan_subjects(config)
    assert {name: plan.label.split for name, plan in plans.items()} == {"a": "test", "b": "test"}
    assert {plan.label.scale for plan in plans.values()} == {"nominal"}
    assert make_head(config, plans["a"]).extent_mm[1] == pytest.approx(300)
    trimesh.creation.box().export(tmp_path / "a.obj")
    with pytest.raises(ValueError, match="would both be subject 'a'"):
        plan_subjects(config)


def test_ict_needs_a_path_and_folders_are_compacted_once(tmp_path, monkeypatch):
    from splathead.subjects import ict

    config = Config()
    assert prepare_model(config, tmp_path) is None
    config.subjects.source = "ict"
    with pytest.raises(ValueError, match="ICT-VGL"):
        prepare_model(config, tmp_path)
    config.subjects.path = str(tmp_path / "model.npz")
    assert prepare_model(config, tmp_path) == tmp_path / "model.npz"
    calls = []
    monkeypatch.setattr(ict, "load_ict", lambda path: calls.append(path))
    monkeypatch.setattr(ict, "save_compact", lambda path, model: (path.parent.mkdir(), path.write_bytes(b"x")))
    config.subjects.path = str(tmp_path)
    assert prepare_model(config, tmp_path / "c") == prepare_model(config, tmp_path / "c") == tmp_path / "c" / "ict_facekit.npz"
    assert calls == [tmp_path]


def test_collecting_an_embedded_head(tmp_path):
    config = Config()
    settings = config.subjects
    settings.fit_size, settings.fit_views, settings.heldout_views, settings.map_size, settings.init_points = 48, 3, 1, 128, 500
    settings.map_yaws, settings.map_elevations = [15.0], [20.0]
    collect_subject(config, plan_subjects(config), None, "anny_0003", tmp_path)
    subject = load_subject(tmp_path)
    np.testing.assert_allclose(camera_yaw_elevation(subject.cameras.maps[0]), [15, 20], atol=4)
    assert subject.info["attributes"]["parameters"]["expression"] and subject.has_truth
    truth = subject.truth(subject.cameras.maps[0].name)
    assert 0.08 < truth["mask"].mean() < 0.6 and 300 < truth["depth"][truth["mask"]].min() < 480
    assert mesh_sha256(subject.mesh) == subject.info["mesh_sha256"]
    pixels, _ = subject.cameras.maps[0].project(np.array([subject.info["landmarks"]["nose_tip"]]))
    assert np.abs(pixels - 64).max() < 25


def test_mesh_fineness_follows_the_map_size():
    assert face_edge_mm(1024) == face_edge_mm(2048) == 1.0
    assert face_edge_mm(512) == 2.0 and face_edge_mm(128) == 4.0
