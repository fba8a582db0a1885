"""The HTML page: self-contained, its pictures and meshes right, and it works in a real browser where there is one."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from browser import browse
from conftest import REPOSITORY
from synthetic_run import make_run, write_result_files
from test_fusion_stage import tiny_config

from splathead.config import Config, load_config
from splathead.fusion import FusedMesh
from splathead.fusion.stage import fuse_item, list_items
from splathead.images import write_json
from splathead.metrics.surface import Surface
from splathead.report import panels
from splathead.report.build import build_run_report
from splathead.report.viewer import ViewerMesh, viewer_json, viewer_subject
from splathead.samples import stage_folder


def script(path: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "scripts" / "12_make_tables.py"), "--config", str(path), *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Config]:
    """A finished tiny run up to stage 11."""
    path = tiny_config(tmp_path_factory.mktemp("report"))
    config = load_config(path)
    make_run(config, subjects=3, subdivisions=5)
    for item in [item for item in list_items(config) if "head_001" in item]:
        (stage_folder(config, 11) / item).mkdir(parents=True)
        fuse_item(config, item, stage_folder(config, 11) / item)
    write_result_files(config)
    record = {"state": "done", "fingerprint": "synthetic11", "stage": "11_fuse_meshes", "seconds": 3.0, "peak_memory_mib": 99.0}
    write_json(stage_folder(config, 11) / "stage.json", record)
    return path, config


@pytest.fixture(scope="module")
def page(run) -> str:
    result = script(run[0])
    assert result.returncode == 0, result.stderr[-3000:]
    return (stage_folder(run[1], 12) / "report.html").read_text()


def test_page_is_self_contained(page):
    outside = re.sub(r"http://www\.w3\.org/\S+", "", page)
    assert "http://" not in outside and "https://" not in outside and "//cdn" not in outside
    assert not re.search(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"'](?!data:)", page)
    assert "<link" not in page and "@import" not in page and "url(" not in re.sub(r"url\(#", "", page)
    assert "default-src 'none'" in page
    assert not re.search(r"\{\{\w+\}\}", page)


def test_page_has_what_it_promises(page):
    for key in ("maps", "meshes", "comparison", "cost", "reading"):
        assert f'<section id="{key}">' in page, key
    assert page.count("data-sample=") == 2
    for name in ("UNet", "bilinear + offset", "raw splat depth", "true mesh"):
        assert name in page, name
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert all("alt=" in image for image in re.findall(r"<img[^>]*>", page))
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page, flags=re.S)[1])
    assert [mesh["label"] for mesh in data["subjects"][0]["meshes"]] == ["raw splat depth", "UNet", "true mesh"]


def test_every_table_number_on_the_page_is_in_the_tables(run, page):
    folder = stage_folder(run[1], 12) / "tables"
    known = set(re.findall(r"−?\d+\.\d+", "\n".join(path.read_text() for path in folder.glob("*.md"))))
    cells = " ".join(re.findall(r"<td[^>]*>(.*?)</td>", page))
    shown = set(re.findall(r"−?\d+\.\d+", re.sub(r"<[^>]+>", " ", cells)))
    assert len(shown) > 100 and shown <= known
    cards = " ".join(re.findall(r"<strong[^>]*>(.*?)</strong>", page))
    assert set(re.findall(r"−?\d+\.\d+", cards)) <= known


def test_stage_is_done_once_and_files_are_the_same_when_made_again(run, page):
    folder = stage_folder(run[1], 12)
    files = [path for path in folder.rglob("*.*") if path.suffix in (".tex", ".md", ".pdf", ".png", ".html")]
    before = {path: path.read_bytes() for path in files}
    started = folder.joinpath("stage.json").read_bytes()
    assert script(run[0]).returncode == 0
    assert folder.joinpath("stage.json").read_bytes() == started
    build_run_report(run[1], folder)
    timings = {"timings.tex", "timings.md", "report.html"}
    assert all(path.read_bytes() == data for path, data in before.items() if path.name not in timings)
    assert {path.suffix for path in before} == {".tex", ".md", ".pdf", ".png", ".html"}


def test_without_results_the_error_says_what_to_run(tmp_path):
    path = tiny_config(tmp_path)
    result = script(path)
    assert result.returncode == 1 and "none of the stages" in result.stderr and "run_pipeline.py" in result.stderr


def test_samples_are_chosen_by_name_in_turn(run):
    config = load_config(run[0])
    config.report.views = 5
    chosen = [(sample.subject, sample.view) for sample in panels.choose_samples(config)]
    assert len(set(chosen)) == 5
    assert [subject for subject, _ in chosen[:4]] == ["head_001", "head_002", "head_001", "head_002"]
    assert chosen[0][1] != chosen[1][1]


def test_error_picture_shares_its_scale_and_sign(run):
    config = run[1]
    view = panels.load_view(config, panels.choose_samples(config)[0])
    assert view.target == "surface" and set(view.methods) == {"raw_splat", "bilinear", "bilinear_offset", "unet"}
    behind = np.where(view.truth > 0, view.truth + 1, 0)
    red, none = panels.error_picture(behind, view.truth, 2.0), panels.error_picture(view.truth, view.truth, 2.0)
    inside = view.truth > 0
    assert (red[inside][:, 0] > red[inside][:, 2]).all()
    assert (none[inside][:, :3] > 240).all()
    assert (red[~inside][:, 3] == 0).all()
    assert np.array_equal(panels.error_picture(behind + 9 * (behind > 0), view.truth, 2.0)[inside][0], [103, 0, 31, 255])
    assert 0.25 <= panels.nice_error_range([view]) <= 5


def test_data_uri_is_a_picture_of_bounded_size():
    picture = np.zeros((900, 300, 4), np.uint8)
    picture[100:200, 50:150] = (200, 30, 10, 255)
    kind, data = panels.data_uri(picture).split(",")
    assert kind == "data:image/webp;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == (640, 213, 4)
    assert np.abs(decoded[107, 71].astype(int) - [10, 30, 200, 255]).max() < 12 and decoded[5, 5, 3] == 0


def test_viewer_data_decodes_to_the_meshes():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    colours = np.tile(np.uint8([10, 200, 30]), (len(ball.vertices), 1))
    mesh = FusedMesh(np.float32(ball.vertices * 1.02), np.int32(ball.faces), colours)
    truth = Surface.build(ball.vertices, ball.faces)
    true_mesh = FusedMesh(np.float32(ball.vertices), np.int32(ball.faces))
    meshes = [ViewerMesh("</script>", mesh, truth), ViewerMesh("true", true_mesh)]
    text = viewer_json([viewer_subject("head", meshes, max_faces=500, error_range=4.0)])
    assert "</script>" not in text
    subject = json.loads(text)["subjects"][0]
    packed = subject["meshes"][0]
    raw = {key: base64.b64decode(packed[key]) for key in ("positions", "colours", "errors", "indices")}
    vertices = np.frombuffer(raw["positions"], "<u2").reshape(-1, 3) / 65535 * subject["size"] + subject["corner"]
    faces = np.frombuffer(raw["indices"], "<u2").reshape(-1, 3)
    assert 250 < len(faces) <= 500 and faces.max() == len(vertices) - 1
    assert np.abs(np.linalg.norm(vertices, axis=1) - 102).max() < 4
    assert np.array_equal(np.frombuffer(raw["colours"], np.uint8).reshape(-1, 3), colours[: len(vertices)])
    errors = (np.frombuffer(raw["errors"], np.uint8) / 255 - 0.5) * 2 * 4
    assert -3 < np.median(errors) < -1.5  # 2 mm outside is negative
    assert subject["meshes"][1]["errors"] is None


PROBE = """<script>
window.onerror = (message) => { document.title = "ERROR " + message; };
setTimeout(() => {
  const canvas = document.querySelector("#viewer canvas"), gl = canvas.getContext("webgl2");
  for (const button of document.querySelectorAll("button")) button.click();
  document.querySelector("#maps .pane").click();
  requestAnimationFrame(() => {
    const pixels = new Uint8Array(4 * canvas.width * canvas.height);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let drawn = 0;
    for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0;
    if (document.title.startsWith("ERROR")) return;
    document.title = `DONE ${drawn} of ${canvas.width * canvas.height} GLERROR ${gl.getError()}`;
  });
}, 300);
</script></body>"""


@pytest.mark.slow
def test_viewer_draws_in_a_browser(page, tmp_path):
    (tmp_path / "probe.html").write_text(page.replace("</body>", PROBE))
    title = browse(f"file://{tmp_path / 'probe.html'}", tmp_path)
    drawn = re.fullmatch(r"DONE (\d+) of (\d+) GLERROR 0", title)
    assert drawn, title
    assert 0.05 < int(drawn[1]) / int(drawn[2]) < 0.95
