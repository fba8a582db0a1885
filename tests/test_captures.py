"""Captures and imports: every format lands in the same frame; every broken input is named."""

from __future__ import annotations

import json
import math
import struct

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from splathead.cameras import Camera, camera_yaw_elevation, load_cameras, look_at, orbit_camera
from splathead.config import Config
from splathead.gaussians import Gaussians
from splathead.images import read_png, write_png
from splathead.subjects.capture import (
    capture_subject,
    centre_of_attention,
    estimate_up,
    find_captures,
    heldout_indices,
    map_cameras,
    read_capture,
)
from splathead.subjects.collect import SubjectPlan, collect_subject
from splathead.subjects.frames import FACELIFT_FRAME, HeadFrame, axis_vector
from splathead.subjects.photos import load_photo, undistort
from splathead.subjects.posed_views import PosedView, view_names
from splathead.subjects.visual_hull import carve
from splathead.subjects.writer import SubjectLabel

SIZE, VIEWS = 48, 10
BALL_MM = 100.0  # radius of the ball that stands for a head
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def rig(size: int = SIZE, count: int = VIEWS) -> list[Camera]:
    """A ring of cameras in our frame, the first at the face, slightly above."""
    return [orbit_camera(k * 360 / count, 10.0, size, name=f"view_{k:02d}") for k in range(count)]


def ball_photo(camera: Camera) -> np.ndarray:
    """RGBA of a ball at the origin: red grows to the subject's left (+X), green upwards (+Y), blue to the front (+Z)."""
    rays = camera.ray_directions() @ camera.rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = -(rays @ camera.position)
    discriminant = along**2 - camera.position @ camera.position + BALL_MM**2
    hit = camera.position + rays * (along - np.sqrt(np.maximum(discriminant, 0)))[..., None]
    rgb = np.clip(hit / BALL_MM * 0.5 + 0.5, 0, 1)
    return np.dstack([rgb, discriminant > 0]).clip(0, 1)


