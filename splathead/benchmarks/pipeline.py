"""Speed of the pipeline's own steps: ray casting, the mesh evaluator, fusion, a fit, network inference."""

from __future__ import annotations

import time

import numpy as np
import torch

from splathead.benchmarks.raster import SpeedRow, best_seconds
from splathead.cameras import orbit_camera
from splathead.config import FitConfig, ModelConfig

SIZE = 1024


def step_rows(budget: float = 2.0) -> list[SpeedRow]:
    """Steps on an embedded head at 1024 pixels."""
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
    return [*rows, *inference_rows(budget)]


def inference_rows(budget: float = 2.0) -> list[SpeedRow]:
    """The published UNet and the quick run's, 256 to 1024, on the device there is."""
    from splathead.devices import compute_device
    from splathead.models import architecture_for, create_network

    device = compute_device("auto")
    rows = []
    for base in (32, 8):
        settings = ModelConfig(base_ch=base)
        network = create_network("unet", architecture_for(settings, scale=4, target="surface")).to(device).eval()
        x = torch.rand(1, 1, SIZE // 4, SIZE // 4, device=device)

        def infer(network: torch.nn.Module = network, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                network(x)
            if x.is_cuda:
                torch.cuda.synchronize()

        rows.append(SpeedRow(f"UNet base {base} 1024", "splathead", "inference", best_seconds(infer, budget)))
    return rows


def fit_rows(size: int = 512, views: int = 30, iterations: int = 1200, points: int = 26_000) -> list[SpeedRow]:
    """One 3DGS fit of an embedded head on the device there is, from a noisy cloud; the note says how large it got."""
    from splathead.devices import raster_device
    from splathead.fitting.optimise import fit_views
    from splathead.raycast import Lighting, RayCaster, shaded_rgba
    from splathead.subjects.anny import anny_head
    from splathead.subjects.rig import subject_cameras
    from splathead.subjects.writer import sparse_cloud

    head, lighting = anny_head(0), Lighting.sample(0)
    caster = RayCaster(head)
    cameras = subject_cameras(0, fit_views=views, heldout_views=1, fit_size=size, map_yaws_deg=[0.0], map_size=size).fit
    images = [shaded_rgba(caster, camera, lighting) for camera in cameras]
    cloud = sparse_cloud(caster, cameras, lighting, points, np.random.default_rng(0))
    device = raster_device("auto")
    config = FitConfig(iterations=iterations, max_gaussians=40_000)
    fit_views(images[:2], cameras[:2], *cloud, FitConfig(iterations=20, max_gaussians=40_000), device)  # compiles
    started = time.perf_counter()
    gaussians = fit_views(images, cameras, *cloud, config, device)
    seconds = time.perf_counter() - started
    note = f"{iterations} iterations, {len(gaussians)} Gaussians"
    return [SpeedRow(f"3DGS fit {views} views {size}x{size}", "splathead", "one subject", seconds, note=note)]
