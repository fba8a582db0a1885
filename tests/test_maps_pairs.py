"""Stages 03, 04 and 05 on a tiny fake subject, through their scripts; what lies in the pairs; loading them."""

import csv
import dataclasses
import json
import runpy
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth
from conftest import REPOSITORY

from splathead.cameras import load_cameras, orbit_camera, save_cameras
from splathead.config import load_config
from splathead.gaussians import Gaussians
from splathead.images import load_depth_png, load_maps, read_png, save_maps, write_json, write_png
from splathead.maps.pairs import load_pair, make_subject_pairs
from splathead.maps.postprocess import postprocess_subject
from splathead.maps.render_subject import pack_maps, render_maps, render_subject_maps
from splathead.ply import save_gaussians_ply
from splathead.raster import RasterSettings
from splathead.samples import STAGE_NAMES, Sample, list_samples, stage_folder

SCRIPTS = [STAGE_NAMES[number] for number in (3, 4, 5)]


def ellipsoid_gaussians(count: int = 350) -> Gaussians:
    """Flat discs on the head ellipsoid, their shortest axis along its normal."""
    k = np.arange(count) + 0.5
    phi, theta = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    sphere = np.stack([np.cos(theta) * np.sin(phi), np.cos(phi), np.sin(theta) * np.sin(phi)], axis=1)
    normals = sphere / HEAD_AXES_MM
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # the rotation that takes z to the normal, as a quaternion: (1 + n_z, z x n), normalised
    quaternions = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], np.zeros(count)], axis=1)
    scales = np.log(np.array([10.0, 10.0, 0.5])) * np.ones((count, 1))
    tensors = (sphere * HEAD_AXES_MM, scales, quaternions, np.full(count, 4.0))
    means, log_scales, rotations, logits = (torch.tensor(values, dtype=torch.float32) for values in tensors)
    colours = torch.tensor(sphere[:, None, :] * 0.8, dtype=torch.float32)
    return Gaussians(means, log_scales, rotations, logits, colours, "mm")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Configuration file of a run with one subject with truth and one without, through the three scripts."""
    root = tmp_path_factory.mktemp("run")
    config_file = root / "tiny.yaml"
    settings = {
        "schema": 1, "name": "tiny", "runs_dir": str(root / "runs"), "jobs": 1, "subjects": {"map_size": 48},
        "render": {"backend": "reference", "lr_size": 12, "modes": ["classic", "antialiased"]},
        "postprocess": {"nose_relative": True, "bilateral": True}, "pairs": {"lr_bits": [8, 16, 6]},
    }  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny images: threads only wait for each other
    config_file.write_text(yaml.safe_dump(settings))
    config = load_config(config_file)
    gaussians = ellipsoid_gaussians()
    for name, split in (("anna", "test"), ("bert", "train")):
        folder = stage_folder(config, 1) / name
        cameras = [orbit_camera(yaw, 5, 48, radius=320, name=view) for yaw, view in ((0, "front"), (35, "left"))]
        write_json(folder / "subject.json", {"split": split, "landmarks": {"nose_tip": [0, 0, HEAD_AXES_MM[2]]}})
        save_cameras(folder / "cameras_maps.json", cameras)
        save_gaussians_ply(stage_folder(config, 2) / name / "vanilla" / "gaussians.ply", gaussians)
        for camera in cameras if name == "anna" else []:
            depth = ellipsoid_depth(camera)
            maps = {"depth": depth, "mask": depth > 0, "alpha": (depth > 0).astype(np.float16)}
            save_maps(folder / "truth" / f"{camera.name}.npz", maps)
    for stage in (1, 2):
        write_json(stage_folder(config, stage) / "stage.json", {"state": "done", "fingerprint": str(stage)})
    run_scripts(config_file)
    yield config_file
    torch.set_num_threads(threads)


def run_scripts(config_file) -> None:
    for script in SCRIPTS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [f"{script}.py", "--config", str(config_file)])
            runpy.run_path(str(REPOSITORY / "scripts" / f"{script}.py"), run_name="__main__")


@pytest.fixture
def config(finished_run):
    return load_config(finished_run)


def test_every_sample_has_its_files(config):
    for stage, count in ((3, 8), (4, 8), (5, 4)):
        assert len(list_samples(config, stage)) == count
    sample = Sample("anna", "vanilla-classic", "front")
    for stage in (3, 4):
        for suffix, size in (("_hr.npz", 48), ("_lr.npz", 12)):
            maps = load_maps(sample.path(config, stage, suffix))
            assert all(value.shape[:2] == (size, size) for value in maps.values())
        sheet = sample.path(config, stage).parent / "preview.png"
        assert read_png(sheet, channels=3, bits=8).std() > 10
    types = {name: value.dtype for name, value in maps.items()}
    assert {types[name] for name in ("depth", "depth_median", "depth_variance", "depth_nose")} == {np.dtype(np.float32)}
    assert types["alpha"] == np.float16 and types["normal"] == types["depth_normal"] == np.int8 and types["rgb"] == np.uint8
    assert types["mask"] == np.bool_


def test_rendered_maps_show_the_ellipsoid(config):
    """Depth, normals and colour in the stored layout against the analytic surface."""
    sample = Sample("anna", "vanilla-classic", "left")
    camera = load_cameras(sample.path(config, 3).parent / "cameras.json")[1]
    maps, truth = load_maps(sample.path(config, 3, "_hr.npz")), ellipsoid_depth(camera)
    points = camera.unproject(truth)
    normals = points / HEAD_AXES_MM**2 @ camera.rotation.T
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    inner = cv2.erode((truth > 0).astype(np.uint8), np.ones((9, 9))).astype(bool)
    facing = inner & (normals[..., 2] < -0.95)
    assert facing.sum() > 50
    assert np.median(np.abs(maps["depth_median"] - truth)[facing]) < 2
    behind = maps["depth"] - truth  # some of the far side shines through between the discs
    assert 0 < np.median(behind[facing]) < 10 and maps["depth_variance"][facing].min() > 0
    assert (maps["normal"] / 127 * normals).sum(-1)[inner].min() > 0.95
    colour = np.clip(0.5 + 0.28209 * 0.8 * points / HEAD_AXES_MM, 0, 1) * 255
    assert np.abs(maps["rgb"].astype(float) - colour * maps["alpha"][..., None])[inner].max() < 12
    empty = maps["alpha"] == 0
    assert empty.any() and all((value[empty] == 0).all() for value in maps.values())


def test_the_low_resolution_map_is_rendered_not_resampled(config):
    sample = Sample("anna", "vanilla-classic", "front")
    camera = load_cameras(sample.path(config, 3).parent / "cameras.json")[0]
    low, high = (load_maps(sample.path(config, 3, suffix)) for suffix in ("_lr.npz", "_hr.npz"))
    again = render_maps(ellipsoid_gaussians(), camera.resized(12), RasterSettings(), config)
    np.testing.assert_allclose(low["depth"], again["depth"], atol=1e-3)
    inner = cv2.erode((low["alpha"] > 0.9).astype(np.uint8), np.ones((3, 3))).astype(bool)
    resampled = cv2.resize(high["depth"], (12, 12), interpolation=cv2.INTER_AREA)
    assert np.abs(low["depth"] - resampled)[inner].max() > 0.1
    antialiased = load_maps(Sample("anna", "vanilla-antialiased", "front").path(config, 3, "_lr.npz"))
    assert np.abs(low["alpha"].astype(float) - antialiased["alpha"]).max() > 0.01


def test_the_coding_keeps_half_a_step_and_near_far_are_the_maps_own(config):
    sample = Sample("anna", "vanilla-classic", "front")
    folder = sample.path(config, 5)
    sources = {
        "hr_render": load_maps(sample.path(config, 4, "_hr.npz")),
        "lr_8bit": load_maps(sample.path(config, 4, "_lr.npz")),
        "hr_surface": load_maps(stage_folder(config, 1) / "anna" / "truth" / "front.npz"),
    }
    sources["lr_16bit"] = sources["lr_6bit"] = sources["lr_8bit"]
    for name, maps in sources.items():
        bits = int(name[3:-3]) if name.startswith("lr") else 16
        coded, mask, depth = load_depth_png(folder / f"{name}.png"), maps["mask"], maps["depth"]
        np.testing.assert_array_equal(coded.mask, mask, err_msg=name)
        assert coded.encoding.near == depth[mask].min() and coded.encoding.far == depth[mask].max()
        assert coded.encoding.bits == bits and coded.encoding.unit == "mm"
        error = np.abs(coded.depth - depth)[mask].max()
        assert error <= coded.encoding.lsb / 2 + 4e-5
        code = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert code.dtype == (np.uint8 if bits <= 8 else np.uint16)
        assert code[~mask].max() == 0 and code[mask].min() == 1 and code[mask].max() == 2**bits - 1
        sidecar = json.loads((folder / f"{name}.json").read_text())
        assert sidecar["camera"]["width"] == depth.shape[1] and "anna/vanilla-classic/front" in sidecar["source"]


def test_load_pair(config):
    pair = load_pair(config, Sample("anna", "vanilla-classic", "left"), lr_bits=16)
    assert set(pair.targets) == {"render", "surface"} and pair.lr.encoding.bits == 16
    assert pair.yaw_deg == pytest.approx(35) and pair.elevation_deg == pytest.approx(5)
    assert pair.camera.width == 48 and pair.lr.camera.width == 12
    np.testing.assert_allclose(pair.lr.camera.K[:2], pair.camera.K[:2] / 4)
    both = pair.targets["surface"].mask & pair.targets["render"].mask
    assert np.median((pair.targets["render"].depth - pair.targets["surface"].depth)[both]) == pytest.approx(0, abs=6)
    bert = load_pair(config, Sample("bert", "vanilla-classic", "left"))
    assert set(bert.targets) == {"render"} and bert.lr.encoding.bits == 8
    assert set(load_pair(config, pair.sample, targets=("surface",)).targets) == {"render", "surface"}
    with pytest.raises(ValueError, match="no 10-bit input"):
        load_pair(config, pair.sample, lr_bits=10)


def test_manifest(config):
    with (stage_folder(config, 5) / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["subject"], row["view"], row["split"]) for row in rows] == [
        ("anna", "front", "test"), ("anna", "left", "test"), ("bert", "front", "train"), ("bert", "left", "train")
    ]  # fmt: skip
    assert rows[0]["targets"] == "render surface" and rows[2]["targets"] == "render"
    assert float(rows[1]["yaw_deg"]) == 35 and rows[0]["fit"] == "vanilla" and rows[0]["mode"] == "classic"


def test_nose_relative_depth(config):
    sample = Sample("anna", "vanilla-classic", "front")
    maps = load_maps(sample.path(config, 4, "_hr.npz"))
    camera = load_cameras(sample.path(config, 4).parent / "cameras.json")[0]
    nose_z = camera.project(np.array([[0, 0, HEAD_AXES_MM[2]]]))[1][0]
    np.testing.assert_allclose(maps["depth_nose"][maps["mask"]], maps["depth"][maps["mask"]] - nose_z, atol=1e-3)
    assert (maps["depth_nose"][~maps["mask"]] == 0).all()


def test_finished_subjects_are_not_made_again(finished_run, config):
    files = [Sample("anna", "vanilla-classic", "front").path(config, stage, "_hr.npz") for stage in (3, 4)]
    before = [file.stat().st_mtime_ns for file in files]
    lost = stage_folder(config, 3) / "bert"
    reference = load_maps(lost / "vanilla-classic" / "left_hr.npz")
    shutil.rmtree(lost)  # as if killed before its second subject
    run_scripts(finished_run)
    assert [file.stat().st_mtime_ns for file in files] == before
    again = load_maps(lost / "vanilla-classic" / "left_hr.npz")
    assert all((again[name] == reference[name]).all() for name in reference)


def copy_of(config, tmp_path, stages=(1, 2, 3, 4)):
    """The same run in another place, to spoil."""
    for stage in stages:
        shutil.copytree(stage_folder(config, stage), tmp_path / "tiny" / STAGE_NAMES[stage])
    return dataclasses.replace(config, runs_dir=str(tmp_path))


def test_missing_and_wrong_inputs_are_named(config, tmp_path):
    spoilt = copy_of(config, tmp_path)
    (stage_folder(spoilt, 1) / "anna" / "truth" / "left.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"truth/left\.npz"):
        make_subject_pairs(spoilt, "anna", tmp_path / "out")
    small = {name: value[:32, :32] for name, value in load_maps(stage_folder(spoilt, 1) / "anna/truth/front.npz").items()}
    save_maps(stage_folder(spoilt, 1) / "anna/truth/front.npz", small)
    with pytest.raises(ValueError, match=r"front\.npz: true depth of shape \(32, 32\), expected \(48, 48\)"):
        make_subject_pairs(spoilt, "anna", tmp_path / "out2")
    shutil.rmtree(stage_folder(spoilt, 2) / "bert" / "vanilla")
    with pytest.raises(FileNotFoundError, match=r"bert: no <fit>/gaussians\.ply"):
        render_subject_maps(spoilt, "bert", tmp_path / "out3")
    shutil.rmtree(stage_folder(spoilt, 3) / "bert")
    with pytest.raises(FileNotFoundError, match=r"bert: no <variant>/cameras\.json"):
        postprocess_subject(spoilt, "bert", tmp_path / "out4")


def test_a_damaged_map_file_is_named(config, tmp_path):
    whole = Sample("anna", "vanilla-classic", "left").path(config, 3, "_hr.npz").read_bytes()
    path = tmp_path / "left_hr.npz"
    for damaged in (whole[: len(whole) // 2], b"", b"no zip at all"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"left_hr\.npz: not a readable map file"):
            load_maps(path)
    np.savez(path, depth=np.zeros(3))
    with pytest.raises(ValueError, match=r"left_hr\.npz: no _box, _size in it"):
        load_maps(path)


def test_an_empty_view_is_an_error_that_names_subject_and_view(config, tmp_path):
    spoilt = copy_of(config, tmp_path, (1, 3))
    path = Sample("anna", "vanilla-classic", "left").path(spoilt, 3, "_hr.npz")
    maps = load_maps(path)
    maps["alpha"] *= np.float16(0.2)
    save_maps(path, maps)
    with pytest.raises(ValueError, match=r"subject anna, vanilla-classic, view left \(high resolution\): empty mask"):
        postprocess_subject(spoilt, "anna", tmp_path / "out")


def textured_stage_03(config, subject: str) -> np.ndarray:
    """Replace the subject's rendered maps by one view of 160 pixels with texture; returns its colours."""
    variant = Sample(subject, "vanilla-classic", "front").path(config, 3).parent
    camera = load_cameras(variant / "cameras.json")[0].resized(160)
    shutil.rmtree(variant.parent)
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(160, 160, 3)), (0, 0), 4)
    for suffix, view in (("hr", camera), ("lr", camera.resized(40))):
        depth = ellipsoid_depth(view)
        rgb = cv2.resize(np.clip(130 + 900 * noise, 10, 250).astype(np.uint8), depth.shape[::-1])
        rgb[depth == 0] = 0
        maps = {"alpha": (depth > 0).astype(np.float16), "depth": depth, "rgb": rgb, "normal": np.zeros_like(rgb, np.int8)}
        save_maps(variant / f"front_{suffix}.npz", maps)
    save_cameras(variant / "cameras.json", [camera])
    return load_maps(variant / "front_hr.npz", ("rgb",))["rgb"]