def write_photos(folder, cameras: list[Camera], *, bits: int = 8, alpha: bool = True) -> None:
    for camera in cameras:
        image = ball_photo(camera)[..., : 4 if alpha else 3]
        scaled = np.rint(image * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
        write_png(folder / "images" / f"{camera.name}.png", scaled)


# our cameras as another tool would have them: another frame, another unit
WORLD = HeadFrame(axis_vector("z"), axis_vector("-y"), np.array([3.0, -1.0, 2.0]), 180.0)


def foreign(camera: Camera, frame: HeadFrame = WORLD) -> np.ndarray:
    """world_to_cam of a camera of ours in the foreign world: the inverse of ``HeadFrame.camera``."""
    matrix = np.eye(4)
    matrix[:3, :3] = camera.rotation @ frame.rotation
    matrix[:3, 3] = camera.translation / frame.mm_per_unit - matrix[:3, :3] @ frame.origin
    return matrix


def write_opencv(folder, cameras: list[Camera], **photo_options) -> None:
    write_photos(folder, cameras, **photo_options)
    frames = [
        {"w": c.width, "h": c.height, "fx": c.fx, "fy": c.fy, "cx": c.cx, "cy": c.cy, "w2c": foreign(c).tolist(),
         "file_path": f"images/{c.name}.png"} for c in cameras
    ]  # fmt: skip
    (folder / "opencv_cameras.json").write_text(json.dumps({"id": "ball", "frames": frames}))


def opengl_pose(camera: Camera) -> list:
    """Camera-to-world in OpenGL axes, foreign world."""
    return (np.linalg.inv(foreign(camera)) @ OPENGL).tolist()


def write_transforms(folder, cameras: list[Camera], **photo_options) -> None:
    write_photos(folder, cameras, **photo_options)
    frames = [{"transform_matrix": opengl_pose(c), "file_path": f"images/{c.name}"} for c in cameras]
    c = cameras[0]
    top = {"camera_angle_x": 2 * math.atan(c.width / 2 / c.fx)}  # as NeRF's synthetic scenes: no size, no suffix
    (folder / "transforms.json").write_text(json.dumps({**top, "frames": frames}))


def write_nerfstudio(folder, cameras: list[Camera], **photo_options) -> None:
    write_photos(folder, cameras, **photo_options)
    c = cameras[0]
    top = {"camera_model": "OPENCV", "fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height}
    frames = [{"transform_matrix": opengl_pose(c), "file_path": f"images/{c.name}.png"} for c in cameras]
    (folder / "transforms.json").write_text(json.dumps({**top, "k1": 0.0, "frames": frames}))


def colmap_points(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Points on the ball and one far outside, in the foreign world, and their colours 0..255."""
    points = np.random.default_rng(0).normal(size=(count, 3))
    points *= BALL_MM * 0.97 / np.linalg.norm(points, axis=1, keepdims=True)
    colours = np.rint((points / BALL_MM * 0.5 + 0.5) * 255).astype(int)
    points[-1] = 5000.0
    return points / WORLD.mm_per_unit @ WORLD.rotation + WORLD.origin, colours


def write_colmap(folder, cameras: list[Camera], *, binary: bool, cloud: bool = True, **photo_options) -> None:
    write_photos(folder, cameras, **photo_options)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    c = cameras[0]
    poses = []
    for camera in cameras:
        matrix = foreign(camera)
        x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
        poses.append(((w, x, y, z), matrix[:3, 3], f"{camera.name}.png"))
    points, colours = colmap_points() if cloud else (np.empty((0, 3)), np.empty((0, 3), int))
    if binary:
        data = struct.pack("<QiiQQ4d", 1, 7, 1, c.width, c.height, c.fx, c.fy, c.cx, c.cy)
        (model / "cameras.bin").write_bytes(data)
        data = struct.pack("<Q", len(poses))
        for k, (quaternion, translation, name) in enumerate(poses):
            data += struct.pack("<i7di", k, *quaternion, *translation, 7) + name.encode() + b"\0"
            data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.0, 2.0, -1, 3.0, 4.0, 5)
        (model / "images.bin").write_bytes(data)
        data = struct.pack("<Q", len(points))
        for k, (point, colour) in enumerate(zip(points, colours, strict=True)):
            data += struct.pack("<Q3d3BdQ", k, *point, *colour, 0.5, 2) + struct.pack("<iiii", 0, 0, 1, 1)
        (model / "points3D.bin").write_bytes(data)
        return
    (model / "cameras.txt").write_text(f"# cameras\n7 PINHOLE {c.width} {c.height} {c.fx!r} {c.fy!r} {c.cx!r} {c.cy!r}\n")
    lines = ["# images"]
    for k, (quaternion, translation, name) in enumerate(poses):
        numbers = " ".join(repr(float(v)) for v in (*quaternion, *translation))
        lines += [f"{k} {numbers} 7 {name}", "1.0 2.0 -1" if k % 2 else ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    pairs = enumerate(zip(points, colours, strict=True))
    rows = [f"{k} {p[0]} {p[1]} {p[2]} {c[0]} {c[1]} {c[2]} 0.5 0 0" for k, (p, c) in pairs]
    (model / "points3D.txt").write_text("# points\n" + "\n".join(rows) + "\n")


FORMATS = {
    "opencv_cameras": write_opencv,
    "transforms": write_transforms,
    "nerfstudio": write_nerfstudio,
    "colmap_bin": lambda *args, **options: write_colmap(*args, binary=True, **options),
    "colmap_txt": lambda *args, **options: write_colmap(*args, binary=False, **options),
}


def ball_config() -> Config:
    config = Config()
    config.subjects.heldout_views, config.subjects.init_points, config.subjects.map_size = 2, 500, 64
    config.subjects.capture_front = "view_00"
    return config


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_subject(tmp_path, name):
    cameras = rig()
    FORMATS[name](tmp_path / "ball", cameras)
    report = capture_subject(tmp_path / "ball", tmp_path / "out", ball_config())
    fit, heldout = load_cameras(tmp_path / "out" / "cameras_fit.json"), load_cameras(tmp_path / "out" / "cameras_heldout.json")
    assert [c.name for c in heldout] == ["view_02", "view_07"] and len(fit) == VIEWS - 2
    expected = {camera.name: camera for camera in cameras}
    for camera in fit + heldout:
        other = expected[camera.name]
        np.testing.assert_allclose(camera.world_to_cam, other.world_to_cam, atol=1e-4)
        np.testing.assert_allclose((camera.fx, camera.fy, camera.cx, camera.cy), (other.fx, other.fy, other.cx, other.cy))
        rgba = read_png(tmp_path / "out" / "images" / f"{camera.name}.png", channels=4, bits=8)
        np.testing.assert_array_equal(rgba[..., 3] > 127, ball_photo(other)[..., 3] > 0.5)
        inside = rgba[..., 3] > 127
        np.testing.assert_array_equal(rgba[inside], np.rint(ball_photo(other) * 255).astype(np.uint8)[inside])
    info = json.loads((tmp_path / "out" / "subject.json").read_text())
    assert (info["name"], info["split"], info["scale"], info["unit"]) == ("ball", "test", "nominal", "mm")
    assert info["frame"]["mm_per_unit"] == pytest.approx(180, rel=1e-5) and info["frame"]["up"] == [0, 0, 1]
    assert "180 mm per unit" in report.lines[0]
    start = np.load(tmp_path / "out" / "points.npz")
    distance = np.linalg.norm(start["points"], axis=1)
    # on the ball: COLMAP's own points (without the stray one), or the hull, which circumscribes it
    assert start["points"].shape == start["colours"].shape
    assert 290 < len(distance) < 300 if "colmap" in name else len(distance) == 500
    assert distance.min() > 0.85 * BALL_MM and distance.max() < 1.35 * BALL_MM
    error = np.abs(start["colours"] - (start["points"] / distance[:, None] * 0.5 + 0.5))
    assert error.mean() < 0.06


def test_16_bit_photos_are_scaled_not_cut(tmp_path):
    cameras = rig(count=6)
    write_opencv(tmp_path / "ball", cameras, bits=16)
    config = ball_config()
    capture_subject(tmp_path / "ball", tmp_path / "out", config)
    rgba = read_png(tmp_path / "out" / "images" / "view_00.png", channels=4, bits=8)
    expected = ball_photo(cameras[0])
    inside = expected[..., 3] > 0.5
    assert np.abs(rgba[inside] / 255.0 - expected[inside]).max() < 0.51 / 255


def test_photos_are_resized_with_their_cameras(tmp_path):
    write_opencv(tmp_path / "ball", rig(), bits=8)
    config = ball_config()
    config.subjects.image_size = SIZE // 2
    capture_subject(tmp_path / "ball", tmp_path / "out", config)
    camera = load_cameras(tmp_path / "out" / "cameras_fit.json")[0]
    assert (camera.width, camera.height) == (SIZE // 2, SIZE // 2)
    rgba = read_png(tmp_path / "out" / "images" / "view_00.png", channels=4, bits=8)
    expected = ball_photo(camera)
    inside = cv2.erode((expected[..., 3] > 0.5).astype(np.uint8), np.ones((3, 3))) > 0
    assert np.abs(rgba[inside] / 255.0 - expected[inside]).max() < 0.05
    # straight alpha: colours at the rim are not darkened by the transparent black outside
    rim = (rgba[..., 3] > 20) & (rgba[..., 3] < 235)
    assert rim.any() and rgba[rim][:, :3].max(1).min() > 100


def test_real_facelift_capture(shared_data, tmp_path):
    folder = shared_data / "data" / "facelift_sample"
    captures = find_captures(folder)
    assert list(captures) == ["sample_000"]
    config = Config()
    config.subjects.image_size, config.subjects.init_points = 64, 1000
    report = capture_subject(captures["sample_000"], tmp_path, config)
    np.testing.assert_allclose(report.frame.rotation, FACELIFT_FRAME.rotation, atol=1e-6)
    assert report.frame.mm_per_unit == pytest.approx(180, rel=1e-5)
    heldout = load_cameras(tmp_path / "cameras_heldout.json")
    assert [c.name for c in heldout] == ["cam_004", "cam_012", "cam_020", "cam_028"]
    front = next(c for c in load_cameras(tmp_path / "cameras_fit.json") if c.name == "cam_024")
    np.testing.assert_allclose(camera_yaw_elevation(front), (0, 20), atol=1e-3)
    assert np.linalg.norm(front.position) == pytest.approx(486, rel=1e-5)
    points = np.load(tmp_path / "points.npz")["points"]
    head = points[points[:, 1] > 0]
    assert 60 < np.abs(head[:, 0]).max() < 130 and 80 < head[:, 1].max() < 200  # a head's half width and height, mm


# ---- the frame


def test_up_of_a_ring_and_of_a_frontal_capture():
    for up_name, front_name in (("y", "z"), ("z", "-y"), ("-y", "x"), ("x", "z")):
        frame = HeadFrame(axis_vector(up_name), axis_vector(front_name), np.ones(3), 100.0)
        for views in (rig(), [orbit_camera(yaw, el) for yaw, el in ((-8, 0), (0, 9), (8, 0), (0, -9))]):
            moved = [Camera(c.width, c.height, c.fx, c.fy, c.cx, c.cy, foreign(c, frame)) for c in views]
            np.testing.assert_allclose(estimate_up(moved), axis_vector(up_name), atol=1e-9)
            np.testing.assert_allclose(centre_of_attention(moved), np.ones(3), atol=1e-6)


def test_tilted_world_is_not_snapped_to_an_axis():
    up = np.array([0.3, 0.9, 0.1]) / np.linalg.norm([0.3, 0.9, 0.1])
    frame = HeadFrame(up, axis_vector("z"), np.zeros(3), 1.0)
    moved = [Camera(c.width, c.height, c.fx, c.fy, c.cx, c.cy, foreign(c, frame)) for c in rig()]
    np.testing.assert_allclose(estimate_up(moved), up, atol=1e-6)


def test_parallel_cameras_are_an_error():
    views = [look_at(np.array([x, 0.0, 5.0]), np.array([x, 0.0, 0.0]), np.array([0, 1.0, 0])) for x in (0, 1, 2)]
    with pytest.raises(ValueError, match="look in parallel"):
        centre_of_attention([Camera(8, 8, 8, 8, 4, 4, matrix) for matrix in views])


def test_frame_moves_points_cameras_and_gaussians_alike():
    frame = HeadFrame(axis_vector("-z"), np.array([1.0, 1.0, 0.2]), np.array([1.0, 2.0, 3.0]), 50.0)
    points = np.random.default_rng(0).normal(size=(20, 3)) + np.array([1.0, 2, 3])
    camera = Camera(64, 48, 50, 60, 30, 20, look_at(np.array([6.0, 2.0, 3.5]), np.array([1.0, 2, 3]), np.array([0, 0, -1.0])))
    pixels, depth = camera.project(points)
    moved_pixels, moved_depth = frame.camera(camera).project(frame.points(points))
    np.testing.assert_allclose(moved_pixels, pixels, atol=1e-9)
    np.testing.assert_allclose(moved_depth, 50 * depth, atol=1e-9)
    tensor = torch.from_numpy(points)
    gaussians = Gaussians(tensor, tensor * 0, torch.ones(20, 4).double(), tensor[:, 0], torch.ones(20, 1, 3).double())
    moved = frame.gaussians(gaussians)
    np.testing.assert_allclose(moved.means.numpy(), frame.points(points), atol=1e-9)
    assert moved.unit == "mm" and float(moved.log_scales.mean()) == pytest.approx(math.log(50))
    with pytest.raises(ValueError, match="parallel"):
        HeadFrame(axis_vector("z"), axis_vector("-z"), np.zeros(3), 1.0)


def test_facelift_frame_is_the_published_rig():
    azimuths = {0: -90, 45: -45, 90: 0, 180: 90, -90: 180, -45: -135}  # our yaw -> FaceLift's azimuth
    for yaw, azimuth in azimuths.items():
        position = 2.7 * np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0])
        np.testing.assert_allclose(FACELIFT_FRAME.points(position[None])[0], orbit_camera(yaw).position, atol=1e-9)


def test_map_cameras_stay_where_the_capture_looks_from():
    config = Config().subjects
    config.map_yaws = [0.0, 60.0]
    cameras, notes = map_cameras([orbit_camera(yaw, 20 + yaw / 100) for yaw in (-20, -10, 0, 10, 20)], config)
    assert camera_yaw_elevation(cameras[0])[1] == pytest.approx(19.8, abs=0.1)
    assert any("map yaw +60" in note for note in notes)
    cameras, notes = map_cameras([orbit_camera(yaw, el) for yaw in (0, 60) for el in (-10, 10)], config)
    assert camera_yaw_elevation(cameras[1]) == pytest.approx((60, 0), abs=1e-6) and not notes


def test_heldout_views_are_spread(tmp_path):
    assert heldout_indices(32, 4, tmp_path) == {4, 12, 20, 28} and heldout_indices(5, 0, tmp_path) == set()
    with pytest.raises(ValueError, match=r"1 view with 4 held out \(subjects.heldout_views\), .* so 7 photos or more"):
        heldout_indices(1, 4, tmp_path)
    with pytest.raises(ValueError, match="5 views with 4 held out"):
        heldout_indices(5, 4, tmp_path)


# ---- lens distortion


@pytest.mark.parametrize("distortion", [(-0.2, 0.05, 0.0, 0.0), (0.15, 0.0, 0.01, -0.008), (-0.1, 0.02, 0.0, 0.0, 0.01)])
def test_undistorted_pixels_look_along_their_rays(distortion):
    camera = Camera(160, 120, 130.0, 125.0, 84.0, 57.0, np.eye(4))
    # a scene whose colour is linear in the ray, photographed through the lens
    pixels = np.stack(np.meshgrid(np.arange(160.0), np.arange(120.0)), axis=-1).reshape(-1, 1, 2)
    cv_matrix = camera.K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    target = ((pixels - cv_matrix[:2, 2]) / (camera.fx, camera.fy)).reshape(-1, 2)
    rays = target.copy()
    for _ in range(100):  # the ray whose distorted image is the pixel, by fixed-point iteration
        points = np.column_stack([rays, np.ones(len(rays))])
        distorted, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array(distortion))
        rays += target - distorted.reshape(-1, 2)
    rays = rays.reshape(120, 160, 2)
    image, new = undistort(np.dstack([rays, np.ones((120, 160))]).astype(np.float32), camera, distortion)
    expected = new.ray_directions()[..., :2]
    assert np.abs(image[..., :2] - expected).max() * new.fx < 0.02  # pixels
    assert (image[..., 2] > 0.999).all() and new.width == 160


def test_distorted_transforms_are_undistorted(tmp_path):
    cameras = rig(count=4)
    write_nerfstudio(tmp_path, cameras)
    path = tmp_path / "transforms.json"
    data = json.loads(path.read_text())
    data["k1"] = 0.05
    path.write_text(json.dumps(data))
    view = read_capture(tmp_path).views[0]
    assert view.distortion == (0.05, 0, 0, 0, 0) and load_photo(view).camera.fx != cameras[0].fx
    data["camera_model"] = "OPENCV_FISHEYE"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"transforms\.json: frame 'view_00': camera_model 'OPENCV_FISHEYE'"):
        read_capture(tmp_path)


@pytest.mark.parametrize(
    "row, focal, distortion",
    [
        ("SIMPLE_PINHOLE 48 48 50 24 24", (50, 50), ()),
        ("PINHOLE 48 48 50 51 24 24", (50, 51), ()),
        ("SIMPLE_RADIAL 48 48 50 24 24 0.1", (50, 50), (0.1, 0, 0, 0)),
        ("RADIAL 48 48 50 24 24 0.1 -0.02", (50, 50), (0.1, -0.02, 0, 0)),
        ("OPENCV 48 48 50 51 24 24 0.1 -0.02 0.003 0.004", (50, 51), (0.1, -0.02, 0.003, 0.004)),
    ],
)
def test_colmap_camera_models(tmp_path, row, focal, distortion):
    write_colmap(tmp_path, rig(count=4), binary=False)
    (tmp_path / "sparse/0/cameras.txt").write_text(f"7 {row}\n")
    view = read_capture(tmp_path).views[0]
    assert (view.camera.fx, view.camera.fy) == focal and view.distortion == distortion


# ---- masks


def test_masks_from_a_sibling_folder(tmp_path):
    cameras = rig(count=6)
    write_opencv(tmp_path / "ball", cameras, alpha=False)
    for camera in cameras:
        mask = np.rint(ball_photo(camera)[..., 3] * 255).astype(np.uint8)
        write_png(tmp_path / "ball" / "masks" / f"{camera.name}.png.png", mask)  # COLMAP's way of naming them
    report = capture_subject(tmp_path / "ball", tmp_path / "out", ball_config())
    assert not any("no masks" in line for line in report.lines)
    rgba = read_png(tmp_path / "out" / "images" / "view_00.png", channels=4, bits=8)
    np.testing.assert_array_equal(rgba[..., 3] > 127, ball_photo(cameras[0])[..., 3] > 0.5)


def test_without_masks_all_is_foreground_and_said(tmp_path):
    write_opencv(tmp_path / "ball", rig(count=6), alpha=False)
    report = capture_subject(tmp_path / "ball", tmp_path / "out", ball_config())
    assert any("no masks" in line for line in report.lines)
    assert (read_png(tmp_path / "out" / "images" / "view_00.png", channels=4, bits=8)[..., 3] == 255).all()
    points = np.load(tmp_path / "out" / "points.npz")["points"]
    assert len(points) == 500 and np.linalg.norm(points, axis=1).min() < 60  # a volume, not a surface


def test_stage_01_says_once_what_it_understood(tmp_path, capsys):
    write_opencv(tmp_path / "ball", rig(count=6))
    plans = {"ball": SubjectPlan(SubjectLabel("ball", "ball", "capture", "test", 0, "nominal"), tmp_path / "ball")}
    config = ball_config()
    config.subjects.source, config.subjects.capture_front = "capture", "auto"
    collect_subject(config, plans, None, "ball", tmp_path / "out")
    assert capsys.readouterr().out.count("set capture_front to change") == 1


def test_carving_keeps_the_ball_and_little_else():
    views = [PosedView(c, None) for c in rig()]
    from splathead.subjects.photos import Photo

    photos = [Photo(np.rint(ball_photo(v.camera) * 255).astype(np.uint8), v.camera, True) for v in views]
    inside = carve(photos, 150.0, grid=30)
    centres = (np.arange(30) + 0.5) * 10 - 150
    radius = np.linalg.norm(np.stack(np.meshgrid(centres, centres, centres, indexing="ij")), axis=0)
    assert inside[radius < BALL_MM - 5].mean() > 0.995
    assert not inside[radius > 1.35 * BALL_MM].any()


# ---- broken captures


@pytest.fixture
def good(tmp_path):
    write_opencv(tmp_path / "ball", rig(count=6))
    return tmp_path / "ball"


def edit(path, change) -> None:
    data = json.loads(path.read_text())
    change(data["frames"][1])
    path.write_text(json.dumps(data))


def expect(folder, match: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=match):
        capture_subject(folder, folder.parent / "out", ball_config())
    assert not (folder.parent / "out").exists()


def test_missing_view_file(good):
    (good / "images" / "view_03.png").unlink()
    expect(good, r"view_03\.png: no such image \(1 of 6 views are missing\)", FileNotFoundError)


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda f: f["w2c"].__setitem__(0, [0, 0, 0, 0]), "frame 'view_01': w2c is singular"),
        (lambda f: f.update(w2c=(2 * np.eye(4)).tolist()), "frame 'view_01': .*not a rigid motion"),
        (lambda f: f.update(w2c=np.diag([1.0, 1, -1, 1]).tolist()), "frame 'view_01': .*not a rigid motion"),
        (lambda f: f["w2c"][0].__setitem__(0, "a"), "w2c is not a finite 4x4 matrix"),
        (lambda f: f["w2c"].pop(), "not a rigid|not a finite 4x4|$^"),
        (lambda f: f.update(w=64), r"view_01\.png: image of 48x48, its camera says 64x48"),
        (lambda f: f.update(w=47.5), "w is 47.5, expected a whole number"),
        (lambda f: f.update(fx=None), "fx is None, expected a finite number"),
        (lambda f: f.update(fx=-3.0), "expected finite values and positive focal"),
        (lambda f: f.pop("cy"), "cy is None"),
        (lambda f: f.pop("file_path"), "frame 1 has no file_path"),
        (lambda f: f.update(file_path="images/view_00.png"), "'images/view_00' appears twice|appears twice"),
    ],
)
def test_broken_frame(good, change, match):
    if match.endswith("$^"):  # a 3x4 matrix is accepted
        edit(good / "opencv_cameras.json", change)
        assert len(read_capture(good).views) == 6
        return
    edit(good / "opencv_cameras.json", change)
    expect(good, match)


def test_broken_json(good):
    path = good / "opencv_cameras.json"
    for text, match in (("{", "not valid JSON"), ("[]", "non-empty list 'frames'"), ('{"frames": []}', "non-empty list")):
        path.write_text(text)
        expect(good, rf"opencv_cameras\.json: .*{match}")


def test_rgb_among_rgba(good):
    image = read_png(good / "images" / "view_02.png", channels=4, bits=8)
    write_png(good / "images" / "view_02.png", np.ascontiguousarray(image[..., :3]))
    expect(good, r"view_02\.png: RGB without a mask, expected RGBA .* in 5 other views")


def test_grey_image_and_broken_image(good):
    write_png(good / "images" / "view_02.png", np.zeros((SIZE, SIZE), np.uint8))
    expect(good, r"view_02\.png: 1 channel\(s\), expected RGB or RGBA")
    content = (good / "images" / "view_03.png").read_bytes()
    (good / "images" / "view_02.png").write_bytes(content[:40])
    expect(good, r"view_02\.png: not a readable image")


def test_empty_mask(good):
    write_png(good / "images" / "view_02.png", np.zeros((SIZE, SIZE, 4), np.uint8))
    expect(good, r"view_02\.png: empty mask")


def test_mask_of_another_size(tmp_path):
    write_opencv(tmp_path / "ball", rig(count=6), alpha=False)
    write_png(tmp_path / "ball" / "masks" / "view_00.png", np.full((8, 8), 255, np.uint8))
    expect(tmp_path / "ball", r"masks/view_00\.png: mask of 8x8, its camera says 48x48")


def test_silhouettes_that_do_not_agree(good):
    data = json.loads((good / "opencv_cameras.json").read_text())
    for frame in data["frames"]:  # all images show the ball in a corner: no point is in all of them
        image = np.zeros((SIZE, SIZE, 4), np.uint8)
        image[:4, :4] = 255
        write_png(good / frame["file_path"], image)
    expect(good, "silhouettes have no volume in common")


def test_no_capture_and_unknown_front(good, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such capture folder"):
        find_captures(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no capture here, expected opencv_cameras\.json"):
        find_captures(tmp_path / "empty")
    config = ball_config()
    config.subjects.capture_front = "view_99"
    with pytest.raises(ValueError, match=r"capture_front: axis 'view_99'.*or the name of a view \(view_00"):
        capture_subject(good, tmp_path / "out", config)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin", "points3D.bin"])
def test_truncated_colmap(tmp_path, file):
    write_colmap(tmp_path / "ball", rig(count=6), binary=True)
    path = tmp_path / "ball" / "sparse" / "0" / file
    path.write_bytes(path.read_bytes()[:-20])
    expect(tmp_path / "ball", rf"{file}: truncated")


@pytest.mark.parametrize(
    "file, text, match",
    [
        ("cameras.txt", "7 OPENCV_FISHEYE 48 48 50 50 24 24 0 0 0 0\n", "camera model OPENCV_FISHEYE, expected"),
        ("cameras.txt", "7 PINHOLE 48 48 50 50 24\n", "6 numbers in .*, expected 7"),
        ("cameras.txt", "7 PINHOLE\n", "expected id, model, width"),
        ("cameras.txt", "8 PINHOLE 48 48 50 50 24 24\n", "has camera 7, expected"),
        ("images.txt", "0 1 0 0 zero 0 0 0 7 a.png\n\n", "could not convert string to float"),
        ("images.txt", "0 0 0 0 0 0 0 0 7 view_00.png\n\n", "quaternion"),
        ("points3D.txt", "0 1 2 3 4\n", "4 numbers in .*, expected 6"),
    ],
)
def test_broken_colmap_text(tmp_path, file, text, match):
    write_colmap(tmp_path / "ball", rig(count=6), binary=False)
    (tmp_path / "ball" / "sparse" / "0" / file).write_text(text)
    expect(tmp_path / "ball", match)


def test_view_names():
    assert view_names(["images/a b.png", "images/c.jpg"]) == ["a_b", "c"]
    assert view_names(["left/0.png", "right/0.png"]) == ["left_0", "right_0"]
    with pytest.raises(ValueError, match="appears twice"):
        view_names(["a.png", "a.png"])
