"""Imported splats: axes, unit and centre are worked out, said, and can be set."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import splat_writers
import torch

from splathead.cameras import camera_yaw_elevation, load_cameras
from splathead.config import Config, ReconstructConfig
from splathead.gaussians import Gaussians
from splathead.ply import load_gaussians_ply, save_gaussians_ply
from splathead.subjects.frames import HeadFrame, axis_name, axis_vector
from splathead.subjects.importer import find_splats, import_subject, understand_frame


def splat_head(scale: float = 1.0, up: str = "y", front: str = "z", shift=(0.0, 0.0, 0.0)) -> Gaussians:
    """A crude head of 4000 Gaussians, metres times ``scale``: symmetric left-right, a nose, a neck, in another frame."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 3))
    points *= np.array([0.08, 0.12, 0.1]) / np.linalg.norm(points, axis=1, keepdims=True)
    points[:400] = rng.uniform(-1, 1, (400, 3)) * [0.01, 0.02, 0.02] + [0, 0, 0.11]  # nose
    points[400:1200] = rng.uniform(-1, 1, (800, 3)) * [0.05, 0.05, 0.05] + [0, -0.15, -0.03]  # neck
    frame = HeadFrame(axis_vector(up), axis_vector(front), np.zeros(3), 1.0)
    foreign_points = torch.from_numpy((points * scale) @ frame.rotation + np.array(shift)).float()
    count = len(points)
    quaternions = torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4).contiguous()
    log_scales, logits = torch.full((count, 3), math.log(0.005 * scale)), torch.full((count,), 3.0)
    return Gaussians(foreign_points, log_scales, quaternions, logits, torch.ones(count, 1, 3))


def nose_of(gaussians: Gaussians) -> np.ndarray:
    return gaussians.means[:400].mean(0).numpy()


def do_import(tmp_path, gaussians: Gaussians, **settings):
    save_gaussians_ply(tmp_path / "head.ply", gaussians)
    config = Config()
    config.subjects.map_yaws, config.subjects.map_size = [-30.0, 0.0, 30.0], 128
    for key, value in settings.items():
        setattr(config.reconstruct, f"import_{key}", value)
    report = import_subject(tmp_path / "head.ply", tmp_path / "out", config)
    return report, load_gaussians_ply(tmp_path / "out" / "import" / "gaussians.ply")


@pytest.mark.parametrize("scale, expected", [(1.0, 1000.0), (100.0, 10.0), (1000.0, 1.0)])
def test_import_works_out_the_unit(tmp_path, scale, expected):
    report, gaussians = do_import(tmp_path, splat_head(scale))
    assert report.frame.mm_per_unit == expected and gaussians.unit == "mm"
    np.testing.assert_allclose(nose_of(gaussians), [0, 0, 110], atol=2)
    info = json.loads((tmp_path / "out" / "subject.json").read_text())
    assert (info["name"], info["split"], info["scale"]) == ("head", "test", "nominal")
    assert 250 < info["diagonal_mm"] < 450
    cameras = load_cameras(tmp_path / "out" / "cameras_maps.json")
    assert [round(camera_yaw_elevation(c)[0]) for c in cameras] == [-30, 0, 30] and cameras[0].width == 128
    record = json.loads((tmp_path / "out" / "import" / "reconstruction.json").read_text())
    assert record["gaussians"] == 4000 and record["fit"] == "import"


def test_import_of_an_unknown_unit_is_nominal_and_centred(tmp_path):
    report, gaussians = do_import(tmp_path, splat_head(7.0, shift=(40.0, 2.0, -9.0)))
    extent = np.quantile(gaussians.means[:, 1].numpy(), [0.01, 0.99])
    assert extent[1] - extent[0] == pytest.approx(300, rel=0.02) and abs(extent.sum()) < 5
    text = "\n".join(report.lines)
    assert "nominal 300 mm" in text and "middle of the visible" in text


def test_import_with_other_axes(tmp_path):
    for up, front in (("z", "-y"), ("-y", "-z"), ("x", "y")):
        report, gaussians = do_import(tmp_path, splat_head(1.0, up, front), up=up, front=front)
        np.testing.assert_allclose(nose_of(gaussians), [0, 0, 110], atol=2)
        assert not any("WARNING" in line for line in report.lines)
    _, gaussians = do_import(tmp_path, splat_head(), mm_per_unit=500.0)
    np.testing.assert_allclose(nose_of(gaussians), [0, 0, 55], atol=2)


