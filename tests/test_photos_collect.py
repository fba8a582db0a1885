"""Stage 01 from a folder or a Kaggle set of photos, and stage 02 behind it with a fake FaceLift."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import skimage.data
from conftest import REPOSITORY
from PIL import Image
from test_facelift import FAKE_INFERENCE

from splathead.config import Config
from splathead.images import read_png
from splathead.photos.collect import collect_photos, kept_photos
from splathead.photos.sources import download_kaggle, list_photos, locate_photos
from splathead.preflight import check_inputs
from splathead.reconstruction import reconstruct
from splathead.samples import list_subjects, stage_folder, subject_info


@pytest.fixture(scope="module")
def portrait():
    """A real face in front of one grey, public domain (NASA)."""
    return cv2.resize(skimage.data.astronaut()[:330, 80:380], (330, 363), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def album(portrait, tmp_path):
    """A folder as people have them: two people, copies of all kinds, and what is no portrait."""
    folder = tmp_path / "album"
    (folder / "trip" / "more").mkdir(parents=True)
    Image.fromarray(portrait).save(folder / "ada lovelace.png")
    (folder / "trip" / "again.png").write_bytes((folder / "ada lovelace.png").read_bytes())
    Image.fromarray(portrait).resize((304, 334)).save(folder / "trip" / "more" / "mail.jpg", quality=70)
    mirrored = Image.fromarray(np.ascontiguousarray(portrait[:, ::-1]))  # for the filter: somebody else
    exif = Image.Exif()
    exif[0x0112] = 6
    mirrored.transpose(Image.Transpose.ROTATE_90).save(folder / "trip" / "phone.jpg", exif=exif, quality=97)
    Image.fromarray(cv2.GaussianBlur(portrait, (0, 0), 5)).save(folder / "blurred.webp")
    Image.fromarray(np.hstack([portrait, portrait[:, ::-1]])).save(folder / "both.bmp")
    Image.fromarray(skimage.data.coffee()[:200, :200]).save(folder / "coffee.png")
    (folder / "broken.jpg").write_bytes((folder / "ada lovelace.png").read_bytes()[:5000])
    (folder / "list.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(b"not looked at")
    return folder


def config_for(path, tmp_path) -> Config:
    config = Config(name="photos", runs_dir=str(tmp_path / "runs"))
    config.subjects.source, config.subjects.path = "photos", str(path)
    config.subjects.map_yaws, config.subjects.map_size = [-30.0, 0.0], 64
    config.reconstruct.source = "facelift"
    return config


def snapshot(folder) -> dict:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_is_sorted_into_kept_and_dropped_with_reasons(album, tmp_path):
    config, before = config_for(album, tmp_path), snapshot(album)
    lines = collect_photos(config, jobs=1)
    assert snapshot(album) == before
    folder = stage_folder(config, 1)
    with (folder / "photos.csv").open() as stream:
        rows = {row["photo"]: row for row in csv.DictReader(stream)}
    reasons = {photo: row["reason"] for photo, row in rows.items() if row["verdict"] == "dropped"}
    assert sorted(photo for photo, row in rows.items() if row["verdict"] == "kept") == ["ada lovelace.png", "trip/phone.jpg"]
    assert reasons["trip/again.png"] == "duplicate of ada lovelace.png, byte for byte"
    assert reasons["trip/more/mail.jpg"].startswith("near duplicate of ada lovelace.png: ")
    assert reasons["blurred.webp"].startswith("blur of the face 0.") and "expected at most 0.8" in reasons["blurred.webp"]
    assert reasons["both.bmp"].startswith("large faces 2, expected 1")
    assert reasons["coffee.png"] == "no face found"
    assert reasons["broken.jpg"].startswith("not a readable photo: ")
    assert set(rows) == set(reasons) | {"ada lovelace.png", "trip/phone.jpg"} and len(rows) == 8
    assert float(rows["ada lovelace.png"]["frontality"]) > 0.9 and len(rows["coffee.png"]["sha256"]) == 64
    text = "\n".join(lines)
    assert "2 of 8 photos kept" in text and "left alone, no photos: .txt (1)" in text and "photos.csv" in text
    assert "dropped coffee.png: no face found" in text and "near duplicate (1)" in text and "faces (2)" in text

    assert list(kept_photos(config)) == ["ada_lovelace", "trip_phone"]
    photo, record = read_png(folder / "trip_phone/photo.png", channels=3, bits=8), folder / "trip_phone/photo.json"
    canvas, info = read_png(folder / "trip_phone/canvas.png", channels=3, bits=8), json.loads(record.read_text())
    assert photo.shape[0] > 250 and canvas.shape == (512, 512, 3) and info["refusal"] == ""
    scale, offset = info["crop"]["scale"], info["crop"]["offset"]
    nose = np.array(info["face"]["landmarks"]["nose_tip"])
    np.testing.assert_allclose(scale * nose + offset, info["canvas_landmarks"]["nose_tip"])
    assert 200 < info["canvas_landmarks"]["nose_tip"][0] < 300 < info["canvas_landmarks"]["mouth_left"][1] < 380  # upright
    assert not (folder / "blurred/photo.png").exists() and json.loads((folder / "blurred/photo.json").read_text())["face"]


def test_a_second_run_looks_at_nothing_again_and_a_new_photo_at_everything(album, tmp_path, portrait):
    config = config_for(album, tmp_path)
    collect_photos(config, jobs=1, limit=2)
    made = snapshot(stage_folder(config, 1) / "ada_lovelace")
    assert len(list(stage_folder(config, 1).glob("*/photo.json"))) == 2
    lines = collect_photos(config, jobs=2)  # the others, by two processes
    assert snapshot(stage_folder(config, 1) / "ada_lovelace") == made and "2 of 8 photos kept" in "\n".join(lines)
    config.photos.frontality = 0.999  # another limit: everything is judged again
    assert "0 of 8 photos kept" in "\n".join(collect_photos(config, jobs=1))
    with pytest.raises(ValueError, match=r"photos\.csv: stage 01 kept no photo"):
        kept_photos(config)


def test_kept_photos_become_heads_by_facelift(album, tmp_path, monkeypatch):
    checkout = tmp_path / "FaceLift"
    checkout.mkdir()
    (checkout / "inference.py").write_text(FAKE_INFERENCE)
    monkeypatch.setenv("FACELIFT_DIR", str(checkout))
    monkeypatch.delenv("FACELIFT_PYTHON", raising=False)
    monkeypatch.delenv("FAKE_FACELIFT", raising=False)
    config = config_for(album, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"photos\.csv: no list of photos; run scripts/01_collect_heads\.py first"):
        kept_photos(config)
    collect_photos(config, jobs=1)
    (line,) = reconstruct(config, jobs=1)
    assert line.startswith("02_reconstruct_gaussians: 2 reconstructions")
    assert list_subjects(config) == ["ada_lovelace", "trip_phone"]
    info = subject_info(config, "trip_phone")
    assert (info["name"], info["source"], info["split"]) == ("trip_phone", "facelift", "test")
    given = read_png(stage_folder(config, 2) / "trip_phone/photo.png", channels=3, bits=8)  # the fake hands its input on
    np.testing.assert_array_equal(given, read_png(stage_folder(config, 1) / "trip_phone/photo.png", channels=3, bits=8))
    assert len(json.loads((checkout / "calls.json").read_text())) == 1


def test_the_script_and_its_flags(album, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(f"name: mine\nruns_dir: {tmp_path / 'runs'}\nphotos: {{face_px: 90.0}}\n")
    command = [sys.executable, str(REPOSITORY / "scripts/01_collect_heads.py"), "--config", str(config), "--jobs", "1"]
    command += ["--source", "photos", "--path", str(album / "ada lovelace.png"), "--photos.frontality", "0.999"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "dropped ada lovelace.png: frontality 0.9" in result.stdout and "0 of 1 photos kept" in result.stdout
    settings = json.loads((tmp_path / "runs/mine/01_collect_heads/stage.json").read_text())["settings"]
    assert settings["source"] == "photos"
    failed = subprocess.run([*command[:-4], "--path", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "none: no such photo or folder of photos" in failed.stderr


def test_names_of_photos(tmp_path):
    for name in ("00000/00001.png", "00000/00002.png", "a.v2.jpg", "same.jpg", "same.png", "x y.png", "x_y.png", "x/y.png",
                 "stage.json.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "raw.heic").touch()
    photos, others = list_photos(tmp_path)
    assert {name: str(path.relative_to(tmp_path)) for name, path in photos.items()} == {
        "00000_00001": "00000/00001.png", "00000_00002": "00000/00002.png", "a.v2": "a.v2.jpg", "same_jpg": "same.jpg",
        "same_png": "same.png", "x_y_png": "x/y.png", "x_y_png_2": "x y.png", "x_y_png_3": "x_y.png",
        "stage.json_2": "stage.json.png",
    }  # fmt: skip
    assert others == {".heic": 1}
    assert list_photos(tmp_path / "same.jpg")[0] == {"same": tmp_path / "same.jpg"}
    with pytest.raises(FileNotFoundError, match=r"no photo here but 1 other files, expected \.png"):
        list_photos(tmp_path / "raw.heic")


FAKE_KAGGLE = """#!{python}
import json, os, pathlib, sys, zipfile
pathlib.Path(os.environ["FAKE_KAGGLE_LOG"]).open("a").write(json.dumps(sys.argv[1:]) + "\\n")
if os.environ.get("FAKE_KAGGLE") == "fails":
    sys.exit("403 - Forbidden")