def test_photo_alignment_needs_landmarks_and_writes_the_photo_on_the_views_grid(config, tmp_path):
    spoilt = copy_of(config, tmp_path, (1, 3))
    spoilt = dataclasses.replace(spoilt, postprocess=dataclasses.replace(config.postprocess, align=True))
    render, folder = textured_stage_03(spoilt, "anna"), stage_folder(spoilt, 1) / "anna"
    with pytest.raises(ValueError, match=r"subject anna: .* has no photo"):
        postprocess_subject(spoilt, "anna", tmp_path / "out1")
    write_png(folder / "photo.png", cv2.resize(render, (320, 320), interpolation=cv2.INTER_CUBIC))
    info = {"split": "test", "landmarks": {"nose_tip": [0, 0, 95], "chin": [0, -60, 80], "brow": [40, 50, 68]}}
    write_json(folder / "subject.json", info)
    with pytest.raises(ValueError, match=r"photo photo\.png: no landmarks"):
        postprocess_subject(spoilt, "anna", tmp_path / "out2")
    camera = load_cameras(folder / "cameras_maps.json")[0].resized(160)
    pixels = 2 * camera.project(np.array(list(info["landmarks"].values())))[0] + 2.0  # a photo twice as large, 2 px off
    postprocess_subject(spoilt, "anna", tmp_path / "out3", lambda image: dict(zip(info["landmarks"], pixels)))
    record = json.loads((tmp_path / "out3/vanilla-classic/front_photo.json").read_text())
    np.testing.assert_allclose(np.array(record["view_to_photo_px"]), 2 * np.eye(2, 3), atol=0.4)
    photo = read_png(tmp_path / "out3/vanilla-classic/front_photo.png", channels=3, bits=8)
    assert np.abs(photo.astype(float) - render)[50:110, 60:100].mean() < 2


def test_pack_maps_rounds_and_empties():
    alpha = np.array([[1.0, 0.5, 0.003]], np.float32)
    maps = {"alpha": alpha, "depth": np.full((1, 3), 400.1, np.float32), "rgb": np.array([[[1.2, 0.5, 0.4]]] * 3, np.float32)}
    maps["normal"] = np.array([[[0.0, 1, 0]], [[0.6, 0, 0]], [[-0.8, 0, -1]]], np.float32)
    packed = pack_maps(maps)
    np.testing.assert_array_equal(packed["depth"], np.array([[400.1, 400.1, 0]], np.float32))
    np.testing.assert_array_equal(packed["rgb"][..., 0], [[255, 128, 0]])
    np.testing.assert_array_equal(packed["normal"][0], [[0, 76, -102], [127, 0, 0], [0, 0, 0]])
