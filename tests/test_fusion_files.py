"""Mesh files: what other programs read back, units, bytes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh

from splathead import fusion
from splathead.fusion.surface import FusedMesh


@pytest.fixture
def mesh() -> FusedMesh:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=90.0)
    colours = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 3)).astype(np.uint8)
    return FusedMesh(np.float32(ball.vertices), np.int32(ball.faces), colours)


def glb_json(data: bytes) -> dict:
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])


def test_ply_reads_back_without_loss(mesh, tmp_path):
    fusion.save_mesh(tmp_path / "mesh.ply", mesh, scale="nominal")
    assert b"comment unit mm (nominal scale), axes +Y up +Z out of the face\n" in (tmp_path / "mesh.ply").read_bytes()[:300]
    loaded = fusion.load_mesh(tmp_path / "mesh.ply")
    for name in ("vertices", "faces", "colours"):
        assert np.array_equal(getattr(loaded, name), getattr(mesh, name)), name


def test_ply_without_colours(mesh, tmp_path):
    mesh.colours = None
    fusion.save_mesh(tmp_path / "mesh.ply", mesh, scale="metric")
    assert fusion.load_mesh(tmp_path / "mesh.ply").colours is None


def test_plyfile_reads_it(mesh, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    fusion.save_mesh(tmp_path / "mesh.ply", mesh, scale="metric")
    data = plyfile.PlyData.read(str(tmp_path / "mesh.ply"))
    assert np.array_equal(np.stack(list(data["face"]["vertex_indices"])), mesh.faces)
    assert np.array_equal(data["vertex"]["green"], mesh.colours[:, 1])


def test_glb_is_in_metres_with_linear_colours_and_unit_normals(mesh, tmp_path):
    fusion.save_mesh(tmp_path / "mesh.glb", mesh, scale="metric")
    loaded = trimesh.load(tmp_path / "mesh.glb", process=False, force="mesh")
    assert len(loaded.faces) == len(mesh.faces)
    assert np.allclose(loaded.vertices * 1000, mesh.vertices, atol=1e-3)
    encoded = mesh.colours / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    assert np.abs(loaded.visual.vertex_colors[:, :3] / 255 - linear).max() <= 0.5 / 255 + 1e-6
    tree = glb_json((tmp_path / "mesh.glb").read_bytes())
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "COLOR_0"} <= set(attributes)
    assert "unit m (metric scale)" in json.dumps(tree)
    assert np.allclose(np.linalg.norm(loaded.vertex_normals, axis=1), 1, atol=1e-4)


def test_obj_has_colours_and_a_header(mesh, tmp_path):
    fusion.save_mesh(tmp_path / "mesh.obj", mesh, scale="metric")
    text = (tmp_path / "mesh.obj").read_text()
    assert text.startswith("# unit mm (metric scale), axes +Y up +Z out of the face")
    loaded = trimesh.load(tmp_path / "mesh.obj", process=False, force="mesh")
    assert len(loaded.faces) == len(mesh.faces)
    assert np.allclose(np.sort(loaded.vertices, axis=0), np.sort(mesh.vertices, axis=0), atol=1e-3)
    assert len(next(line for line in text.splitlines() if line.startswith("v ")).split()) == 7


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_same_mesh_same_bytes(mesh, tmp_path, suffix):
    for name in ("a", "b"):
        fusion.save_mesh(tmp_path / f"{name}.{suffix}", mesh, scale="metric")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_unknown_format_and_scale_are_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"'\.stl', expected one of \.ply, \.obj, \.glb"):
        fusion.save_mesh(tmp_path / "mesh.stl", mesh, scale="metric")
    with pytest.raises(ValueError, match="expected 'metric' or 'nominal'"):
        fusion.save_mesh(tmp_path / "mesh.ply", mesh, scale="cm")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="no such mesh"):
        fusion.load_mesh(tmp_path / "mesh.ply")
