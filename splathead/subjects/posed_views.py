"""Posed photographs as other tools describe them: ``opencv_cameras.json``, ``transforms.json``, COLMAP.

Every format becomes a :class:`PosedCapture`: cameras in our axes (OpenCV, pixel centres at +0.5) in the
capture's own world and unit. Nothing is read of the images here, except their size where a file omits it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from splathead.cameras import Camera, focal_from_fov

MAX_JSON_BYTES = 2**26

TRANSFORMS_FILES = ("transforms.json", "transforms_train.json")

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class PosedView:
    """One photograph. ``camera`` is the undistorted pinhole model at the photo's own resolution."""

    camera: Camera
    image: Path
    mask: Path | None = None
    distortion: tuple[float, ...] = ()  # OpenCV's k1 k2 p1 p2 [k3 [k4 k5 k6]]; empty = none


@dataclass(frozen=True)
class PosedCapture:
    """Photographs of one head. ``points`` [N, 3] is the capture's own sparse cloud with colours [N, 3] in 0..1, or None."""

    source: str  # opencv_cameras | transforms | colmap
    views: list[PosedView]
    points: np.ndarray | None = None
    colours: np.ndarray | None = None


def read_opencv_cameras(folder: Path) -> PosedCapture:
    """``opencv_cameras.json`` as FaceLift uses it: frames with w, h, fx, fy, cx, cy, w2c (OpenCV axes), file_path."""
    path = Path(folder) / "opencv_cameras.json"
    frames = _load_frames(path)
    names = view_names([str(frame.get("file_path")) for frame in frames])
    views = []
    for name, frame in zip(names, frames, strict=True):
        where = f"{path}: frame {name!r}"
        numbers = [_number(frame, key, where) for key in ("fx", "fy", "cx", "cy")]
        width, height = (_size(frame, key, where) for key in ("w", "h"))
        matrix = _matrix(frame, "w2c", where)
        views.append(PosedView(_camera(where, width, height, *numbers, matrix, name), _image_path(path, frame, where)))
    return PosedCapture("opencv_cameras", views)


def read_transforms(folder: Path) -> PosedCapture:
    """``transforms.json`` of NeRF, instant-ngp and nerfstudio: camera-to-world in OpenGL axes.

    Intrinsics (``fl_x fl_y cx cy w h`` or ``camera_angle_x``) and distortion (``k1 k2 k3 p1 p2``) may stand at
    the top or in a frame; ``mask_path`` names a mask; ``ply_file_path`` the capture's sparse cloud.
    """
    path = next(Path(folder) / name for name in TRANSFORMS_FILES if (Path(folder) / name).is_file())
    frames = _load_frames(path)
    names = view_names([str(frame.get("file_path")) for frame in frames])
    views = [_transforms_view(path, name, frame) for name, frame in zip(names, frames, strict=True)]
    cloud = frames[0].get("ply_file_path")
    return PosedCapture("transforms", views, *(_point_cloud(path.parent / str(cloud)) if cloud else (None, None)))


def _point_cloud(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] and colours [N, 3] in 0..1 of nerfstudio's ``ply_file_path``."""
    import trimesh

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such point cloud (ply_file_path)")
    cloud = trimesh.load(path, process=False)
    points = np.asarray(cloud.vertices, dtype=np.float64)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{path}: {len(points)} points, expected at least one, all finite")
    colours = np.asarray(getattr(cloud, "colors", np.empty((0, 4))), dtype=np.float64)
    return points, colours[:, :3] / 255 if len(colours) == len(points) else np.full_like(points, 0.5)


