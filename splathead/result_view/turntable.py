"""The turntable: an MP4 (H.264) of the mesh turning once, and beside it the Gaussians it was made from.

Frames of the mesh are ray cast on the CPU, those of Gaussians rasterised on the device that they lie on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead import mesh_kernels
from splathead.cameras import Camera, focal_from_fov, look_at
from splathead.cli import core_count
from splathead.fusion import FusedMesh
from splathead.gaussians import Gaussians
from splathead.images import atomic_path
from splathead.raycast import RayCaster, box_filtered
from splathead.result_view.pictures import CLAY, shaded_normals
from splathead.result_view.video import write_video
from splathead.subjects.base import HeadMesh

BACKGROUND = np.array([241, 241, 238], dtype=np.uint8)
HFOV_DEG = 30.0
ELEVATION_DEG = 6.0
SUPERSAMPLING = 2
GPU_FRAMES = 4
"""Frames of Gaussians that are made at a time on a GPU, which waits for the CPU to launch its work"""


@dataclass(frozen=True)
class TurntableOptions:
    """How long and how large."""

    frames: int = 48
    size: int = 512
    """side of a pane, px; even, as the video's colours have half its resolution"""
    fps: int = 16

    def __post_init__(self) -> None:
        if self.frames < 1 or self.fps < 1 or self.size < 16 or self.size % 2:
            found = f"{self.frames} frames, {self.fps} a second, {self.size} px"
            raise ValueError(f"turntable of {found}, expected at least 1 frame, 1 a second and an even size from 16 px")


def turntable(
    mesh: FusedMesh,
    path: Path,
    splats: Gaussians | None = None,
    *,
    options: TurntableOptions | None = None,
    backend: str = "auto",
) -> Path:
    """Write an MP4 of ``mesh`` turning once around +Y, as lit clay; beside it ``splats`` (same frame and unit)
    where they are given, rasterised by ``backend``. Returns ``path``."""
    options = options or TurntableOptions()
    cameras = turntable_cameras(_points_in_view(mesh, splats), options)
    panes = [mesh_frames(mesh, cameras)]
    with ThreadPoolExecutor(GPU_FRAMES if splats is not None and splats.means.is_cuda else core_count()) as pool:
        if splats is not None:  # begun at once: the mesh takes a while
            panes.append(pool.map(functools.partial(_splat_frame, splats, backend), cameras))
        with atomic_path(Path(path)) as temporary:
            write_video(temporary, (np.concatenate(row, axis=1) for row in zip(*panes)), options.fps)
    return Path(path)


def _points_in_view(mesh: FusedMesh, splats: Gaussians | None) -> np.ndarray:
    """Points [N, 3] that all frames show: the mesh, and most of the Gaussians, as a mesh of one view is a part of the head."""
    from splathead.subjects.importer import visible_extent

    if splats is None:
        return mesh.vertices
    centres = splats.to("cpu")
    low, high = visible_extent(centres)
    points = centres.means.numpy()
    return np.concatenate([mesh.vertices, points[((points >= low) & (points <= high)).all(axis=1)]])


def turntable_cameras(vertices: np.ndarray, options: TurntableOptions) -> list[Camera]:
    """Cameras around the middle of ``vertices`` [V, 3] that see all of them in every frame; the first one faces +Z."""
    low, high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
    centre = (low + high) / 2
    # the cylinder that the turning head fills
    radius = float(np.linalg.norm((vertices - centre)[:, [0, 2]], axis=1).max())
    half_height = (high[1] - low[1]) / 2
    slope = math.tan(math.radians(HFOV_DEG) / 2)
    distance = radius + max(radius, half_height * 1.06) / slope
    focal = focal_from_fov(options.size, HFOV_DEG)
    elevation = math.radians(ELEVATION_DEG)
    cameras = []
    for yaw in np.arange(options.frames) * (2 * math.pi / options.frames):
        direction = np.array([math.cos(elevation) * math.sin(yaw), math.sin(elevation), math.cos(elevation) * math.cos(yaw)])
        pose = look_at(centre + distance * direction, centre, np.array([0.0, 1.0, 0.0]))
        cameras.append(Camera(options.size, options.size, focal, focal, options.size / 2, options.size / 2, pose))
    return cameras


def mesh_frames(mesh: FusedMesh, cameras: list[Camera]) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 of the mesh as lit clay."""
    head = HeadMesh(mesh.vertices, mesh.faces, np.ones(mesh.vertices.shape, np.float32))
    head.vertex_normals  # noqa: B018  once, before threads ask for it
    caster = RayCaster(head)

    def frame(camera: Camera) -> np.ndarray:
        hits = caster.cast(camera.resized(camera.width * SUPERSAMPLING))
        normals = mesh_kernels.rotate(hits.normals_world(), camera.rotation * [[1.0], [-1.0], [-1.0]])
        return over_background(box_filtered(hits, shaded_normals(normals, CLAY.astype(np.float32)), SUPERSAMPLING))

    with ThreadPoolExecutor(core_count()) as pool:
        yield from pool.map(frame, cameras)


def _splat_frame(splats: Gaussians, backend: str, camera: Camera) -> np.ndarray:
    """Frame [H, W, 3] uint8 of the Gaussians."""
    from splathead.raster.render import render

    maps = render(splats, camera, outputs=("rgb",), backend=backend)
    rest = (1 - maps.alpha).cpu().numpy()[..., None] * (BACKGROUND / np.float32(255))
    return np.rint(255 * np.clip(maps.rgb.cpu().numpy().transpose(1, 2, 0) + rest, 0, 1)).astype(np.uint8)


def over_background(rgba: np.ndarray) -> np.ndarray:
    """Straight RGBA [H, W, 4] uint8 over :data:`BACKGROUND`, [H, W, 3] uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
