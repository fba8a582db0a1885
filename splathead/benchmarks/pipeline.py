"""Speed of the pipeline's own steps: ray casting, the mesh evaluator, fusion, a fit."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from splathead.benchmarks.raster import SpeedRow, best_seconds
from splathead.cameras import Camera, orbit_camera
from splathead.config import FitConfig
from splathead.devices import raster_device
from splathead.fitting.optimise import fit_views
from splathead.gaussians import Gaussians
from splathead.metrics.image import psnr
from splathead.raster import render
from splathead.subjects.rig import subject_cameras
from splathead.subjects.writer import SubjectLabel, load_subject, write_subject

SIZE = 1024


def step_rows(budget: float = 2.0) -> list[SpeedRow]:
    """Steps on an embedded head at 1024 pixels; all of them run on the CPU."""
    from splathead.metrics.mesh import MeshSettings, SurfaceTruth, evaluate_mesh
    from splathead.metrics.surface import Surface
    from splathead.raycast import RayCaster
    from splathead.subjects.anny import anny_head

    head, camera = anny_head(0), orbit_camera(0.0, size=SIZE)
    caster = RayCaster(head)
    depth = caster.cast(camera).depth_map
    surface = Surface.build(head.vertices, head.faces)
    truth = SurfaceTruth.from_mesh(surface, depth, camera, MeshSettings())
    noisy = np.where(depth > 0, depth + np.random.default_rng(0).normal(0, 0.3, depth.shape), 0).astype(np.float32)
    mask = depth > 0
    rows = [
        SpeedRow("ray casting 1024", "splathead", "one view", best_seconds(lambda: caster.cast(camera), budget)),
        SpeedRow("mesh evaluation 1024", "splathead", "one map", best_seconds(lambda: evaluate_mesh(noisy, mask, truth), budget)),  # noqa: E501
    ]
    return rows


def fit_rows(device: torch.device, subject: Path | None = None, iterations: int = 1200) -> list[SpeedRow]:
    """One 3DGS fit on ``device``, to ``subject`` (a folder of stage 01) or to 30 views 512x512 of an embedded head.

    Densification is set to grow to the bound of 40,000 Gaussians. The note says how many there were at the end and the
    PSNR of the held-out views. Not measured on a GPU without a CUDA rasteriser: the fit would run on the CPU.
    """
    if raster_device(device.type).type != device.type:
        return [SpeedRow("3DGS fit", "splathead", "one subject", None, note=f"no rasteriser for {device.type} here")]
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_subject(subject or _write_head(Path(folder)))
        images = {camera.name: loaded.image(camera.name) for camera in [*loaded.cameras.fit, *loaded.cameras.heldout]}
        cloud = loaded.initial_cloud()
    cameras = loaded.cameras.fit
    config = FitConfig(iterations=iterations, max_gaussians=40_000, densify_grad=1e-4)

    def fit(config: FitConfig) -> Gaussians:
        return fit_views([images[camera.name] for camera in cameras], cameras, *cloud, config, device)

    fit(replace(config, iterations=50))  # compiles
    started = time.perf_counter()
    gaussians = fit(config)
    seconds = time.perf_counter() - started
    scores = [_psnr_over_black(gaussians.to(device), camera, images[camera.name]) for camera in loaded.cameras.heldout]
    note = f"{iterations} iterations, {len(gaussians)} Gaussians, held-out {np.mean(scores):.2f} dB"
    name = f"3DGS fit {len(cameras)} views {cameras[0].width}x{cameras[0].height}"
    return [SpeedRow(name, "splathead", "one subject", seconds, note=note)]


def _write_head(folder: Path) -> Path:
    from splathead.subjects.anny import anny_head

    cameras = subject_cameras(0, fit_views=30, heldout_views=4, fit_size=512, map_yaws_deg=[0.0], map_size=512)
    write_subject(folder, anny_head(0), cameras, SubjectLabel("head", "head", "anny", "test", 0), 15_000)
    return folder


def _psnr_over_black(gaussians: Gaussians, camera: Camera, photo: np.ndarray) -> float:
    with torch.no_grad():
        image = render(gaussians, camera, outputs=("rgb",)).rgb.clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    reference = photo / 255.0
    return psnr(image.astype(np.float64), reference[..., :3] * reference[..., 3:])