folder = pathlib.Path(sys.argv[sys.argv.index("-p") + 1]); folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
    archive.writestr("LICENSE.txt", "CC0")
    if os.environ.get("FAKE_KAGGLE") == "evil":
        archive.writestr("../../evil.png", b"x")
    for name in os.environ.get("FAKE_KAGGLE_PHOTOS", "").split():
        archive.write(name, "images/" + pathlib.Path(name).name)
"""


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Kaggle's client, played by a script that writes a zip as ``kaggle datasets download`` does; its log of calls."""
    program = tmp_path / "bin" / "kaggle"
    program.parent.mkdir()
    program.write_text(FAKE_KAGGLE.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_KAGGLE_LOG", str(tmp_path / "kaggle.log"))
    monkeypatch.setattr("splathead.photos.sources.sys.executable", str(tmp_path / "nowhere" / "python"))
    return tmp_path / "kaggle.log"


def test_a_kaggle_set_is_downloaded_once(kaggle, album, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_KAGGLE_PHOTOS", f"{album / 'coffee.png'} {album / 'trip/phone.jpg'}")
    config = config_for("kaggle:some-owner/faces", tmp_path)
    config.photos.download_dir = str(tmp_path / "downloads")
    check_inputs(config, [1])
    for _ in range(2):
        assert "1 of 2 photos kept" in "\n".join(collect_photos(config, jobs=1))
    calls = [json.loads(line) for line in kaggle.read_text().splitlines()]
    assert len(calls) == 1 and calls[0][:3] == ["datasets", "download", "some-owner/faces"]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["some-owner_faces"]
    files = sorted(str(path.relative_to(tmp_path / "downloads")) for path in (tmp_path / "downloads").rglob("*.*"))
    assert files == ["some-owner_faces/images/coffee.png", "some-owner_faces/images/phone.jpg"]


def test_kaggle_errors_are_sentences(kaggle, tmp_path, monkeypatch):
    target = tmp_path / "downloads"
    for wrong in ("faces", "a/b/c", "../x", "a b/c", "-x/y"):
        with pytest.raises(ValueError, match="expected kaggle:<owner>/<slug>"):
            download_kaggle(wrong, target)
    assert not kaggle.exists()
    monkeypatch.setenv("FAKE_KAGGLE", "fails")
    with pytest.raises(RuntimeError, match=r"kaggle:a/b: the kaggle client ended with exit code 1.*API token"):
        download_kaggle("a/b", target)
    monkeypatch.setenv("FAKE_KAGGLE", "evil")
    with pytest.raises(ValueError, match=r"'\.\./\.\./evil\.png' points out of the archive"):
        download_kaggle("a/b", target)
    monkeypatch.setenv("FAKE_KAGGLE", "")
    with pytest.raises(RuntimeError, match="kaggle:a/b: no photo in it"):
        download_kaggle("a/b", target)
    assert list(target.iterdir()) == [] and not list(tmp_path.rglob("evil.png"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="not installed: pip install kaggle"):
        locate_photos("kaggle:a/b", target)


def test_nothing_to_look_at(tmp_path):
    with pytest.raises(ValueError, match=r"subjects\.path is empty"):
        locate_photos("", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such photo or folder"):
        locate_photos(str(tmp_path / "none"), tmp_path)
    with pytest.raises(FileNotFoundError, match="no photo here but no file"):
        list_photos(tmp_path)
    config = config_for(tmp_path / "none", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"subjects\.path: .*none: no such file or folder, expected a photo"):
        check_inputs(config, [1])
