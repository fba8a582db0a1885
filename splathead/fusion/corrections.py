"""What all views of a head together say about the depth of each: fuse them, ray-cast the surface, compare.

One view's errors (a code's steps, a network's guess at a cheek that it sees at a slant) are not another's, so the fused surface
is the better one where several views see the same skin. It is also blunt: detail below a voxel is lost, and where views
disagree, edges are averaged away. So a view is not replaced by the render of the fused surface but moved to it:

    corrected = own + G * [t (rendered - own)] / max(G * t, 1/2)

with t = 1 on trusted pixels, 0 elsewhere, and G a Gaussian of ``SMOOTHING_VOXELS`` voxels: a normalised convolution (Knutsson
and Westin, CVPR 1993) that fades to nothing beyond trusted pixels, so that no seam shows. Trusted are pixels away from the
view's own silhouettes and depth jumps where render and view are the same surface, that is within the truncation distance of
fusion: beyond it the ray met something else.

Views that contradict the others, or look at the inside of a hollow head, are not fused and not corrected (``view_choice``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from splathead.cameras import Camera, camera_yaw_elevation
from splathead.fusion.surface import FusedMesh, extract_surface, largest_component
from splathead.fusion.tsdf import DepthView, fuse_views
from splathead.fusion.view_choice import choose_views
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.raycast import RayCaster
from splathead.subjects.base import HeadMesh

SMOOTHING_VOXELS = 1.5
"""Standard deviation of the correction's Gaussian. On training heads of the study 1.5 and 3 voxels have the same RMSE to 1 %,
1.5 the better normals; pasting the render has worse ones (eval/LOG.md)."""


@dataclass(frozen=True)
class CorrectionSettings:
    """How views are fused and compared; lengths in the views' unit."""

    voxel: float = 1.0
    truncation_voxels: float = 4.0
    jump: float = 4.0
    """depth difference of neighbouring pixels that separates two surfaces"""
    interior_px: int = 8
    """pixels from silhouettes and jumps of the view's own depth where the render is not trusted"""
    smoothing_voxels: float = SMOOTHING_VOXELS


def view_corrections(
    views: Sequence[DepthView], diagonal: float, settings: CorrectionSettings | None = None
) -> tuple[list[np.ndarray], list[str]]:
    """What to add to each view's depth, [H, W] float32 in the views' unit, 0 where the other views have no say.

    Args:
        views: of one head, in any order; confidence weighs them.
        diagonal: of the head's bounding box, in the views' unit.
        settings: see there.

    Returns the corrections in the order of ``views``, and a line on views that were left out (these are not corrected; none is
    when fewer than two are left). Raises ValueError for no views, and as :func:`fuse_views` does.
    """
    settings = settings or CorrectionSettings()
    if not views:
        raise ValueError("no views to correct")
    # the most frontal view judges the others, which is the one whose surface splats know best
    order = sorted(range(len(views)), key=lambda i: abs(camera_yaw_elevation(views[i].camera)[0]))
    chosen, lines = choose_views([views[i] for i in order], diagonal)
    kept = sorted(order[i] for i in chosen)
    corrections = [np.zeros(view.depth.shape, np.float32) for view in views]
    if len(kept) < 2:
        return corrections, lines
    volume = fuse_views(
        [views[i] for i in kept], voxel=settings.voxel, truncation_voxels=settings.truncation_voxels, jump=settings.jump
    )
    caster = surface_caster(largest_component(extract_surface(volume)))
    for i in kept:
        rendered = caster.cast(views[i].camera).depth_map
        trusted = trusted_pixels(views[i], rendered, volume.truncation, settings)
        sigma_px = _pixels(settings.smoothing_voxels * volume.voxel, views[i])
        corrections[i] = smoothed_correction(rendered - views[i].depth, trusted, views[i].mask, sigma_px)
    return corrections, lines


def surface_caster(mesh: FusedMesh) -> RayCaster:
    """Ray caster of a fused mesh."""
    return RayCaster(HeadMesh(mesh.vertices, mesh.faces, np.zeros_like(mesh.vertices)))


def trusted_pixels(view: DepthView, rendered: np.ndarray, tolerance: float, settings: CorrectionSettings) -> np.ndarray:
    """[H, W] bool: away from the view's silhouettes and jumps, with ``rendered`` depth (0 = none) within ``tolerance``."""
    depth = np.where(view.mask, view.depth, 0)
    interior = compute_zones(depth, ZoneSettings(settings.interior_px, settings.jump)).interior
    return interior & (rendered > 0) & (np.abs(rendered - depth) < tolerance)


def smoothed_correction(difference: np.ndarray, trusted: np.ndarray, mask: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian mean [H, W] float32 of ``difference`` over ``trusted`` pixels, fading where few are near; 0 outside ``mask``."""
    weight = trusted.astype(np.float32)
    total, sums = (
        cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT)
        for values in (weight, np.where(trusted, difference, 0).astype(np.float32))
    )
    return np.where(mask, sums / np.maximum(total, 0.5), 0).astype(np.float32)


def _pixels(length: float, view: DepthView) -> float:
    """A length on the head's surface in pixels of a view."""
    return length * _focal(view.camera) / float(np.median(view.depth[view.mask]))


def _focal(camera: Camera) -> float:
    return (camera.fx + camera.fy) / 2
