"""The similarity that takes a foreign world (a capture's, a PLY file's) into the head frame of ``cameras.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from splathead.cameras import MM_PER_UNIT, Camera
from splathead.gaussians import Gaussians

AXES = ("x", "y", "z", "-x", "-y", "-z")
"""Names of the directions that ``up`` and ``front`` options take."""


def axis_vector(name: str) -> np.ndarray:
    """Unit vector [3] of an axis name (``-z``); an unknown name is a ValueError."""
    if name not in AXES:
        raise ValueError(f"axis {name!r}, expected one of {', '.join(AXES)}")
    vector = np.zeros(3)
    vector["xyz".index(name[-1])] = -1.0 if name.startswith("-") else 1.0
    return vector


def axis_name(vector: np.ndarray) -> str:
    """Name of the axis that ``vector`` [3] points along, or its rounded components."""
    for name in AXES:
        if float(axis_vector(name) @ vector) > 1 - 1e-6:
            return name
    return "(" + " ".join(f"{v:+.3f}" for v in vector) + ")"


@dataclass(frozen=True)
class HeadFrame:
    """How a foreign world maps to ours: x_mm = mm_per_unit * R (x - origin), R from its up and front directions."""

    up: np.ndarray  # [3] direction that points up in the foreign world
    front: np.ndarray  # [3] direction that points out of the face; made orthogonal to ``up``
    origin: np.ndarray  # [3] the head's centre, foreign units
    mm_per_unit: float

    def __post_init__(self) -> None:
        up, front = (np.asarray(v, dtype=np.float64) for v in (self.up, self.front))
        length = np.linalg.norm(up)
        up = up / max(length, 1e-12)
        front = front - (front @ up) * up
        if length < 1e-9 or np.linalg.norm(front) < 1e-6:
            raise ValueError(f"up {axis_name(self.up)} and front {axis_name(self.front)} are parallel, expected two directions")
        if not (np.isfinite(self.mm_per_unit) and self.mm_per_unit > 0):
            raise ValueError(f"mm_per_unit {self.mm_per_unit}, expected a positive number")
        object.__setattr__(self, "up", up)
        object.__setattr__(self, "front", front / np.linalg.norm(front))
        object.__setattr__(self, "origin", np.asarray(self.origin, dtype=np.float64))

    @property
    def rotation(self) -> np.ndarray:
        """R [3, 3]: foreign directions to ours (rows: the foreign directions of our +X, +Y, +Z)."""
        return np.stack([np.cross(self.up, self.front), self.up, self.front])

    def points(self, points: np.ndarray) -> np.ndarray:
        """Foreign points [N, 3] in our frame, mm."""
        return self.mm_per_unit * (points - self.origin) @ self.rotation.T

    def camera(self, camera: Camera) -> Camera:
        """The same view with world and depth in mm of our frame."""
        matrix = np.eye(4)
        matrix[:3, :3] = camera.rotation @ self.rotation.T
        matrix[:3, 3] = self.mm_per_unit * (camera.rotation @ self.origin + camera.translation)
        return replace(camera, world_to_cam=matrix)

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians in mm of our frame."""
        shift = -self.mm_per_unit * self.rotation @ self.origin
        moved = gaussians.transformed(torch.from_numpy(self.rotation), torch.from_numpy(shift), self.mm_per_unit)
        return replace(moved, unit="mm")

    def to_dict(self) -> dict:
        """JSON-ready description."""
        return {
            "up": self.up.tolist(), "front": self.front.tolist(), "origin": self.origin.tolist(),
            "mm_per_unit": self.mm_per_unit,
        }  # fmt: skip

    def describe(self) -> str:
        """One line for the user."""
        origin = " ".join(f"{v:.4g}" for v in self.origin)
        return f"up {axis_name(self.up)}, front {axis_name(self.front)}, centre ({origin}), {self.mm_per_unit:.6g} mm per unit"


FACELIFT_FRAME = HeadFrame(axis_vector("z"), axis_vector("-y"), np.zeros(3), MM_PER_UNIT)
"""FaceLift's world: z up, the face towards -y, the rig of radius 2.7 around the origin."""
