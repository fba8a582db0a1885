"""COLMAP sparse models, text and binary: cameras, images, points3D (https://colmap.github.io/format.html)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import transform  # not from scipy.spatial.transform: see gaussians.matrix_to_quaternion

from splathead.cameras import Camera
from splathead.subjects.posed_views import PosedCapture, PosedView, view_names

MAX_FILE_BYTES = 2**31

MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", ".")
"""Where a model is looked for below a capture's folder."""

# model name -> (COLMAP's id, number of parameters)
MODELS = {
    "SIMPLE_PINHOLE": (0, 3), "PINHOLE": (1, 4), "SIMPLE_RADIAL": (2, 4), "RADIAL": (3, 5), "OPENCV": (4, 8),
    "FULL_OPENCV": (6, 12),
}  # fmt: skip


@dataclass(frozen=True)
class ColmapImage:
    """One registered image: world-to-camera pose, camera id, file name."""

    quaternion: tuple[float, ...]  # w x y z
    translation: tuple[float, ...]
    camera_id: int
    name: str


class _Reader:
    """Little-endian values from bytes; running past the end is a ValueError."""

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}")
        self.path, self.data, self.position = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        """Unpack ``layout`` (struct format without byte order)."""
        try:
            values = struct.unpack_from("<" + layout, self.data, self.position)
        except struct.error as error:
            raise ValueError(f"{self.path}: truncated at byte {len(self.data)}") from error
        self.position += struct.calcsize("<" + layout)
        return values

    def skip(self, size: int) -> None:
        """Move on by ``size`` bytes, which must be there."""
        self.position += size
        if self.position > len(self.data):
            raise ValueError(f"{self.path}: truncated at byte {len(self.data)}")

    def text(self) -> str:
        """A zero-terminated string."""
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise ValueError(f"{self.path}: truncated at byte {len(self.data)}")
        value = self.data[self.position : end].decode("utf-8", errors="replace")
        self.position = end + 1
        return value


def model_folder(folder: Path) -> Path | None:
    """The folder below ``folder`` with COLMAP's cameras and images files, if any."""
    for name in MODEL_FOLDERS:
        model = Path(folder) / name
        if any((model / f"cameras{s}").is_file() and (model / f"images{s}").is_file() for s in (".bin", ".txt")):
            return model
    return None


def read_colmap(folder: Path) -> PosedCapture:
    """The COLMAP model of a capture folder with its images (``images/`` or the folder itself), cloud included."""
    folder = Path(folder)
    model = model_folder(folder)
    if model is None:
        raise FileNotFoundError(f"{folder}: no COLMAP model (cameras and images as .bin or .txt)")
    binary = (model / "cameras.bin").is_file() and (model / "images.bin").is_file()
    suffix = ".bin" if binary else ".txt"
    cameras = (_cameras_bin if binary else _cameras_txt)(model / f"cameras{suffix}")
    images = sorted((_images_bin if binary else _images_txt)(model / f"images{suffix}"), key=lambda image: image.name)
    cloud_path = model / f"points3D{suffix}"
    cloud = (_points_bin if binary else _points_txt)(cloud_path) if cloud_path.is_file() else None
    image_folder = folder / "images" if (folder / "images").is_dir() else folder
    views = []
    for name, image in zip(view_names([image.name for image in images]), images, strict=True):
        if image.camera_id not in cameras:
            raise ValueError(f"{model}/images{suffix}: {image.name!r} has camera {image.camera_id}, expected {sorted(cameras)}")
        views.append(_view(name, image, cameras[image.camera_id], image_folder, model))
    points, colours = cloud if cloud is not None and len(cloud[0]) else (None, None)
    return PosedCapture("colmap", views, points, colours)


