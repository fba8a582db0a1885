"""Collar-like geometry: a folded band of cloth around the neck, its shape taken from the neck's own outline."""

from __future__ import annotations

import numpy as np

from splathead.subjects.base import HeadMesh
from splathead.subjects.detail import band_noise
from splathead.subjects.template import HeadTemplate

_TURNS = 480
"""vertices around the neck (about 1 mm apart)"""
_NECK_BINS = 72
# cross-sections: (distance from the neck, height above the collar's middle) in mm, inside first, closed
PROFILES = {
    "turtleneck": ((1.0, -26.0), (1.0, 22.0), (2.5, 25.0), (5.5, 25.0), (7.5, 22.0), (8.5, 4.0), (6.0, 1.0), (8.0, -26.0)),
    "shirt": ((2.0, -22.0), (2.0, 20.0), (3.0, 22.0), (5.0, 21.0), (13.0, -8.0), (12.0, -9.5), (5.0, 0.0), (6.0, -22.0)),
    "crew": ((1.5, -20.0), (1.5, -2.0), (3.0, 1.5), (6.0, 1.5), (8.5, -2.0), (10.0, -20.0)),
}


def make_collar(vertices: np.ndarray, neck: np.ndarray, rng: np.random.Generator) -> tuple[HeadMesh, str]:
    """A collar around the head's ``vertices`` [V, 3]; ``neck`` are the indices of its neck. Returns mesh and style."""
    style = str(rng.choice(list(PROFILES)))
    angle = 2 * np.pi * np.arange(_TURNS) / _TURNS
    axis = vertices[neck][:, [0, 2]].mean(0)
    radius, rim = _outline(vertices[neck], axis, angle)
    outline = _resample(np.array(PROFILES[style]) * rng.uniform([0.8, 0.75], [1.4, 1.05]), spacing=1.2)
    # along the neck's rim, so higher at the nape than under the chin, and a little askew
    middle = rim + rng.uniform(12, 17) + rng.uniform(-3, 3) * np.sin(angle)
    reach = radius[:, None] + outline[None, :, 0]
    height = middle[:, None] + outline[None, :, 1]
    points = np.stack([axis[0] + reach * np.sin(angle)[:, None], height, axis[1] + reach * np.cos(angle)[:, None]], -1)
    outward = np.stack([np.sin(angle), np.zeros(_TURNS), np.cos(angle)], -1)[:, None]
    flat = points.reshape(-1, 3)
    folds = 0.5 * band_noise(flat, rng, (12, 35)) + 0.12 * band_noise(flat, rng, (2.5, 5))
    flat = (points + outward * np.maximum(folds, -0.8).reshape(*points.shape[:2], 1)).reshape(-1, 3)
    return HeadMesh(flat, _torus_faces(_TURNS, len(outline)), _cloth(flat, height.ravel(), angle, rng)), style


def neck_vertices(template: HeadTemplate) -> np.ndarray:
    """Indices of the neck's skin within 30 mm of the cut, without the cut's own surface."""
    return np.flatnonzero(template.is_part("skin") & (template.above_cut_mm > 0.5) & (template.above_cut_mm < 30.0))


def _outline(neck: np.ndarray, axis: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest distance from the ``axis`` and lowest height of the neck in each direction [T], smoothed around."""
    offset = neck[:, [0, 2]] - axis
    turn = np.arctan2(offset[:, 0], offset[:, 1])
    bins = ((turn / (2 * np.pi)) % 1 * _NECK_BINS).astype(int) % _NECK_BINS
    rim = np.full(_NECK_BINS, np.inf)
    np.minimum.at(rim, bins, neck[:, 1])
    covered = neck[:, 1] < rim[bins] + 25.0
    reach = np.zeros(_NECK_BINS)
    np.maximum.at(reach, bins[covered], np.hypot(*offset[covered].T))
    filled = reach > 0
    centres = (np.arange(_NECK_BINS) + 0.5) * 2 * np.pi / _NECK_BINS
    kernel = np.array([1.0, 4, 6, 4, 1]) / 16
    curves = []
    for curve in (reach, rim):
        curve = np.interp(centres, centres[filled], curve[filled], period=2 * np.pi)
        smooth = sum(weight * np.roll(curve, shift) for weight, shift in zip(kernel, range(-2, 3)))
        curves.append(np.interp(angle, centres, smooth, period=2 * np.pi))
    return curves[0] + 0.5, curves[1]


def _resample(outline: np.ndarray, spacing: float) -> np.ndarray:
    """Points about ``spacing`` apart along a closed polygon [P, 2]."""
    closed = np.vstack([outline, outline[:1]])
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    samples = np.linspace(0, travelled[-1], int(travelled[-1] / spacing), endpoint=False)
    return np.stack([np.interp(samples, travelled, closed[:, k]) for k in range(2)], axis=1)


def _torus_faces(turns: int, ring: int) -> np.ndarray:
    """Faces of a torus grid [turns, ring] whose ring runs up the inside and down the outside."""
    index = np.arange(turns * ring).reshape(turns, ring)
    a, b = index, np.roll(index, -1, 0)
    c, d = np.roll(index, -1, 1), np.roll(np.roll(index, -1, 0), -1, 1)
    quads = [np.stack([a, b, c], -1), np.stack([b, d, c], -1)]
    return np.concatenate([quad.reshape(-1, 3) for quad in quads])


def _cloth(points: np.ndarray, height: np.ndarray, angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3]: plain, striped or checked cloth."""
    base, other = rng.uniform(0.08, 0.9, (2, 3))
    pattern = rng.choice(["plain", "stripes", "checks"])
    tint = np.tile(base, (len(points), 1))
    if pattern != "plain":
        stripes = np.sin(height * 2 * np.pi / rng.uniform(6, 14)) > 0.3
        if pattern == "checks":
            stripes ^= np.repeat(np.sin(angle * rng.integers(14, 30)) > 0.3, len(points) // len(angle))
        tint[stripes] = other
    return np.clip(tint * (1 + 0.06 * band_noise(points, rng, (2, 5)))[:, None], 0, 1)