@pytest.mark.parametrize(
    ("is_facelift", "up", "front", "expected"),
    [
        (False, "z", "auto", ("z", "-y")), (False, "-z", "auto", ("-z", "-y")), (False, "auto", "-y", ("z", "-y")),
        (False, "x", "auto", ("x", "z")), (False, "auto", "x", ("y", "x")), (True, "y", "auto", ("y", "z")),
        (True, "auto", "-z", ("y", "-z")), (True, "x", "auto", ("x", "-y")), (True, "auto", "y", ("z", "y")),
    ],
)  # fmt: skip
def test_the_axis_that_is_left_open_is_never_parallel_to_the_other(is_facelift, up, front, expected):
    frame, lines = understand_frame(splat_head(), is_facelift, ReconstructConfig(import_up=up, import_front=front))
    assert (axis_name(frame.up), axis_name(frame.front)) == expected
    assert any("set import_up, import_front to change" in line for line in lines)


def test_import_warns_when_left_right_is_not_symmetric(tmp_path):
    report, _ = do_import(tmp_path, splat_head(1.0, up="y", front="x"))  # looks along x, taken as z
    assert any(line.startswith("WARNING") for line in report.lines)
    report, _ = do_import(tmp_path, splat_head())
    assert not any(line.startswith("WARNING") for line in report.lines)


@pytest.mark.parametrize("sides", [(1, 1, 1), (0.7, 1.3, 0.7)])
def test_a_note_on_what_is_alike_from_all_sides(tmp_path, sides):
    gaussians = splat_head()
    points = np.random.default_rng(1).uniform(-0.12, 0.12, (4000, 3))
    points[np.arange(4000), np.arange(4000) % 3] = np.where(np.arange(4000) % 2, 0.12, -0.12)  # the faces of a box
    box = replace(gaussians, means=torch.from_numpy(points * sides).float())
    report, _ = do_import(tmp_path, box)
    assert any(line.startswith("NOTE") and "perhaps not a head" in line for line in report.lines)
    report, _ = do_import(tmp_path, gaussians)
    assert not any("not a head" in line for line in report.lines)


def test_our_own_millimetre_files_come_back_unchanged(tmp_path):
    gaussians = splat_head(1000.0)
    gaussians.unit = "mm"
    report, imported = do_import(tmp_path, gaussians)
    torch.testing.assert_close(imported.means, gaussians.means)
    assert any("says the file" in line for line in report.lines)


def test_real_lam_heads_are_upright_and_centred(shared_data, tmp_path):
    found = find_splats(shared_data / "data" / "lam_heads")
    assert list(found) == ["james", "p2-1"]
    for name, path in found.items():
        report = import_subject(path, tmp_path / name, Config())
        assert report.frame.mm_per_unit == 1000 and not any("WARNING" in line or "NOTE" in line for line in report.lines)
        gaussians = load_gaussians_ply(tmp_path / name / "import" / "gaussians.ply")
        visible = gaussians.means[gaussians.opacities > 0.1]
        x, y, z = visible.unbind(1)
        assert abs(float(x.median())) < 10 and abs(float(y.median())) < 50  # the middle of the face
        assert 90 < float(z.quantile(0.99)) < 130  # the nose


@pytest.mark.parametrize("kind", ["spz", "splat", "compressed.ply"])
def test_import_of_every_format(tmp_path, kind):
    head = splat_head()
    path = tmp_path / "in" / f"me.{kind}"
    path.parent.mkdir()
    if kind == "compressed.ply":
        splat_writers.write_compressed_ply(path, head)
    else:
        path.write_bytes(splat_writers.spz(head, 4) if kind == "spz" else splat_writers.dot_splat(head))
    ((name, found),) = find_splats(tmp_path / "in").items()
    report = import_subject(found, tmp_path / "out", Config(), name=name)
    assert name == path.name.rsplit(".", 1)[0] and report.frame.mm_per_unit == 1000
    layout = {"spz": ".spz version 4", "splat": ".splat", "compressed.ply": "SuperSplat compressed PLY"}[kind]
    assert report.lines[1] == f"format: {layout}"
    gaussians = load_gaussians_ply(tmp_path / "out" / "import" / "gaussians.ply")
    np.testing.assert_allclose(nose_of(gaussians), [0, 0, 110], atol=2)
    assert abs(float(gaussians.log_scales.mean()) - math.log(5)) < 0.05


def test_finding_splats(tmp_path):
    for name in ("a/point_cloud/iteration_30000/point_cloud.ply", "b/gaussians.ply", "c d.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_splats(tmp_path)) == ["a_point_cloud_iteration_30000", "b", "c_d"]
    assert list(find_splats(tmp_path / "c d.ply")) == ["c_d"]
    (tmp_path / "c_d.SPZ").touch()
    with pytest.raises(ValueError, match="both be subject 'c_d'"):
        find_splats(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no splat file here, expected a \.ply, \.splat, \.spz file"):
        find_splats(tmp_path / "nothing")