def _transforms_view(path: Path, name: str, frame: dict) -> PosedView:
    where = f"{path}: frame {name!r}"
    model = str(frame.get("camera_model", "OPENCV"))
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"):
        raise ValueError(f"{where}: camera_model {model!r} is not supported, expected OPENCV or PINHOLE")
    image = _image_path(path, frame, where)
    if "w" in frame or "h" in frame:
        width, height = (_size(frame, key, where) for key in ("w", "h"))
    else:
        width, height = image_size(image)
    fx = _focal(frame, "x", width, where)
    if fx is None:
        raise ValueError(f"{where}: neither fl_x nor camera_angle_x, expected a focal length")
    fy = _focal(frame, "y", height, where) or fx
    cx = _number(frame, "cx", where) if "cx" in frame else width / 2
    cy = _number(frame, "cy", where) if "cy" in frame else height / 2
    if any(frame.get(key) for key in ("k4", "k5", "k6")):
        raise ValueError(f"{where}: distortion k4, k5, k6 is not supported, expected k1 k2 k3 p1 p2 (undistort the images)")
    distortion = tuple(_number(frame, key, where) if key in frame else 0.0 for key in ("k1", "k2", "p1", "p2", "k3"))
    cam_to_world = _matrix(frame, "transform_matrix", where) @ _OPENGL_TO_OPENCV
    camera = _camera(where, width, height, fx, fy, cx, cy, np.linalg.inv(cam_to_world), name)
    mask = path.parent / str(frame["mask_path"]) if frame.get("mask_path") else None
    return PosedView(camera, image, mask, distortion if any(distortion) else ())


def _focal(frame: dict, axis: str, size: int, where: str) -> float | None:
    if f"fl_{axis}" in frame:
        return _number(frame, f"fl_{axis}", where)
    if f"camera_angle_{axis}" in frame:
        angle = _number(frame, f"camera_angle_{axis}", where)
        if not 0 < angle < math.pi:
            raise ValueError(f"{where}: camera_angle_{axis} {angle}, expected radians between 0 and pi")
        return focal_from_fov(size, math.degrees(angle))
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from an image's header."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    try:
        height, width = iio.improps(path).shape[:2]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable image: {error}") from error
    return width, height


def view_names(paths: list[str]) -> list[str]:
    """One unique file name of ours per image path: its stem, or all of its path where stems repeat."""
    stems = [Path(path).stem for path in paths]
    unique = len(set(stems)) == len(stems)
    chosen = stems if unique else [str(Path(path).with_suffix("")) for path in paths]
    names = [re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip("._+-") or "view" for name in chosen]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"image {repeated!r} appears twice, expected one frame per image")
    return names


def _load_frames(path: Path) -> list[dict]:
    """Frames of a camera JSON, each with the file's top-level values as defaults."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_JSON_BYTES}")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{path}: expected an object with a non-empty list 'frames'")
    shared = {key: value for key, value in data.items() if key != "frames"}
    frames = [{**shared, **frame} for frame in frames]
    nameless = [k for k, frame in enumerate(frames) if not isinstance(frame.get("file_path"), str)]
    if nameless:
        raise ValueError(f"{path}: frame {nameless[0]} has no file_path")
    return frames


def _number(frame: dict, key: str, where: str) -> float:
    value = frame.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where}: {key} is {value!r}, expected a finite number")
    return float(value)


def _size(frame: dict, key: str, where: str) -> int:
    value = _number(frame, key, where)
    if value != round(value) or not 1 <= value <= 2**15:
        raise ValueError(f"{where}: {key} is {value:g}, expected a whole number of pixels")
    return int(value)


def _matrix(frame: dict, key: str, where: str) -> np.ndarray:
    try:
        matrix = np.array(frame.get(key), dtype=np.float64)
    except (ValueError, TypeError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"{where}: {key} is not a finite 4x4 matrix")
    determinant = float(np.linalg.det(matrix[:3, :3]))
    if abs(determinant) < 1e-6:
        raise ValueError(f"{where}: {key} is singular (determinant {determinant:.3g}), expected a rigid motion")
    return matrix


def _camera(where: str, width: int, height: int, fx: float, fy: float, cx: float, cy: float, matrix, name: str) -> Camera:
    try:
        return Camera(width, height, fx, fy, cx, cy, matrix, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _image_path(path: Path, frame: dict, where: str) -> Path:
    image = path.parent / frame["file_path"]
    if not image.is_file() and not image.suffix and image.with_name(image.name + ".png").is_file():
        return image.with_name(image.name + ".png")  # NeRF's synthetic scenes omit the suffix
    return image
