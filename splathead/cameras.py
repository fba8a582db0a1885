"""Pinhole cameras, rigs and projection. This module is THE convention block.

Conventions, stated once and relied on everywhere:

* Camera axes are OpenCV's: x right, y down, z forward. ``world_to_cam`` is a rigid 4x4 matrix.
* Pixel centres lie at +0.5: pixel (row v, column u) is seen along
  ``((u + 0.5 - cx) / fx, (v + 0.5 - cy) / fy, 1)``. Resizing by s multiplies fx, fy, cx, cy by s
  (``align_corners=False``).
* Depth is z-depth along the camera's z axis, not ray length; float32; 0 = no surface.
* Heads are in millimetres, +Y up, +Z out of the face, origin between the ears' height and the face's
  centre. Yaw 0 looks at the face; positive yaw moves the camera towards +X (the subject's left).
  Positive elevation moves it up.
* FaceLift's rig has radius 2.7 units and a horizontal field of view of 50 degrees; ``MM_PER_UNIT``
  maps it to head size.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

MM_PER_UNIT = 180.0
RIG_RADIUS_UNITS = 2.7
RIG_HFOV_DEG = 50.0


def focal_from_fov(size_px: int, fov_deg: float) -> float:
    """Focal length in pixels of an image side of ``size_px`` pixels seen under ``fov_deg`` degrees."""
    return size_px / (2.0 * math.tan(math.radians(fov_deg) / 2.0))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; lengths in the unit of the scene it looks at.

    ``world_to_cam`` is a rigid [4, 4] float64 matrix (checked); the principal point may be anywhere.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    world_to_cam: np.ndarray = field(repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        matrix = np.array(self.world_to_cam, dtype=np.float64)
        object.__setattr__(self, "world_to_cam", matrix)
        where = f"camera {self.name!r}"
        if self.width < 1 or self.height < 1:
            raise ValueError(f"{where}: image size {self.width}x{self.height}, expected at least 1x1")
        intrinsics = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in intrinsics) or min(self.fx, self.fy) <= 0:
            raise ValueError(f"{where}: fx, fy, cx, cy = {intrinsics}, expected finite values and positive focal lengths")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError(f"{where}: world_to_cam of shape {matrix.shape}, expected a finite 4x4 matrix")
        rotation = matrix[:3, :3]
        drift = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        det = float(np.linalg.det(rotation))
        if drift > 1e-3 or det < 0 or not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6):
            raise ValueError(
                f"{where}: world_to_cam is not a rigid motion (|R R^T - I| = {drift:.3g}, det R = {det:.3g}, "
                f"last row {matrix[3].tolist()}), expected a rotation with determinant +1 and last row 0 0 0 1"
            )

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix [3, 3], pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def rotation(self) -> np.ndarray:
        """World-to-camera rotation [3, 3]."""
        return self.world_to_cam[:3, :3]

    @property
    def translation(self) -> np.ndarray:
        """World-to-camera translation [3]."""
        return self.world_to_cam[:3, 3]

    @property
    def position(self) -> np.ndarray:
        """Camera centre in the world [3]."""
        return -self.rotation.T @ self.translation

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view in degrees."""
        return math.degrees(math.atan(self.cx / self.fx) + math.atan((self.width - self.cx) / self.fx))

    def resized(self, width: int, height: int | None = None) -> Camera:
        """The same view at another resolution (both sides scale by their own factor)."""
        height = round(self.height * width / self.width) if height is None else height
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)

    def cropped(self, rows: slice, columns: slice) -> Camera:
        """The same view's part ``image[rows, columns]``; both slices need a start and a stop."""
        size = {"height": rows.stop - rows.start, "width": columns.stop - columns.start}
        return replace(self, **size, cx=self.cx - columns.start, cy=self.cy - rows.start)

    def ray_directions(self) -> np.ndarray:
        """Camera-frame ray directions with z = 1, [H, W, 3] float64: depth times this is the point."""
        x = (np.arange(self.width) + 0.5 - self.cx) / self.fx
        y = (np.arange(self.height) + 0.5 - self.cy) / self.fy
        xx, yy = np.meshgrid(x, y)
        return np.stack([xx, yy, np.ones_like(xx)], axis=-1)

    def project(self, points_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points [N, 3] to pixel coordinates [N, 2] (u right, v down) and z-depth [N]."""
        points_cam = points_world @ self.rotation.T + self.translation
        z = points_cam[:, 2]
        safe = np.where(np.abs(z) < 1e-12, 1e-12, z)
        pixels = points_cam[:, :2] / safe[:, None] * (self.fx, self.fy) + (self.cx, self.cy)
        return pixels, z

    def unproject(self, depth: np.ndarray, *, world: bool = True) -> np.ndarray:
        """Depth map [H, W] to points [H, W, 3] float64 in the world (or camera) frame."""
        if depth.shape != (self.height, self.width):
            raise ValueError(f"camera {self.name!r}: depth of shape {depth.shape}, expected {(self.height, self.width)}")
        points_cam = self.ray_directions() * depth[..., None].astype(np.float64)
        if not world:
            return points_cam
        return (points_cam - self.translation) @ self.rotation

    def to_dict(self) -> dict:
        """JSON-ready dictionary, the inverse of :meth:`from_dict`."""
        return {
            "name": self.name, "width": self.width, "height": self.height,
            "fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy,
            "world_to_cam": self.world_to_cam.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict) -> Camera:
        """Camera from :meth:`to_dict`'s dictionary; a missing or extra key is an error."""
        expected = {"name", "width", "height", "fx", "fy", "cx", "cy", "world_to_cam"}
        if set(data) != expected:
            raise ValueError(f"camera entry with keys {sorted(data)}, expected {sorted(expected)}")
        return cls(**{**data, "world_to_cam": np.asarray(data["world_to_cam"], dtype=np.float64)})


def save_cameras(path: Path, cameras: list[Camera]) -> None:
    """Write cameras as a JSON list."""
    Path(path).write_text(json.dumps([camera.to_dict() for camera in cameras], indent=1) + "\n")


def load_cameras(path: Path) -> list[Camera]:
    """Read cameras written by :func:`save_cameras`; errors name the file."""
    try:
        entries = json.loads(Path(path).read_text())
        return [Camera.from_dict(entry) for entry in entries]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """``world_to_cam`` [4, 4] of an OpenCV camera at ``position`` looking at ``target`` with ``up`` upwards."""
    position, target, up = (np.asarray(v, dtype=np.float64) for v in (position, target, up))
    forward = target - position
    if np.linalg.norm(forward) < 1e-12:
        raise ValueError(f"look_at: position {position.tolist()} equals the target")
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:
        raise ValueError(f"look_at: up {up.tolist()} is parallel to the viewing direction {forward.tolist()}")
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ position
    return matrix


def orbit_camera(
    yaw_deg: float,
    elevation_deg: float = 0.0,
    size: int = 1024,
    *,
    radius: float = RIG_RADIUS_UNITS * MM_PER_UNIT,
    hfov_deg: float = RIG_HFOV_DEG,
    name: str = "",
) -> Camera:
    """A square camera on a sphere around the origin of a +Y up, +Z front head.

    Defaults give FaceLift's radius and field of view in millimetres. ``yaw_deg`` 0 faces the head.
    """
    yaw, elevation = math.radians(yaw_deg), math.radians(elevation_deg)
    level = math.cos(elevation)
    position = radius * np.array([level * math.sin(yaw), math.sin(elevation), level * math.cos(yaw)])
    focal = focal_from_fov(size, hfov_deg)
    matrix = look_at(position, np.zeros(3), np.array([0.0, 1.0, 0.0]))
    return Camera(size, size, focal, focal, size / 2, size / 2, matrix, name or f"yaw{yaw_deg:+04.0f}_el{elevation_deg:+03.0f}")


FACELIFT_YAWS_DEG = (0.0, 45.0, 90.0, 180.0, -90.0, -45.0)
"""FaceLift's six azimuths (-90, -45, 0, 90, 180, -135 in its z-up world) as yaw from the face."""


def camera_yaw_elevation(camera: Camera) -> tuple[float, float]:
    """Yaw and elevation in degrees of a camera around a +Y up, +Z front origin."""
    x, y, z = camera.position
    return math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))
