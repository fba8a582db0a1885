"""FaceLift through its command line, played by a fake checkout that writes FaceLift's layout."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import skimage.data
import yaml
from conftest import REPOSITORY

from splathead.cameras import camera_yaw_elevation, load_cameras
from splathead.config import Config, load_config
from splathead.images import read_png, write_png
from splathead.ply import load_gaussians_ply
from splathead.reconstruction import reconstruct
from splathead.subjects.facelift import facelift_subject, find_photos, locate_facelift, run_facelift

# What FaceLift does as far as a caller can see: one folder per photo with its files, the PLY with 8-bit colours, no
# normals and zero-padded harmonics. The three Gaussians lie at the nose (front, -y), the crown (+z) and the left ear (+x).
FAKE_INFERENCE = '''
import argparse, json, math, os, pathlib, struct, sys
parser = argparse.ArgumentParser()
parser.add_argument("--input_dir", "-i"); parser.add_argument("--output_dir", "-o")
parser.add_argument("--auto_crop", action="store_true"); parser.add_argument("--seed", type=int)
parser.add_argument("--guidance_scale_2D", type=float); parser.add_argument("--step_2D", type=int)
args = parser.parse_args()
calls = pathlib.Path("calls.json")
calls.write_text(json.dumps((json.loads(calls.read_text()) if calls.exists() else []) + [vars(args)]))
mode = os.environ.get("FAKE_FACELIFT", "")
for k, photo in enumerate(sorted(os.listdir(args.input_dir))):
    print("Processing", photo)
    folder = pathlib.Path(args.output_dir, photo.split(".")[0]); folder.mkdir(parents=True)
    if mode == "crash" and k == 1:
        sys.exit("CUDA out of memory")
    if mode == "nothing":
        continue
    names = "x y z red green blue f_dc_0 f_dc_1 f_dc_2".split() + [f"f_rest_{i}" for i in range(45)]
    names += "opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    points = [(0, -.5, 0), (0, 0, .6), (.4, 0, 0)]
    for i in range(500 if mode == "ball" else 0):
        z, angle = 1 - 2 * (i + .5) / 500, i * 2.399963
        points.append((.5 * math.sqrt(1 - z * z) * math.cos(angle), .5 * math.sqrt(1 - z * z) * math.sin(angle), .5 * z))
    header = f"ply\\nformat binary_little_endian 1.0\\nelement vertex {len(points)}\\n"
    kinds = ["uchar" if name in ("red", "green", "blue") else "float" for name in names]
    header += "".join(f"property {kind} {name}\\n" for kind, name in zip(kinds, names)) + "end_header\\n"
    body = b""
    for x, y, z in points:
        body += struct.pack("<3f3B", x, y, z, 9, 9, 9) + struct.pack("<48f", .1, .2, .3, *[0] * 45)
        body += struct.pack("<8f", 2, -3.2, -3.2, -4, .5, .5, .5, .5)
    (folder / "gaussians.ply").write_bytes(header.encode() + (body[:50] if mode == "truncated" else body))
    (folder / "input.png").write_bytes(pathlib.Path(args.input_dir, photo).read_bytes())
    for name in ("multiview.png", "output.png", "turntable.mp4"):
        (folder / name).write_bytes(b"-")
'''


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "FaceLift"
    folder.mkdir()
    (folder / "inference.py").write_text(FAKE_INFERENCE)
    monkeypatch.setenv("FACELIFT_DIR", str(folder))
    monkeypatch.delenv("FACELIFT_PYTHON", raising=False)
    monkeypatch.delenv("FAKE_FACELIFT", raising=False)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name in ("ada.v2.png", "Grace Hopper.png"):
        write_png(folder / name, np.full((8, 8, 3), 200, np.uint8))
    (folder / "notes.txt").write_text("not a photo")
    return find_photos(folder)


def test_photos_become_subjects(checkout, photos, tmp_path):
    assert list(photos) == ["Grace_Hopper", "ada.v2"]
    results = run_facelift(photos, tmp_path / "out", Config().reconstruct)
    call = json.loads((checkout / "calls.json").read_text())[0]
    assert call["auto_crop"] and (call["seed"], call["guidance_scale_2D"], call["step_2D"]) == (4, 3.0, 50)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["Grace_Hopper", "ada.v2", "facelift.log"]

    config = Config()
    config.subjects.map_yaws, config.subjects.map_size = [-30.0, 0.0], 64
    folder = tmp_path / "subject"
    report = facelift_subject(photos["ada.v2"], results["ada.v2"], folder, config)
    assert report.subject == "ada.v2" and "FaceLift" in " ".join(report.lines)
    gaussians = load_gaussians_ply(folder / "facelift" / "gaussians.ply")
    # nose to the front (+Z), crown up (+Y), left ear to +X, 180 mm per unit
    np.testing.assert_allclose(gaussians.means.numpy(), [[0, 0, 90], [0, 108, 0], [72, 0, 0]], atol=1e-4)
    assert gaussians.unit == "mm" and gaussians.sh_degree == 0
    info = json.loads((folder / "subject.json").read_text())
    assert (info["name"], info["split"], info["scale"], info["source"]) == ("ada.v2", "test", "nominal", "facelift")
    cameras = load_cameras(folder / "cameras_maps.json")
    assert [round(camera_yaw_elevation(c)[0]) for c in cameras] == [-30, 0] and cameras[0].width == 64
    assert info["photo"] == {"file": "photo.png", "view": cameras[1].name}
    assert (read_png(folder / "photo.png", channels=3, bits=8) == 200).all()
    assert (folder / "facelift" / "reconstruction.json").is_file()


def test_finished_photos_are_not_made_again(checkout, photos, tmp_path):
    first = dict(list(photos.items())[:1])
    run_facelift(first, tmp_path / "out", Config().reconstruct)
    run_facelift(photos, tmp_path / "out", Config().reconstruct)
    run_facelift(photos, tmp_path / "out", Config().reconstruct)
    assert len(json.loads((checkout / "calls.json").read_text())) == 2
    assert (tmp_path / "out" / "facelift.log").read_text().split() == ["Processing", "photo0000.png"]


def test_crash_keeps_what_is_whole_and_says_why(checkout, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FACELIFT", "crash")
    with pytest.raises(RuntimeError, match=r"(?s)exited with code 1 and left 1 of 2.*ada\.v2\.png.*CUDA out of memory"):
        run_facelift(photos, tmp_path / "out", Config().reconstruct)
    assert (tmp_path / "out" / "Grace_Hopper" / "gaussians.ply").is_file()
    assert not (tmp_path / "out" / "ada.v2").exists()
    monkeypatch.delenv("FAKE_FACELIFT")
    run_facelift(photos, tmp_path / "out", Config().reconstruct)
    assert (tmp_path / "out" / "ada.v2" / "gaussians.ply").is_file()


def test_missing_output_is_an_error(checkout, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FACELIFT", "nothing")
    with pytest.raises(RuntimeError, match=r"left 2 of 2 photo\(s\) without a result"):
        run_facelift(photos, tmp_path / "out", Config().reconstruct)


def test_broken_output_is_an_error(checkout, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FACELIFT", "truncated")
    with pytest.raises(ValueError, match=r"gaussians\.ply: truncated"):
        run_facelift(photos, tmp_path / "out", Config().reconstruct)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["facelift.log"]


def test_without_facelift_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("FACELIFT_DIR", raising=False)
    settings = Config().reconstruct
    with pytest.raises(RuntimeError, match=r"git clone https://github\.com/weijielyu/FaceLift.*\$FACELIFT_DIR.*external/README\.md"):
        locate_facelift(settings)
    settings.facelift_dir = str(tmp_path)
    with pytest.raises(RuntimeError, match=r"no FaceLift checkout, it has no inference\.py"):
        locate_facelift(settings)
    (tmp_path / "inference.py").touch()
    settings.facelift_python = str(tmp_path / "no-python")
    with pytest.raises(RuntimeError, match="no such Python interpreter"):
        locate_facelift(settings)
    settings.facelift_python = ""
    monkeypatch.delenv("FACELIFT_PYTHON", raising=False)
    assert locate_facelift(settings) == (tmp_path.resolve(), sys.executable)


def test_no_photos_and_colliding_names(tmp_path):
    with pytest.raises(FileNotFoundError, match="no photo here"):
        find_photos(tmp_path)
    for name in ("a b.png", "a_b.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="both be subject 'a_b'"):
        find_photos(tmp_path)


@pytest.mark.slow
def test_photos_to_tables_through_the_pipeline(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FACELIFT", "ball")
    portrait = cv2.resize(skimage.data.astronaut()[:330, 80:380], (330, 363), interpolation=cv2.INTER_CUBIC)
    for name, image in (("ada", portrait), ("grace", portrait[:, ::-1]), ("coffee", skimage.data.coffee())):
        write_png(tmp_path / "photos" / f"{name}.png", np.ascontiguousarray(image))
    data = yaml.safe_load((REPOSITORY / "configs" / "facelift.yaml").read_text())
    data["subjects"] |= {"path": str(tmp_path / "photos"), "map_size": 128, "map_yaws": [-15.0, 0.0, 15.0]}
    data |= {"runs_dir": str(tmp_path / "runs"), "render": {"lr_size": 32}, "device": "cpu"}
    data["postprocess"], data["fuse"] = {"min_component_px": 30}, {**data["fuse"], "voxel_mm": 4.0, "target_faces": 2000}
    data["evaluate"] |= {"bootstrap": 100, "mesh_samples": 2000}
    config = tmp_path / "facelift.yaml"
    config.write_text(yaml.safe_dump(data))
    command = [sys.executable, str(REPOSITORY / "run_pipeline.py"), "--config", str(config)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    folder = tmp_path / "runs" / "facelift"
    assert len(list(folder.glob("11_fuse_meshes/raw_splat/*/*/mesh.ply"))) == 2
    assert (folder / "12_make_tables" / "report.html").is_file()


def test_the_stage_without_facelift_fails_with_the_remedy(photos, tmp_path, monkeypatch):
    monkeypatch.delenv("FACELIFT_DIR", raising=False)
    config = load_config(REPOSITORY / "configs" / "facelift.yaml")
    config.runs_dir, config.subjects.path, config.subjects.source = str(tmp_path / "runs"), str(tmp_path / "photos"), "facelift"
    with pytest.raises(RuntimeError, match=r"no FaceLift: neither \$FACELIFT_DIR"):
        reconstruct(config, jobs=1)
    assert not list((tmp_path / "runs").rglob("*.ply"))