def _view(name: str, image: ColmapImage, camera: tuple[str, int, int, tuple], image_folder: Path, model: Path) -> PosedView:
    kind, width, height, p = camera
    if kind in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        fx, fy, cx, cy = p[0], p[0], p[1], p[2]
        radial = p[3:]
        distortion = (*radial, *[0.0] * (4 - len(radial))) if any(radial) else ()
    else:
        fx, fy, cx, cy = p[:4]
        distortion = tuple(p[4:]) if any(p[4:]) else ()
    matrix = np.eye(4)
    w, x, y, z = image.quaternion
    if not np.isfinite(image.quaternion).all() or not any(image.quaternion):
        raise ValueError(f"{model}: image {image.name!r}: quaternion {image.quaternion}, expected finite and not zero")
    matrix[:3, :3] = transform.Rotation.from_quat([x, y, z, w]).as_matrix()
    matrix[:3, 3] = image.translation
    try:
        pinhole = Camera(width, height, fx, fy, cx, cy, matrix, name)
    except ValueError as error:
        raise ValueError(f"{model}: image {image.name!r}: {error}") from error
    return PosedView(pinhole, image_folder / image.name, None, distortion)


def _check_model(name: str, path: Path) -> int:
    if name not in MODELS:
        raise ValueError(f"{path}: camera model {name}, expected one of {', '.join(MODELS)} (undistort the images)")
    return MODELS[name][1]


def _cameras_bin(path: Path) -> dict[int, tuple[str, int, int, tuple]]:
    reader, cameras = _Reader(path), {}
    names = {number: name for name, (number, _) in MODELS.items()}
    for _ in range(reader.take("Q")[0]):
        camera_id, model, width, height = reader.take("iiQQ")
        name = names.get(model, f"number {model}")
        cameras[camera_id] = (name, width, height, reader.take(f"{_check_model(name, path)}d"))
    return cameras


def _images_bin(path: Path) -> list[ColmapImage]:
    reader, images = _Reader(path), []
    for _ in range(reader.take("Q")[0]):
        values = reader.take("i7di")
        name = reader.text()
        images.append(ColmapImage(values[1:5], values[5:8], values[8], name))
        reader.skip(24 * reader.take("Q")[0])  # x, y, point id of each keypoint
    return images


def _points_bin(path: Path) -> tuple[np.ndarray, np.ndarray]:
    reader, rows = _Reader(path), []
    for _ in range(reader.take("Q")[0]):
        row = reader.take("Q3d3BdQ")
        rows.append(row[1:7])
        reader.skip(8 * row[-1])
    return _cloud(np.array(rows, dtype=np.float64).reshape(-1, 6))


def _rows(path: Path, *, keep_empty: bool = False) -> list[list[str]]:
    """Fields of the lines that are not comments."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}")
    lines = [line for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")]
    return [line.split() for line in lines if keep_empty or line.strip()]


def _numbers(fields: list[str], path: Path, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(field) for field in fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(values) != count:
        raise ValueError(f"{path}: {len(values)} numbers in {' '.join(fields)[:60]!r}, expected {count}")
    return values


def _cameras_txt(path: Path) -> dict[int, tuple[str, int, int, tuple]]:
    cameras = {}
    for fields in _rows(path):
        if len(fields) < 5:
            raise ValueError(f"{path}: {' '.join(fields)!r}, expected id, model, width, height and parameters")
        count = _check_model(fields[1], path)
        camera_id, width, height, *values = _numbers([fields[0], *fields[2:]], path, 3 + count)
        cameras[int(camera_id)] = (fields[1], int(width), int(height), tuple(values))
    return cameras


def _images_txt(path: Path) -> list[ColmapImage]:
    # two lines per image; the second, its keypoints, may be empty
    rows = _rows(path, keep_empty=True)
    while rows and not rows[0]:
        rows.pop(0)
    images = []
    for fields in rows[::2]:
        if not fields:
            break
        values = _numbers(fields[1:9], path, 8)
        images.append(ColmapImage(values[:4], values[4:7], int(values[7]), " ".join(fields[9:])))
    return images


def _points_txt(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return _cloud(np.array([_numbers(fields[1:7], path, 6) for fields in _rows(path)], dtype=np.float64).reshape(-1, 6))


def _cloud(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows[:, :3], np.clip(rows[:, 3:] / 255.0, 0, 1)
