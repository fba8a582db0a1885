"""Scans: formats, orientation, scale, textures, bad files, and the Lee Perry-Smith head (where it is present)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import trimesh

from splathead.cameras import orbit_camera
from splathead.raycast import RayCaster
from splathead.subjects.scan import list_scans, load_scan

RED, GREEN = (200, 20, 20), (20, 200, 20)


def block() -> trimesh.Trimesh:
    """A 40 x 100 x 60 box (x, y, z), off centre."""
    box = trimesh.creation.box(extents=[40.0, 100.0, 60.0])
    box.apply_translation([7.0, -3.0, 11.0])
    return box.subdivide()


def panel() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A quad facing +Z with uv counted from the bottom, v = 1 at its top; every corner duplicated as exporters do."""
    corners = np.array([[-50.0, -50, 0], [50, -50, 0], [50, 50, 0], [-50, -50, 0], [50, 50, 0], [-50, 50, 0]])
    return corners, np.array([[0, 1, 2], [3, 4, 5]]), (corners[:, :2] + 50) / 100


def picture() -> PIL.Image.Image:
    """Red above, green below."""
    pixels = np.empty((16, 16, 3), np.uint8)
    pixels[:8], pixels[8:] = RED, GREEN
    return PIL.Image.fromarray(pixels)


def colours_above_and_below(path: Path, **options) -> tuple[np.ndarray, np.ndarray]:
    mesh = load_scan(path, **options)
    hits = RayCaster(mesh).cast(orbit_camera(0, 0, 40))
    height, albedo = hits.points_world()[:, 1], hits.albedo() * 255
    return albedo[(height > 10) & (height < 40)].mean(0), albedo[(height < -10) & (height > -40)].mean(0)


def write_panel(path: Path, image: PIL.Image.Image | None) -> Path:
    vertices, faces, uv = panel()
    if path.suffix == ".glb":
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    else:
        material = trimesh.visual.material.SimpleMaterial(image=image)
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    trimesh.Trimesh(vertices, faces, visual=visual, process=False).export(path)
    return path


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_formats_are_read_and_centred(tmp_path, suffix):
    path = tmp_path / f"head{suffix}"
    block().export(path)
    mesh = load_scan(path)
    np.testing.assert_allclose(mesh.extent_mm, [40, 100, 60], atol=1e-3)
    np.testing.assert_allclose(mesh.vertices.min(0) + mesh.vertices.max(0), 0, atol=1e-3)
    assert mesh.texture is None and mesh.attributes["texture"] == "none"
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight  # welded


@pytest.mark.parametrize(
    ("up", "front", "extent"),
    [("y", "z", (40, 100, 60)), ("z", "-y", (40, 60, 100)), ("x", "y", (60, 40, 100)), ("-y", "x", (60, 100, 40))],
)
def test_axes_and_size(tmp_path, up, front, extent):
    path = tmp_path / "head.ply"
    box = block()
    box.export(path)
    np.testing.assert_allclose(load_scan(path, up, front).extent_mm, extent, atol=1e-3)
    mesh = load_scan(path, up, front, size_mm=250.0)
    np.testing.assert_allclose(mesh.extent_mm, np.array(extent) * 250 / extent[1], rtol=1e-3)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0  # a rotation, never a mirror image


def test_the_front_axis_comes_to_face_the_camera(tmp_path):
    vertices, faces, _ = panel()
    nose = np.array([[0.0, 0, 30]])
    path = tmp_path / "head.ply"
    trimesh.Trimesh(np.vstack([vertices, nose])[:, [2, 0, 1]], np.vstack([faces, [[0, 1, 6]]]), process=False).export(path)
    mesh = load_scan(path, up="z", front="x")
    assert mesh.vertices[:, 2].argmax() == np.linalg.norm(mesh.vertices[:, :2], axis=1).argmin()


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textures_come_out_upright(tmp_path, suffix):
    above, below = colours_above_and_below(write_panel(tmp_path / f"head{suffix}", picture()))
    np.testing.assert_allclose(above, RED, atol=6)
    np.testing.assert_allclose(below, GREEN, atol=6)
    above, below = colours_above_and_below(tmp_path / f"head{suffix}", flip_v=True)
    np.testing.assert_allclose(above, GREEN, atol=6)
    vertex_red = load_scan(tmp_path / f"head{suffix}").colours[:, 0]
    assert vertex_red.shape == (4,)  # welded corners keep colours sampled from the texture


