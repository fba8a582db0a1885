"""Small scenes that stress one thing each, for the tests of the rasteriser."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from splathead.cameras import Camera, orbit_camera
from splathead.gaussians import Gaussians

PARAMETERS = ("means", "log_scales", "quaternions", "opacity_logits")


def random_gaussians(
    count: int,
    *,
    scale: tuple[float, float] = (2.0, 8.0),
    opacity: tuple[float, float] = (0.05, 0.95),
    radii: tuple[float, float, float] = (70.0, 95.0, 80.0),
    seed: int = 0,
) -> Gaussians:
    """Splats on an ellipsoid around the origin, mm; scales log-uniform in ``scale``, raw quaternions of any length."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    points *= np.array(radii) / np.linalg.norm(points, axis=1, keepdims=True)
    opacities = rng.uniform(*opacity, count)
    arrays = (
        points,
        rng.uniform(math.log(scale[0]), math.log(scale[1]), (count, 3)),
        rng.normal(size=(count, 4)) * rng.uniform(0.3, 3.0, (count, 1)),
        np.log(opacities / (1 - opacities)),
        rng.uniform(-1.0, 1.0, (count, 1, 3)),
    )
    return Gaussians(*(torch.from_numpy(a.astype(np.float32)) for a in arrays), unit="mm")


def camera(width: int = 48, height: int = 48, *, shift: tuple[float, float] = (0.0, 0.0)) -> Camera:
    """A rig camera 20 degrees to the side; ``shift`` moves the principal point by pixels."""
    square = orbit_camera(20.0, 10.0, max(width, height))  # 0.1 px per mm at 48 px
    cx, cy = width / 2 + shift[0], height / 2 + shift[1]
    return Camera(width, height, square.fx, square.fy, cx, cy, square.world_to_cam)


def _needles() -> Gaussians:
    gaussians = random_gaussians(60, seed=3)
    gaussians.log_scales[:, 0] = math.log(60.0)
    gaussians.log_scales[:, 1:] = math.log(0.06)
    return gaussians


def _around_camera() -> Gaussians:
    """Half of the splats behind the camera, some between it and the near plane."""
    gaussians = random_gaussians(200, seed=4)
    view = camera()
    forward = torch.from_numpy(view.rotation[2]).float()
    position = torch.from_numpy(view.position).float()
    distance = torch.linspace(-400.0, 600.0, 200)
    distance[::20] = torch.linspace(-0.2, 0.4, 10)
    gaussians.means = position + distance[:, None] * forward + 0.1 * gaussians.means * distance[:, None].abs() / 100
    return gaussians


def _off_screen() -> Gaussians:
    """Centres all around and far outside of the image, wide enough to reach into it."""
    gaussians = random_gaussians(150, scale=(5.0, 80.0), seed=5)
    gaussians.means = gaussians.means * torch.linspace(0.5, 8.0, 150)[:, None]
    return gaussians


SCENES = {
    "head": (random_gaussians(300), camera()),
    "tiny": (random_gaussians(300, scale=(0.02, 2.0), seed=1), camera()),
    "huge": (random_gaussians(30, scale=(100.0, 2000.0), seed=2), camera()),
    "needles": (_needles(), camera()),
    "around_camera": (_around_camera(), camera()),
    "opaque": (random_gaussians(400, scale=(8.0, 20.0), opacity=(0.8, 0.999), seed=6), camera()),
    "off_screen": (_off_screen(), camera()),
    "one_pixel": (random_gaussians(20, radii=(9.0, 9.0, 9.0), seed=7), replace(camera(), width=1, height=1, cx=0.5, cy=0.5)),
    "none": (random_gaussians(0), camera()),
    "wide": (random_gaussians(150, seed=8), camera(75, 38)),
    "tall_off_centre": (random_gaussians(150, seed=9), camera(34, 66, shift=(9.0, -14.5))),
    "spherical_and_flat": (random_gaussians(100, scale=(5.0, 5.0), seed=10), camera()),
}
SCENES["spherical_and_flat"][0].log_scales[50:, 2] = -12.0
"""name -> Gaussians (float32) and camera."""


def leaf(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A fresh leaf with the same values."""
    return tensor.detach().to(dtype).requires_grad_()


def leaves(gaussians: Gaussians, dtype: torch.dtype) -> Gaussians:
    """Copy whose parameters collect gradients."""
    return Gaussians(*(leaf(getattr(gaussians, name), dtype) for name in PARAMETERS), gaussians.sh.to(dtype), gaussians.unit)
