"""Report and turntable of a result folder; folders that are none."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from browser import browse
from conftest import REPOSITORY
from result_folders import OFFSET_MM, head_gaussians, make_result

from splathead.cameras import orbit_camera
from splathead.fusion import FusedMesh, load_mesh
from splathead.images import load_depth_png, read_png
from splathead.maps.normals import normals_from_depth
from splathead.result_view import open_result, write_report
from splathead.result_view.meshes import load_meshes
from splathead.result_view.pictures import change_picture, load_front_view, nice_range, shaded_normals, shaded_picture
from splathead.result_view.report import draw_meshes, draw_pair, small_mesh
from splathead.result_view.sheet import HEADING_PX, HEADINGS, TILE_PX, results_sheet
from splathead.result_view.turntable import BACKGROUND, TurntableOptions, mesh_frames, turntable, turntable_cameras


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = make_result(tmp_path_factory.mktemp("view") / "out", understood=("axes: +Y up", "<script>alert(1)</script>"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(out) -> str:
    return (out / "report.html").read_text()


def change_json(folder: Path, **changes) -> None:
    path = folder / "result.json"
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))


def test_report_is_self_contained_and_escaped(page):
    assert "http://" not in page and "https://" not in page and "<link" not in page
    assert not re.search(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"'](?!data:)", page)
    assert "default-src 'none'; connect-src 'none'" in page and not re.search(r"\{\{\w+\}\}", page)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    for key in ("front", "meshes", "done", "files"):
        assert f'<section id="{key}">' in page


def test_report_is_the_same_again_and_depends_on_times_only_where_it_prints_them(out, page, tmp_path):
    again = make_result(tmp_path / "again", understood=("axes: +Y up", "<script>alert(1)</script>"))
    assert write_report(again).read_text() == page
    change_json(again, seconds={"render": 1.0, "fuse": 2.75})
    other = write_report(again).read_text()
    differing = [line for line, before in zip(other.splitlines(), page.splitlines(), strict=True) if line != before]
    assert 0 < len(differing) <= 2


def test_numbers_of_the_report_are_those_of_the_maps(out, page):
    after, before = load_depth_png(out / "depth.png"), load_depth_png(out / "depth_before.png")
    both = after.mask & before.mask
    median = np.median(np.abs(after.depth[both].astype(float) - before.depth[both]))
    assert abs(median - OFFSET_MM) < 0.1
    assert f"<strong>{median:.3g} mm</strong>" in page
    assert "<strong>3.8 s</strong>" in page and "12.3 mm across" in page and "2 holes" in page
    assert "1.25 s" in page and "33%" in page


def test_pictures_of_the_slider_are_both_maps(out, page):
    slider = re.search(r'data-layer="shaded">(.*?)</div></div>', page, flags=re.S)[1]
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
                for data in re.findall(r'src="data:image/webp;base64,([^"]+)"', page)]  # fmt: skip
    view = load_front_view(open_result(out))
    assert slider.count("<img") == 2 and len(pictures) == 8  # shaded and depth twice, change, colour, normals, confidence
    expected = [cv2.cvtColor(shaded_picture(depth, view.camera), cv2.COLOR_RGBA2BGRA) for depth in (view.after, view.before)]
    inside = (expected[0][..., 3] == 255) & (expected[1][..., 3] == 255)
    error = [[np.abs(picture[inside].astype(int) - other[inside]).mean() for other in expected] for picture in pictures[:2]]
    assert max(error[0][0], error[1][1]) < 3 and min(error[0][1], error[1][0]) > max(error[0][0], error[1][1])


def test_normals_are_shown_as_the_viewer_shows_them(page):
    data = re.findall(r'src="data:image/webp;base64,([^"]+)" alt="Normals', page)[0]
    bgra = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED).astype(int)
    known = bgra[..., 3] > 0
    height, width = known.shape
    assert bgra[known][:, 0].min() > 120  # all face the camera: blue
    above, below = bgra[: height // 4][known[: height // 4]], bgra[-height // 4 :][known[-height // 4 :]]
    left, right = bgra[:, : width // 4][known[:, : width // 4]], bgra[:, -width // 4 :][known[:, -width // 4 :]]
    assert above[:, 1].mean() > 160 > 100 > below[:, 1].mean() and right[:, 2].mean() > 160 > 100 > left[:, 2].mean()
    assert not known.all()


def test_change_is_blue_where_the_surface_came_forward(out):
    change = load_front_view(open_result(out)).change
    assert np.nanmedian(change) < -1  # nearer than before
    picture = change_picture(change, nice_range(change))
    known = np.isfinite(change)
    assert (picture[known & (change < -1)][:, 2] > picture[known & (change < -1)][:, 0]).all()
    assert (picture[~known][:, 3] == 0).all() and (picture[known][:, 3] == 255).all()
    assert nice_range(np.array([0.03, np.nan, -0.0301])) == pytest.approx(0.05) and nice_range(np.zeros(3)) == 0.1


def test_shading_follows_the_lights():
    facing, away = shaded_normals(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    assert facing.min() > 2 * away.max()
    left, right = shaded_normals(np.array([[-0.8, 0.0, 0.6], [0.8, 0.0, 0.6]]))
    assert left.mean() > right.mean()  # the key light comes from the upper left
    camera = orbit_camera(0, size=64)
    wall = shaded_picture(np.full((64, 64), 400.0, np.float32), camera)
    assert np.abs(wall[32, 32, :3] / 255 - facing).max() < 0.01
    normals, _ = normals_from_depth(np.full((64, 64), 400.0), np.ones((64, 64), bool), camera, jump=1.0)
    assert normals[32, 32, 2] < 0  # camera axes: towards the camera is negative z


def test_meshes_are_coloured_by_their_distance_in_one_direction(out, page):
    subject = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page, flags=re.S)[1])["subjects"][0]
    assert [mesh["label"] for mesh in subject["meshes"]] == ["before", "enhanced"]
    limit = load_meshes(open_result(out)).change_range
    # the surface moved outwards, by the offset times the cosine of the angle that it is seen under: negative in both
    for mesh in subject["meshes"]:
        distance = (np.frombuffer(base64.b64decode(mesh["errors"]), np.uint8) / 255 - 0.5) * 2 * limit
        assert -OFFSET_MM < np.median(distance) < -0.5 * OFFSET_MM


def test_meshes_made_small_beforehand_are_drawn_the_same(out):
    pair = load_meshes(open_result(out))
    small = (small_mesh(pair.after), small_mesh(pair.before))
    assert draw_pair("a head", "mm", pair.after, pair.before, small) == draw_meshes("a head", "mm", pair)
    other = (small[0], replace(small[1], vertices=small[1].vertices + 1))
    assert draw_pair("a head", "mm", pair.after, pair.before, other) != draw_meshes("a head", "mm", pair)


def test_a_depth_only_result_has_a_report_too(out, tmp_path):
    folder = make_result(tmp_path / "out", size=96)
    change_json(folder, kind="depth", files={"depth": "depth.png"}, mesh={}, views=[], unit="scene", scale="nominal")
    page = write_report(folder).read_text()
    assert '<section id="meshes">' not in page and "data-slider>" not in page and '<section id="front">' in page


def test_one_view_is_no_views(out, tmp_path):
    folder = make_result(tmp_path / "out", size=96)
    change_json(folder, views=[{"name": "front", "yaw_deg": 0.0}])
    (folder / "views").mkdir(exist_ok=True)
    for path in folder.glob("views/*.png"):
        path.unlink()
    shutil.copy(folder / "depth.png", folder / "views" / "front.png")
    page = write_report(folder).read_text()
    assert ", 1 view; its size" in page and "enhanced depth of 1 view<" in page


@pytest.mark.parametrize(("changes", "message"), [
    ({"schema": 2}, "schema 2, expected 1"), ({"kind": "video"}, "kind 'video', expected one of splats"),
    ({"unit": "m"}, "unit 'm', expected one of mm, scene"), ({"seconds": {"fuse": -1}}, "expected a number from 0"),
    ({"files": {"depth": "../secret.png"}}, "outside of the folder"), ({"files": {"depth": "no.png"}}, "is missing"),
    ({"files": {"mesh_ply": "rgb.png"}}, "not a readable mesh"), ({"files": []}, "result.json"),
    ({"files": {"depth": "depth.png", "depth_before": "small.png"}}, "expected the same view"),
])  # fmt: skip
def test_a_damaged_result_gets_one_sentence(tmp_path_factory, out, changes, message):
    folder = tmp_path_factory.mktemp("damaged")
    for path in out.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    small = orbit_camera(0, size=64)
    from splathead.images import DepthEncoding, DepthMap, save_depth_png

    depth = np.full((64, 64), 400, np.float32)
    save_depth_png(folder / "small.png", DepthMap(depth, depth > 0, DepthEncoding(300, 500, 16, "mm"), small, "test"))
    change_json(folder, **changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report(folder)


def test_what_is_no_result_gets_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_result(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no result\.json in it, expected the --out folder"):
        open_result(tmp_path)
    for text in ("{", "[]", '{"schema": 1}', '{"schema": NaN}'):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(ValueError, match=r"result\.json: "):
            open_result(tmp_path)


def read_video(path: Path) -> tuple[dict, list[np.ndarray]]:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


def test_turntable_shows_the_mesh_and_the_splats_turning(out, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    mesh, options = load_mesh(out / "mesh.ply"), TurntableOptions(frames=6, size=96, fps=12)
    about, frames = read_video(turntable(mesh, tmp_path / "t.mp4", head_gaussians(), options=options))
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p") and about["fps"] == 12
    assert len(frames) == 6 and frames[0].shape == (96, 192, 3)
    low, high = frames[0].min(axis=2), 241
    shown = [(pane < high - 25).mean() for pane in (low[:, :96], low[:, 96:])]
    assert all(0.2 < share < 0.8 for share in shown) and abs(shown[0] - shown[1]) < 0.1
    noses = [(frame[30:60, :96] < 200).all(2).sum(axis=0).nonzero()[0] for frame in frames]
    assert len({(int(columns.min()), int(columns.max())) for columns in noses}) > 2  # it turns
    # against an independent renderer's silhouette
    ray_mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    camera = turntable_cameras(mesh.vertices, options)[1]
    rays = camera.ray_directions().reshape(-1, 3) @ camera.rotation
    hit = ray_mesh.ray.intersects_any(np.broadcast_to(camera.position, rays.shape), rays).reshape(96, 96)
    drawn = frames[1][:, :96].min(axis=2) < high - 10
    assert (hit == drawn).mean() > 0.98


def test_the_film_shows_the_whole_head_beside_a_part_of_its_mesh(out, tmp_path):
    """The mesh of one view is its front: framed by it alone the Gaussians were cut off."""
    pytest.importorskip("imageio_ffmpeg")
    mesh = load_mesh(out / "mesh.ply")
    small = FusedMesh(mesh.vertices * np.float32(0.3), mesh.faces)
    _, frames = read_video(turntable(small, tmp_path / "t.mp4", head_gaussians(), options=TurntableOptions(frames=4, size=96)))
    for frame in frames:
        pane = frame[:, 100:]  # beside the border, which compression blurs
        assert all(edge.min() > 241 - 25 for edge in (pane[:3], pane[-3:], pane[:, :3], pane[:, -3:]))


def test_the_film_is_drawn_by_the_backend_that_was_asked_for(out, tmp_path, monkeypatch):
    asked, raster_render = [], importlib.import_module("splathead.raster.render")
    render = raster_render.render

    def on_cpu(*arguments, backend, **options):
        asked.append(backend)
        return render(*arguments, backend="cpu", **options)

    monkeypatch.setattr(raster_render, "render", on_cpu)
    options = TurntableOptions(frames=2, size=32)
    turntable(load_meshes(open_result(out)).after, tmp_path / "film.mp4", head_gaussians(), options=options, backend="inria")
    assert asked == ["inria"] * 2


def test_turntable_cameras_see_everything():
    rng = np.random.default_rng(0)
    for stretch in ([30, 150, 20], [200, 60, 90], [1, 1, 1]):
        points = rng.uniform(-1, 1, (400, 3)) * stretch + [50, -20, 10]
        cameras = turntable_cameras(points, TurntableOptions(frames=12, size=64))
        pixels = np.stack([camera.project(points)[0] for camera in cameras])
        assert pixels.min() > 0 and pixels.max() < 64
        assert np.ptp(pixels.reshape(-1, 2), axis=0).max() > 40
        assert all(np.allclose(np.linalg.det(camera.rotation), 1) for camera in cameras)
    assert cameras[0].position[2] > cameras[6].position[2]  # the first one looks at the face


def test_turntable_refuses_and_explains(out, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="even size"):
        TurntableOptions(size=97)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="pip install imageio-ffmpeg"):
        turntable(load_mesh(out / "mesh.ply"), tmp_path / "t.mp4", options=TurntableOptions(frames=1, size=32))
    assert not list(tmp_path.iterdir())


PROBE = """<script>
window.onerror = (message) => { document.title = "ERROR " + message; };
setTimeout(() => {
  const range = document.querySelector("[data-slider] input"), canvas = document.querySelector("#viewer canvas");
  range.value = 20; range.dispatchEvent(new Event("input"));
  const cut = getComputedStyle(document.querySelector("[data-slider] .over")).clipPath;
  for (const button of document.querySelectorAll("button[data-set]")) button.click();
  const layers = [...document.querySelectorAll("#maps > .front [data-layer]:not([hidden])")].map((part) => part.dataset.layer);
  for (const button of document.querySelectorAll("button[data-mode]")) button.click();
  requestAnimationFrame(() => {
    const gl = canvas.getContext("webgl2"), pixels = new Uint8Array(4 * canvas.width * canvas.height);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let blue = 0, drawn = 0;
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3]) { drawn++; blue += pixels[i + 2] > pixels[i]; }
    const shares = `${drawn / canvas.width / canvas.height} ${blue / drawn}`;
    if (!document.title.startsWith("ERROR")) document.title = `DONE ${layers} ${cut} ${shares} ${gl.getError()}`;
  });
}, 300);
</script></body>"""


@pytest.mark.slow
def test_report_works_in_a_browser(page, tmp_path):
    (tmp_path / "probe.html").write_text(page.replace("</body>", PROBE))
    title = browse(f"file://{tmp_path / 'probe.html'}", tmp_path)
    found = re.fullmatch(r"DONE change (inset\(.*\)) ([\d.]+) ([\d.]+) 0", title)
    assert found, title
    assert "80%" in found[1] or "100% - 20%" in found[1]
    assert 0.1 < float(found[2]) < 0.9 and float(found[3]) > 0.7  # the surface moved outwards


def test_a_sheet_has_a_row_for_each_result(out, tmp_path):
    plain = shutil.copytree(out, tmp_path / "plain")
    files = json.loads((plain / "result.json").read_text())["files"]
    change_json(plain, files={role: name for role, name in files.items() if role != "rgb"})
    sheet = results_sheet([out, plain])
    assert sheet.shape == (HEADING_PX + 2 * TILE_PX, len(HEADINGS) * TILE_PX, 3) and sheet.dtype == np.uint8
    headings = sheet[:HEADING_PX].reshape(HEADING_PX, len(HEADINGS), TILE_PX, 3)
    assert (headings.min(axis=(0, 2, 3)) < 100).all() and (headings[0] == BACKGROUND).all()
    rows = sheet[HEADING_PX:].reshape(2, TILE_PX, len(HEADINGS), TILE_PX, 3).swapaxes(1, 2)
    assert (rows[1, 0] == BACKGROUND).all() and np.array_equal(rows[1, 1:], rows[0, 1:])  # no colours, all else the same

    view = load_front_view(open_result(out))
    (height, width), inside = view.after.shape, view.after > 0
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    pictures = [read_png(out / "rgb.png", channels=3, bits=8)[view.box]]
    pictures += [shaded_picture(depth, view.camera) for depth in (view.before, view.after)]
    for tile, picture in zip(rows[0], pictures):
        seen = inside if picture.shape[-1] == 3 else picture[..., 3] == 255
        shown = tile[top : top + height, left : left + width]
        assert np.array_equal(shown[seen], picture[seen][:, :3]) and (shown[~seen] == BACKGROUND).all()
    mesh = load_mesh(out / "mesh.ply")
    camera = turntable_cameras(mesh.vertices, TurntableOptions(frames=12, size=TILE_PX))[1]  # 30 degrees from the front
    assert np.array_equal(rows[0, 3], next(mesh_frames(mesh, [camera])))
    assert (rows[0, 3, 0, 0] == BACKGROUND).all() and (rows[0, 3] != BACKGROUND).any(-1).mean() > 0.2


def test_the_script_writes_the_sheet(out, tmp_path):
    picture = tmp_path / "heads.png"
    command = [sys.executable, str(REPOSITORY / "scripts" / "23_picture.py"), str(out), "--out", str(picture)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.endswith("heads.png: 1 row\n")
    assert np.array_equal(read_png(picture, channels=3, bits=8), results_sheet([out]))
    command[-1] = str(tmp_path / "heads.jpg")
    wrong = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert wrong.returncode == 2 and "heads.jpg: expected the name of a PNG file" in wrong.stderr


def test_a_sheet_of_half_a_result_names_what_is_missing(out, tmp_path):
    folder = shutil.copytree(out, tmp_path / "out")
    change_json(folder, files={"depth": "depth.png", "depth_before": "depth_before.png"})
    with pytest.raises(ValueError, match=r"out: no mesh.ply in it, expected the whole result of scripts/20_enhance_head.py"):
        results_sheet([folder])