def test_an_image_beside_a_gltf_file_is_taken_bottom_up_and_named(tmp_path):
    write_panel(tmp_path / "head.glb", None)
    assert load_scan(tmp_path / "head.glb").attributes["texture"] == "none"
    picture().save(tmp_path / "Map-COL.png")
    picture().save(tmp_path / "normals.png")
    mesh = load_scan(tmp_path / "head.glb")
    assert mesh.attributes["texture"] == "Map-COL.png" and mesh.texture.shape == (16, 16, 3)
    above, _ = colours_above_and_below(tmp_path / "head.glb")
    np.testing.assert_allclose(above, GREEN, atol=6)  # the panel's uv follow glTF here, so such an image is upside down
    above, _ = colours_above_and_below(tmp_path / "head.glb", flip_v=True)
    np.testing.assert_allclose(above, RED, atol=6)


def test_vertex_colours_are_kept(tmp_path):
    box = block().subdivide().subdivide()
    box.visual.vertex_colors = np.where(box.vertices[:, 1:2] > -3, [[*RED, 255]], [[*GREEN, 255]]).astype(np.uint8)
    box.export(tmp_path / "head.ply")
    above, below = colours_above_and_below(tmp_path / "head.ply")
    np.testing.assert_allclose(above, RED, atol=2)
    np.testing.assert_allclose(below, GREEN, atol=2)


def test_bad_scans_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such scan"):
        load_scan(tmp_path / "nowhere.ply")
    (tmp_path / "head.fbx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"head\.fbx: file type '\.fbx', expected one of \.glb"):
        load_scan(tmp_path / "head.fbx")
    trimesh.PointCloud(np.random.default_rng(0).random((20, 3))).export(tmp_path / "cloud.ply")
    with pytest.raises(ValueError, match=r"cloud\.ply.*expected a surface"):
        load_scan(tmp_path / "cloud.ply")
    block().export(tmp_path / "whole.glb")
    (tmp_path / "torn.glb").write_bytes((tmp_path / "whole.glb").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"torn\.glb: not a readable glb mesh"):
        load_scan(tmp_path / "torn.glb")
    broken = block()
    broken.vertices[3] = np.nan
    broken.export(tmp_path / "nan.ply")
    with pytest.raises(ValueError, match=r"nan\.ply: vertices with NaN"):
        load_scan(tmp_path / "nan.ply")
    with pytest.raises(ValueError, match="parallel"):
        load_scan(tmp_path / "whole.glb", up="y", front="-y")
    with pytest.raises(ValueError, match="axis 'up', expected one of x, y, z"):
        load_scan(tmp_path / "whole.glb", up="up")


def test_scans_of_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no scan in this folder"):
        list_scans(tmp_path)
    for name in ("b.ply", "a.glb", "notes.txt", "texture.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_scans(tmp_path)] == ["a.glb", "b.ply"]
    assert list_scans(tmp_path / "b.ply") == [tmp_path / "b.ply"]
    with pytest.raises(FileNotFoundError, match="no such scan file or folder"):
        list_scans(tmp_path / "c")


def test_lee_perry_smith_has_his_brows_above_his_closed_eyes(shared_data):
    path = shared_data / "data" / "lee_perry_smith" / "LeePerrySmith.glb"
    if not path.is_file():
        pytest.skip(f"no {path}")
    mesh = load_scan(path, size_mm=330.0)
    assert mesh.attributes["texture"] == "Map-COL.jpg" and mesh.extent_mm[1] == pytest.approx(330, abs=0.01)
    hits = RayCaster(mesh).cast(orbit_camera(0, 0, 512))
    image = hits.to_map(hits.albedo())
    points = hits.to_map(hits.points_world())

    def tone(y_low: float, y_high: float, x_low: float, x_high: float) -> np.ndarray:
        x, y = np.abs(points[..., 0]), points[..., 1]
        return image[hits.mask & (y > y_low) & (y < y_high) & (x > x_low) & (x < x_high)].mean(0)

    lips, brows, forehead = tone(14, 22, 0, 10), tone(80, 86, 18, 35), tone(95, 115, 0, 30)
    assert brows.mean() < 0.8 * forehead.mean()
    assert lips[0] / lips[1] > 1.15 * forehead[0] / forehead[1]
