"""Hair-like geometry: a displaced cap with ridges along the strands, curls, and hanging locks as tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splathead.subjects.base import HeadMesh
from splathead.subjects.detail import band_noise, smoothstep
from splathead.subjects.skin import Regions
from splathead.subjects.template import HeadTemplate

STYLES = ("cropped", "combed", "curly", "long")
_THICKNESS_MM = {"cropped": (2.0, 5.0), "combed": (6.0, 14.0), "curly": (10.0, 22.0), "long": (5.0, 10.0)}
_LOCKS = 230
_LOCK_SIDES = 6
_LOCK_STEPS = 44
_LOCK_STEP_MM = 5.0


@dataclass(frozen=True)
class Hairdo:
    """A sampled hair style."""

    style: str
    thickness_mm: float
    shift_mm: float  # the hairline moves back (positive) or forward
    length_mm: float  # of hanging locks

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Hairdo:
        """Draw a style and its measures."""
        style = str(rng.choice(STYLES))
        return cls(style, float(rng.uniform(*_THICKNESS_MM[style])), float(rng.uniform(-4, 10)), float(rng.uniform(110, 200)))


@dataclass(frozen=True)
class _Flow:
    """Polar coordinates around the crown: strands run along ``polar`` (from the crown), ridges lie across ``turn``."""

    polar: np.ndarray  # [V] radians
    turn: np.ndarray  # [V] radians


def cap_displacement(
    template: HeadTemplate, regions: Regions, points: np.ndarray, hairdo: Hairdo, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Outward displacement of the scalp [V] in mm and the hair's coverage [V] in [0, 1]."""
    inside = regions.hairline_mm - hairdo.shift_mm + 2.5 * band_noise(template.canonical, rng, (8, 30))
    cover = smoothstep(inside, -1.0, 3.0)
    profile = np.sqrt(np.clip(inside / (4 + 1.2 * hairdo.thickness_mm), 0, 1))
    flow = _crown_flow(template.canonical, rng)
    if hairdo.style == "curly":
        curls = 0.6 * np.abs(band_noise(points, rng, (7, 16))) + 0.35 * np.abs(band_noise(points, rng, (3.5, 7)))
        relief = 0.16 * hairdo.thickness_mm * (curls - 0.6)
    else:
        depth = {"cropped": 0.25, "combed": 0.8, "long": 0.7}[hairdo.style]
        relief = depth * (0.8 * ridges(flow, rng, (5, 12)) + 0.5 * ridges(flow, rng, (2.8, 5)))
    waves = 1 + 0.18 * band_noise(points, rng, (30, 70))
    return profile * (hairdo.thickness_mm * waves + relief), cover


def _crown_flow(canonical: np.ndarray, rng: np.random.Generator) -> _Flow:
    axis = np.array([rng.uniform(-0.25, 0.25), 0.88, -0.48])
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    centre = np.array([0.0, 45.0, 5.0])
    offset = canonical - centre
    along = offset @ axis
    x, y = offset @ np.cross(side, axis), offset @ side
    return _Flow(np.arctan2(np.hypot(x, y), along), np.arctan2(x, y))


def ridges(flow: _Flow, rng: np.random.Generator, wavelengths_mm: tuple[float, float], waves: int = 12) -> np.ndarray:
    """Unit-RMS ridges [V] that follow the strands: whole numbers of waves around the crown, slowly sheared."""
    total = np.zeros(len(flow.polar))
    for _ in range(waves):
        wavelength = np.exp(rng.uniform(*np.log(wavelengths_mm)))
        count = max(8, round(2 * np.pi * 90.0 / wavelength))
        total += np.sin(count * flow.turn + rng.normal(0, 5.0) * flow.polar + rng.uniform(0, 2 * np.pi))
    return total * np.sqrt(2.0 / waves) * smoothstep(flow.polar, 0.05, 0.5)  # they would be too thin near the crown


def hair_colour(base: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3] of hair at ``points`` [V, 3] around the head's hair colour ``base`` [3]."""
    tone = 1 + 0.16 * band_noise(points, rng, (2.5, 7)) + 0.12 * band_noise(points, rng, (20, 60))
    return np.clip(base * np.clip(tone, 0.4, 1.8)[:, None] + 0.015, 0, 1)


