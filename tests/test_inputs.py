"""What an input is: each kind by its content, and one sentence for everything else."""

from __future__ import annotations

import gzip
import json
import zipfile

import imageio.v3 as iio
import numpy as np
import OpenEXR
import plyfile
import pytest
import splat_writers
import tifffile
import torch

from splathead.choices import KINDS
from splathead.depth_files import load_depth
from splathead.gaussians import Gaussians
from splathead.images import DepthEncoding, DepthMap, save_depth_png
from splathead.inputs import detect
from splathead.ply import save_gaussians_ply
from splathead.splat_files import load_splats


@pytest.fixture
def gaussians() -> Gaussians:
    normal = torch.randn(40, 11)
    return Gaussians(normal[:, :3], normal[:, 3:6], normal[:, 6:10], normal[:, 10], torch.ones(40, 1, 3))


def colours(height: int = 20, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_splats(tmp_path, gaussians):
    save_gaussians_ply(tmp_path / "1", gaussians)
    splat_writers.write_compressed_ply(tmp_path / "2", gaussians)
    (tmp_path / "3").write_bytes(splat_writers.dot_splat(gaussians))
    (tmp_path / "4").write_bytes(splat_writers.spz(gaussians, 3))
    (tmp_path / "5").write_bytes(splat_writers.spz(gaussians, 4))
    reasons = []
    for path in sorted(tmp_path.iterdir()):
        found = detect(path)
        assert found.kind == "splats" and len(load_splats(path)) == 40
        reasons.append(found.reason)
    expected = ["3DGS PLY with 40 Gaussians", "compressed SuperSplat PLY with 40 Gaussians", ".splat with 40 Gaussians"]
    assert reasons == [*expected, ".spz", ".spz"]


def test_depth(tmp_path):
    depth = np.linspace(1, 2, 480, dtype=np.float32).reshape(20, 24)
    save_depth_png(
        tmp_path / "sidecar.png",
        DepthMap(depth, depth > 0, DepthEncoding(1, 2, 8, "scene"), load_depth_camera(), "test"),
    )
    iio.imwrite(tmp_path / "16.png", (depth * 30000).astype(np.uint16))
    iio.imwrite(tmp_path / "8.png", (depth * 100).astype(np.uint8))
    iio.imwrite(tmp_path / "grey.png", np.dstack([(depth * 100).astype(np.uint8)] * 3))
    OpenEXR.File({}, {"Z": depth}).write(str(tmp_path / "a.exr"))
    np.save(tmp_path / "a.npy", depth)
    tifffile.imwrite(tmp_path / "a.tif", depth)
    found = {path.name: detect(path) for path in tmp_path.iterdir() if path.suffix != ".json"}
    assert len(found) == 7 and {entry.kind for entry in found.values()} == {"depth"}
    assert "sidecar.json" in found["sidecar.png"].reason and "16-bit" in found["16.png"].reason
    assert "grey" in found["grey.png"].reason and found["a.exr"].reason == "an EXR file"
    for name in found:
        given = () if name == "sidecar.png" else (1.0, 2.0, 50.0) if name.endswith(".png") else (None, None, 50.0)
        assert load_depth(tmp_path / name, *given).mask.all()


def load_depth_camera():
    from splathead.cameras import Camera

    return Camera(24, 20, 30.0, 30.0, 12.0, 10.0, np.eye(4), "c")


def test_photos_and_captures(tmp_path):
    iio.imwrite(tmp_path / "a.jpg", colours())
    iio.imwrite(tmp_path / "b.jpg", colours()[..., 0])  # a JPEG is never depth
    iio.imwrite(tmp_path / "c.png", colours())
    assert [detect(tmp_path / name).kind for name in ("a.jpg", "b.jpg", "c.png")] == ["photo"] * 3
    for name in ("opencv_cameras.json", "transforms.json", "sparse/0/cameras.txt"):
        folder = tmp_path / name.replace("/", "_")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
        (folder / name).with_name("images.txt").write_text("")
        assert detect(folder).kind == "capture"
    assert detect(tmp_path / "opencv_cameras.json").reason == "opencv_cameras.json"


def test_real_inputs(shared_data):
    data = shared_data / "data"
    kinds = {
        "lam_heads/james.ply": "splats", "facelift_sample/000.png": "photo", "facelift_sample/sample_000": "capture",
        "lee_perry_smith/Map-COL.jpg": "photo",
    }  # fmt: skip
    for name, kind in kinds.items():
        assert detect(data / name).kind == kind
    refuse(data / "lee_perry_smith/LeePerrySmith.glb", "a mesh")


def refuse(path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        detect(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and message.count(str(path)) == 1


def test_anything_else_is_one_sentence(tmp_path):
    files = {
        "empty.ply": (b"", "an empty file"), "a.glb": (b"glTF\2\0\0\0", "a mesh"), "a.obj": (b"v 0 0 0\n", "a mesh"),
        "a.stl": (b"solid head\n", "a mesh"), "a.mp4": (b"\0\0\0\x20ftypisom" + bytes(20), "a video"),
        "a.mkv": (b"\x1a\x45\xdf\xa3" + bytes(20), "a video"), "a.avi": (b"RIFF\0\0\0\0AVI LIST", "a video"),
        "a.heic": (b"\0\0\0\x20ftypheic" + bytes(20), "save the photo as PNG or JPEG"),
        "a.bin": (bytes(range(33)), "an unknown file"),
        "a.webp": (b"RIFF\0\0\0\0WEBPVP8 ", "save the photo as PNG or JPEG"), "a.gif": (b"GIF89a", "save the photo"),
        "a.ksplat": (b"\0\1" + bytes(30), "export it as PLY"), "a.sog": (b"PK\3\4" + bytes(30), "export it as PLY"),
        "a.npz": (b"PK\3\4" + bytes(30), "an archive"), "a.txt.gz": (gzip.compress(b"hello"), "an archive"),
        "cut.spz": (gzip.compress(b"hello")[:12], "an archive"), "transforms.json": (b"{}", "give its folder"),
        "a.splat": (bytes(33), "a damaged .splat of 33 bytes"), "a.pdf": (b"%PDF-1.4", "a document"),
        "broken.ply": (b"ply\nformat", "no end_header"), "broken.png": (b"\x89PNG\r\n\x1a\n", "not a PNG file"),
        "cut.png": (iio.imwrite("<bytes>", colours(), extension=".png")[:300], "not a readable image"),
        "broken.tif": (b"II*\0" + bytes(9), "not a readable TIFF"),
    }  # fmt: skip
    for name, (content, match) in files.items():
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, match)
    tifffile.imwrite(tmp_path / "photo.tif", colours())
    refuse(tmp_path / "photo.tif", "a TIFF with colours")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        detect(tmp_path / "nothing")


def test_a_ply_without_gaussians(tmp_path):
    vertex = plyfile.PlyElement.describe(np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4")]), "vertex")
    faces = plyfile.PlyElement.describe(np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))]), "face")
    plyfile.PlyData([vertex]).write(str(tmp_path / "a.ply"))
    refuse(tmp_path / "a.ply", "a PLY point cloud without Gaussians")
    plyfile.PlyData([vertex, faces]).write(str(tmp_path / "a.ply"))
    refuse(tmp_path / "a.ply", "a PLY mesh without Gaussians")


