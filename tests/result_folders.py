"""A small result folder as scripts/20_enhance_head.py writes it, made in a second from an analytic head by our own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from synthetic_run import analytic_head, smooth_noise

from splathead.cameras import orbit_camera
from splathead.fusion import DepthView, FusedMesh, extract_surface, fuse_views, largest_component, save_mesh, vertex_colours
from splathead.gaussians import SH_C0, Gaussians
from splathead.images import DepthEncoding, DepthMap, encode_normals, save_depth_png, write_json, write_png
from splathead.maps.normals import normals_from_depth
from splathead.ply import save_gaussians_ply
from splathead.raycast import Lighting, RayCaster, shaded_rgba

YAWS = (0.0, 90.0, 180.0, -90.0)
OFFSET_MM = 1.5
"""how far the depth before lies behind the enhanced one"""


def head_gaussians(seed: int = 0) -> Gaussians:
    """Flat Gaussians, turned at random, on an analytic head; mm."""
    head, generator = analytic_head(seed, 4), torch.Generator().manual_seed(seed)
    count = len(head.vertices)
    scales = torch.tensor([4.0, 2.0, 0.7]).log().expand(count, 3) + 0.3 * torch.randn(count, 3, generator=generator)
    return Gaussians(
        torch.from_numpy(head.vertices), scales, torch.randn(count, 4, generator=generator),
        1.0 + 1.5 * torch.randn(count, generator=generator), ((torch.from_numpy(head.colours) - 0.5) / SH_C0)[:, None], "mm",
    )  # fmt: skip


def make_result(out: Path, *, size: int = 128, name: str = "head.ply", understood: tuple[str, ...] = ("axes: +Y up",)) -> Path:
    """Write a result folder: the enhanced depth is the true one, the depth before lies 1.5 mm behind it and is noisy."""
    out.mkdir(parents=True, exist_ok=True)
    head, rng, lighting = analytic_head(0, 5), np.random.default_rng(0), Lighting.sample(0)
    caster, after, before = RayCaster(head), [], []
    for yaw in YAWS:
        camera = orbit_camera(yaw, size=size)
        hits = caster.cast(camera)
        rgb, noise = shaded_rgba(caster, camera, lighting)[..., :3], 0.4 * smooth_noise(hits.mask.shape, rng, 1.5)
        after.append(DepthView(hits.depth_map, hits.mask, camera, rgb=rgb))
        noisy = np.where(hits.mask, hits.depth_map + OFFSET_MM + noise, 0).astype(np.float32)
        before.append(DepthView(noisy, hits.mask, camera, rgb=rgb))
    files = _write_front(out, after[0], before[0])
    mesh = _fused(after)
    for role, made in {"mesh_ply": mesh, "mesh_glb": mesh, "mesh_before": _fused(before)}.items():
        files[role] = {"mesh_ply": "mesh.ply", "mesh_glb": "mesh.glb", "mesh_before": "mesh_before.ply"}[role]
        save_mesh(out / files[role], made, scale="metric")
    save_gaussians_ply(out / "splats.ply", head_gaussians())
    front = after[0].depth[after[0].mask]
    write_json(out / "result.json", {
        "schema": 1, "kind": "splats", "input": {"path": name, "sha256": "0" * 64}, "understood": list(understood),
        "method": "variational", "unit": "mm", "scale": "metric", "near": float(front.min()), "far": float(front.max()),
        "views": [{"name": view.camera.name, "yaw_deg": yaw} for view, yaw in zip(after, YAWS)],
        "mesh": {
            "faces": len(mesh.faces), "vertices": len(mesh.vertices), "watertight": False, "holes": 2, "largest_hole": 12.34,
        },
        "files": {**files, "splats": "splats.ply", "report": "report.html"}, "seconds": {"render": 1.25, "fuse": 2.5},
    })  # fmt: skip
    return out


def _write_front(out: Path, after: DepthView, before: DepthView) -> dict[str, str]:
    for name, view in (("depth", after), ("depth_before", before)):
        encoding = DepthEncoding.from_depth(view.depth, view.mask, 16, "mm")
        save_depth_png(out / f"{name}.png", DepthMap(view.depth, view.mask, encoding, view.camera, "test"))
    normals, _ = normals_from_depth(after.depth, after.mask, after.camera, jump=8.0)
    coded = encode_normals(normals)
    for name, image in (("normal", coded), ("confidence", np.uint8(255) * after.mask), ("rgb", after.rgb)):
        write_png(out / f"{name}.png", image)
    return {name: f"{name}.png" for name in ("depth", "depth_before", "normal", "confidence", "rgb")}


def _fused(views: list[DepthView]) -> FusedMesh:
    mesh = largest_component(extract_surface(fuse_views(views, voxel=4.0, jump=12.0)))
    mesh.colours = vertex_colours(mesh.vertices, views, tolerance=8.0, jump=12.0)
    return mesh
