"""The viewer: what its server gives away, and that a real browser draws the Gaussians as our rasteriser does."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh
from browser import browse
from conftest import REPOSITORY
from result_folders import head_gaussians, make_result

from splathead.cameras import Camera
from splathead.gaussians import SH_C0, Gaussians, quaternion_to_matrix
from splathead.ply import save_gaussians_ply
from splathead.raster.render import render
from splathead.result_view.splats import PACKED, load_visible_splats, packed_splats
from splathead.result_view.viewer_page import ViewerHandler, ViewerSite, site_labels
from splathead.web import Server


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = make_result(tmp_path_factory.mktemp("viewer") / "out")
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "private.txt").write_text("not part of the result")
    return folder


@pytest.fixture(scope="module")
def site(out) -> ViewerSite:
    return ViewerSite.build(out)


@pytest.fixture
def serving():
    """Starts servers, and ends them."""
    servers = []

    def start(site: object, handler=ViewerHandler) -> Server:
        server = Server("127.0.0.1", 0, handler, site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_server_gives_the_page_its_data_and_the_results_files(site, out, serving):
    server = serving(site)
    assert server.local_only and server.server_address[0] == "127.0.0.1"
    status, page = ask(server, "/")
    assert status == 200 and b'data-source="viewer.json"' in page and b"connect-src 'self'" in page
    assert json.loads(ask(server, "/viewer.json")[1])["subjects"][0]["name"] == "head.ply"
    assert ask(server, "/splats.bin")[1] == site.splats and len(site.splats) == 32 * len(head_gaussians())
    for name in ("mesh.glb", "depth.png", "depth.json", "result.json"):
        assert ask(server, f"/{name}") == (200, (out / name).read_bytes())
    assert ask(server, "/mesh.glb", "HEAD") == (200, b"")
    assert site_labels(site) == ["splats", "before", "enhanced"]


@pytest.mark.parametrize("path", [
    "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//etc/passwd", "/private.txt", "/./mesh.glb/..", "/mesh.glb/",
    "/C:/x", "/\\..\\secret.txt", "/views/../../secret.txt",
])  # fmt: skip
def test_server_gives_nothing_else(site, serving, path):
    status, body = ask(serving(site), path)
    assert (status, b"secret" in body) == (404, False) or (path == "/mesh.glb/" and status == 404)


def test_server_refuses_other_sites(site, serving):
    server = serving(site)
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host="localhost:1")[0] == 200 and ask(server, "/", Host="[::1]:1")[0] == 200
    assert ask(server, "/", "POST")[0] == 403 and ask(server, "/", "POST", **{"X-SplatHead": "1"})[0] == 405
    assert ask(server, "/", "PUT")[0] == 501


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    folder = make_result(tmp_path / "out", size=96)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "rgb.png").unlink()
    (folder / "rgb.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="outside of the folder"):
        ViewerSite.build(folder)


def test_a_port_in_use_gets_one_sentence(site, serving):
    port = serving(site).server_address[1]
    with pytest.raises(OSError, match="choose another --port"):
        Server("127.0.0.1", port, ViewerHandler, site)


def test_script_explains_a_folder_that_is_no_result(tmp_path):
    command = [sys.executable, str(REPOSITORY / "scripts" / "21_view.py"), str(tmp_path), "--no_browser"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert result.returncode == 1 and "no result.json in it, expected the --out folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_packed_splats_hold_the_gaussians():
    gaussians = head_gaussians()
    packed = np.frombuffer(packed_splats(gaussians), PACKED)
    assert PACKED.itemsize == 32 and len(packed) == len(gaussians)
    assert np.array_equal(packed["position"], gaussians.means.numpy())
    colours = np.clip(gaussians.sh[:, 0].numpy() * SH_C0 + 0.5, 0, 1)
    assert np.abs(packed["rgba"][:, :3] / 255 - colours).max() <= 0.5 / 255 + 1e-6
    assert np.abs(packed["rgba"][:, 3] / 255 - gaussians.opacities.numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.abs(packed["scale"] / gaussians.scales.numpy() - 1).max() < 1e-3
    turned = quaternion_to_matrix(torch.from_numpy(packed["rotation"] / np.float32(32767)))
    assert (turned - gaussians.rotations).abs().max() < 2e-4


def test_only_the_most_visible_splats_are_shown(tmp_path):
    gaussians = head_gaussians()
    gaussians.opacity_logits[::2] = -20  # invisible
    gaussians.log_scales[1] += 5
    save_gaussians_ply(tmp_path / "splats.ply", gaussians)
    shown, label = load_visible_splats(tmp_path / "splats.ply")
    assert len(shown) == len(gaussians) // 2 and label == "splats"
    few, label = load_visible_splats(tmp_path / "splats.ply", max_shown=10)
    assert label == f"the 10 most visible of {len(shown):,} splats"
    assert len(few) == 10 and torch.equal(few.means[0], gaussians.means[1])


PROBE = """<script>
window.onerror = (message) => { document.title = "ERROR " + message; };
const frame = () => new Promise((done) => requestAnimationFrame(done));
const probe = async () => {
  while (!window.viewerState) await new Promise((done) => setTimeout(done, 50));
  const { state, matrices, redraw } = window.viewerState, canvas = document.querySelector("#viewer canvas"), views = [];
  for (const settings of SETTINGS) {
    Object.assign(state, settings, { hidden: new Set(settings.hidden) });
    redraw();
    await frame();
    const { view, half } = matrices(canvas.width / canvas.height);
    const png = canvas.toDataURL("image/png").split(",")[1];
    views.push({ view: [...view], half, width: canvas.width, height: canvas.height, png });
  }
  const error = canvas.getContext("webgl2").getError();
  if (!document.title.startsWith("ERROR")) document.title = "DONE " + JSON.stringify({ error, views });
};
probe();
</script></body>"""
SETTINGS = [
    {"yaw": 0.4, "pitch": 0.2, "zoom": 1.0, "x": 0.1, "y": 0.0, "mode": 0, "hidden": ["before", "enhanced"]},
    {"yaw": -2.2, "pitch": -0.5, "zoom": 4.0, "x": 0.0, "y": 0.3, "mode": 2, "hidden": ["before", "enhanced"]},
    {"yaw": 0.7, "pitch": 0.3, "zoom": 1.0, "x": 0.0, "y": 0.0, "mode": 0, "hidden": ["splats", "before"]},
]


@pytest.fixture(scope="module")
def drawn(site, tmp_path_factory) -> list[tuple[Camera, np.ndarray]]:
    """For each of SETTINGS the camera of the viewer and what a browser drew, [H, W, 3] in 0..1 over white."""
    probe = PROBE.replace("SETTINGS", json.dumps(SETTINGS))
    server = Server("127.0.0.1", 0, ViewerHandler, dataclasses.replace(site, page=site.page.replace("</body>", probe)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        title = browse(server.url, tmp_path_factory.mktemp("browser"))
    finally:
        server.shutdown()
        server.server_close()
    assert title.startswith("DONE "), title
    found = json.loads(title[5:])
    assert found["error"] == 0
    return [camera_and_picture(view) for view in found["views"]]


def camera_and_picture(found: dict) -> tuple[Camera, np.ndarray]:
    # WebGL's camera looks along -z, ours along +z
    pose = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.array(found["view"]).reshape(4, 4).T
    width, height = found["width"], found["height"]
    focal = height / (2 * found["half"])
    camera = Camera(width, height, focal, focal, width / 2, height / 2, pose)
    rgba = cv2.imdecode(np.frombuffer(base64.b64decode(found["png"]), np.uint8), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]] / 255
    return camera, rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_browser_draws_the_gaussians_as_our_rasteriser_does(drawn, index):
    camera, picture = drawn[index]
    gaussians = head_gaussians()
    if SETTINGS[index]["mode"] == 2:  # normals as colours
        normals = gaussians.shortest_axis_normals(torch.from_numpy(camera.position))
        turned = normals @ torch.from_numpy(camera.rotation.T * [1.0, -1.0, -1.0]).float()
        gaussians = dataclasses.replace(gaussians, sh=(0.5 * turned / SH_C0)[:, None])
    maps = render(gaussians, camera, outputs=("rgb",))
    expected = (maps.rgb + 1 - maps.alpha).numpy().transpose(1, 2, 0)
    error = np.abs(picture - expected).max(axis=2)
    assert (expected.min(axis=2) < 0.9).mean() > 0.1
    assert error.mean() < 2 / 255 and np.quantile(error, 0.99) < 12 / 255, (error.mean() * 255, np.quantile(error, 0.99) * 255)


@pytest.mark.slow
def test_browser_draws_the_mesh_where_it_is(drawn, out):
    camera, picture = drawn[2]
    mesh, small = trimesh.load(out / "mesh.ply", process=False), camera.resized(camera.width // 8, camera.height // 8)
    rays = small.ray_directions().reshape(-1, 3) @ small.rotation
    hit = mesh.ray.intersects_any(np.broadcast_to(small.position, rays.shape), rays).reshape(small.height, small.width)
    shown = cv2.resize(np.float32(picture.min(axis=2) < 0.98), (small.width, small.height), interpolation=cv2.INTER_AREA) > 0.5
    assert hit.mean() > 0.1 and (hit == shown).mean() > 0.98


def test_a_result_without_a_mesh_cannot_be_viewed(tmp_path):
    folder = make_result(tmp_path / "out", size=96)
    data = json.loads((folder / "result.json").read_text())
    data["files"] = {"depth": "depth.png"}
    (folder / "result.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="no mesh to look at"):
        ViewerSite.build(folder)


def test_huge_splats_stay_finite():
    turned, sizes = torch.tensor([[2.0, 0, 0, 0]]), torch.full((1, 3), 20.0)
    one = Gaussians(torch.zeros(1, 3), sizes, turned, torch.zeros(1), torch.zeros(1, 1, 3))
    packed = np.frombuffer(packed_splats(one), PACKED)[0]
    assert np.isfinite(packed["scale"]).all() and list(packed["rotation"]) == [32767, 0, 0, 0]