def test_folders(tmp_path, gaussians):
    refuse(tmp_path, "an empty folder")
    (tmp_path / "notes.txt").write_text("")
    refuse(tmp_path, "a folder without images, cameras or splats")
    for k in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        iio.imwrite(tmp_path / "images" / f"{k}.png", colours())
    refuse(tmp_path, "3 images without cameras")
    save_gaussians_ply(tmp_path / "me.ply", gaussians)
    refuse(tmp_path, r"a folder of splat files \(me.ply \.\.\.\), of which one must be given")
    with pytest.raises(ValueError, match=r"a result folder of .* that can be an input \(splats.ply or depth.png\)"):
        made = tmp_path / "made"
        made.mkdir()
        for name in ("result.json", "mesh.ply", "splats.ply", "depth.png"):
            (made / name).write_text("{}")
        detect(made)
    refuse_one = tmp_path / "one"
    (refuse_one / "images").mkdir(parents=True)
    iio.imwrite(refuse_one / "images" / "0.png", colours())
    refuse(refuse_one, "1 image without cameras")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "transforms.json").write_text(json.dumps({}))
    refuse(tmp_path, "a folder of captures .*sub")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    refuse(tmp_path / "a.zip", "an archive")
    assert set(KINDS) == {"splats", "depth", "capture", "photo"}