def hanging_locks(
    points: np.ndarray, normals: np.ndarray, roots: np.ndarray, hairdo: Hairdo, colour: np.ndarray, rng: np.random.Generator
) -> HeadMesh:
    """Locks of hair [HeadMesh] as closed tapering tubes rooted at some of the vertices ``roots`` of ``points`` [V, 3]."""
    chosen = rng.choice(roots, min(_LOCKS, len(roots)), replace=False)
    path = _lock_paths(points[chosen], normals[chosen], points, hairdo, rng)
    count, steps = path.shape[:2]
    lengths = hairdo.length_mm * rng.uniform(0.8, 1.1, count)
    travelled = np.arange(steps) * _LOCK_STEP_MM
    share = np.minimum(travelled[None] / lengths[:, None], 1)
    # past its length a lock stops: later rings collapse onto the tip
    last = np.minimum((lengths / _LOCK_STEP_MM).astype(int), steps - 1)
    index = np.minimum(np.arange(steps)[None], last[:, None])
    path = np.take_along_axis(path, index[..., None], 1)
    radius = rng.uniform(2.6, 4.6, count)[:, None] * np.sqrt(np.clip(1 - share**3, 0, 1)) * np.clip(0.4 + travelled / 20, 0, 1)
    vertices = _tubes(path, radius)
    strand = np.repeat(np.arange(count), steps * _LOCK_SIDES)
    tint = np.clip(1 + 0.2 * rng.normal(size=count), 0.5, 1.6)[strand]
    albedo = hair_colour(colour, vertices, rng) * tint[:, None]
    return HeadMesh(vertices, _tube_faces(count, steps), np.clip(albedo, 0, 1))


def _lock_paths(
    roots: np.ndarray, normals: np.ndarray, points: np.ndarray, hairdo: Hairdo, rng: np.random.Generator
) -> np.ndarray:
    """Centre lines [N, S, 3]: out of the scalp, over the head's ellipsoid, then down by gravity."""
    top, half = points[:, 1].max(), np.abs(points[:, 0]).max()
    centre = np.array([0.0, top - 105.0, points[:, 2].mean() - 12.0])
    back = centre[2] - points[points[:, 1] > top - 120, 2].min()
    radii = np.array([half, 108.0, back]) + hairdo.thickness_mm * 0.5
    position = roots.copy()
    away = np.sign(roots[:, 0] + rng.normal(0, 4, len(roots)))
    heading = 0.4 * normals + np.stack([0.8 * away, np.zeros(len(roots)), np.full(len(roots), -0.7)], axis=1)
    sway = rng.normal(0, 0.12, (len(roots), 3))
    lift = 1 + rng.uniform(-0.02, 0.05, len(roots))
    path = [position.copy()]
    for step in range(1, _LOCK_STEPS):
        heading += np.array([0.0, -0.55, 0.0]) + sway * np.sin(step * 0.35 + away)[:, None]
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        position = position + _LOCK_STEP_MM * heading
        relative = (position - centre) / radii
        relative[:, 1] = np.maximum(relative[:, 1], 0)  # below the ears the head is a cylinder
        depth = np.linalg.norm(relative, axis=1) / lift
        pushed = depth < 1
        relative[pushed] *= (1 / np.maximum(depth[pushed], 0.2) - 1)[:, None]
        relative[~pushed] = 0
        position = position + relative * radii
        heading = (position - path[-1]) / _LOCK_STEP_MM
        path.append(position.copy())
    return np.stack(path, axis=1)


def _tubes(path: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Rings of ``_LOCK_SIDES`` vertices around paths [N, S, 3] with radii [N, S], flattened to [V, 3]."""
    tangent = np.gradient(path, axis=1)
    length = np.linalg.norm(tangent, axis=2, keepdims=True)
    tangent = np.where(length > 1e-9, tangent / np.maximum(length, 1e-9), [0.0, -1.0, 0.0])
    reference = np.where(np.abs(tangent[..., 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    first = np.cross(tangent, reference)
    first /= np.linalg.norm(first, axis=2, keepdims=True)
    second = np.cross(tangent, first)
    angle = 2 * np.pi * np.arange(_LOCK_SIDES) / _LOCK_SIDES
    ring = first[:, :, None] * np.cos(angle)[:, None] + second[:, :, None] * np.sin(angle)[:, None]
    return (path[:, :, None] + radius[:, :, None, None] * ring).reshape(-1, 3)


def _tube_faces(count: int, steps: int) -> np.ndarray:
    """Side and end faces of ``count`` tubes of ``steps`` rings."""
    sides = _LOCK_SIDES
    ring = np.arange(sides)
    following = (ring + 1) % sides
    here = (np.arange(steps - 1)[:, None] * sides + ring).ravel()
    there = (np.arange(steps - 1)[:, None] * sides + following).ravel()
    quads = [np.stack([here, there, here + sides], 1), np.stack([there, there + sides, here + sides], 1)]
    end = (steps - 1) * sides
    fan = np.arange(1, sides - 1)
    ends = [np.stack([np.zeros_like(fan), fan + 1, fan], 1), np.stack([np.full_like(fan, end), end + fan, end + fan + 1], 1)]
    faces = np.concatenate(quads + ends)
    return (faces[None] + (np.arange(count) * steps * sides)[:, None, None]).reshape(-1, 3)
