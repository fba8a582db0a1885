"""Joint bilateral smoothing of normals, guided by colour."""

from __future__ import annotations

import numpy as np


def joint_bilateral_normals(
    normals: np.ndarray,
    mask: np.ndarray,
    guide: np.ndarray,
    *,
    diameter_px: int = 9,
    sigma_px: float = 30.0,
    sigma_colour: float = 30.0,
) -> np.ndarray:
    """Unit normals [H, W, 3] float32 averaged over neighbours of similar colour (Petschnig et al., SIGGRAPH 2004).

    The published study's settings are the defaults (OpenCV's ``d = 9``, both sigmas 30; opencv-python-headless lacks
    the joint filter, which is in its contrib modules). The neighbourhood is a disc; the result is renormalised.

    Args:
        normals: [H, W, 3] unit, anything outside of ``mask``.
        mask: [H, W] bool; other pixels take no part and come out as zero.
        guide: [H, W, 3] uint8 colours.
        diameter_px: diameter of the neighbourhood.
        sigma_px: spatial standard deviation.
        sigma_colour: standard deviation of the colour difference (L1 over the channels as in OpenCV, 0..765).
    """
    radius = diameter_px // 2
    pad = ((radius, radius), (radius, radius), (0, 0))
    colours = np.pad(guide.astype(np.float32), pad)
    values = np.pad(normals.astype(np.float32) * mask[..., None], pad)  # empty pixels add nothing
    height, width = mask.shape
    centre = colours[radius : radius + height, radius : radius + width]
    total = np.zeros((height, width, 3), np.float32)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx > radius * radius:
                continue
            window = (slice(radius + dy, radius + dy + height), slice(radius + dx, radius + dx + width))
            difference = np.abs(colours[window] - centre).sum(axis=2)
            exponent = difference**2 / (2 * sigma_colour**2) + (dy * dy + dx * dx) / (2 * sigma_px**2)
            total += np.exp(-exponent)[..., None] * values[window]
    length = np.linalg.norm(total, axis=2, keepdims=True)
    return np.where(mask[..., None], np.divide(total, length, out=np.zeros_like(total), where=length > 0), 0)
