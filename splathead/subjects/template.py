"""A parametric head model made ready: fixed topology, semantic parts and landmarks shared by all its heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from splathead.subjects.subdivide import cap, clip, longest_boundary_loop, loop_refine, refine_to_length

PARTS = ("skin", "eye_left", "eye_right", "teeth", "tongue", "cavity")
"""what a vertex belongs to; ``cavity`` is the inside of the mouth and of the eye sockets"""
LANDMARKS = (
    "nose_tip", "chin", "eye_left", "eye_right", "mouth_left", "mouth_right", "lip_top", "lip_bottom", "ear_left", "ear_right",
)  # fmt: skip
"""every template has these; ``lip_top`` and ``lip_bottom`` are the red's edges on the middle line"""


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """Topology and semantics of a parametric head. Left is the subject's left, +X."""

    steps: tuple[sp.csr_matrix, ...]  # base vertices to fine vertices: applied in turn (their product is far denser)
    faces: np.ndarray  # [F, 3] int32
    canonical: np.ndarray  # [V, 3] the neutral head, normalised, mm
    parts: np.ndarray  # [V] index into PARTS
    fine: np.ndarray  # [V] in [0, 1]: the mesh is fine enough here for the shortest detail band
    above_cut_mm: np.ndarray  # [V] distance of the neutral head's vertices from the plane that cuts the neck
    landmarks: dict[str, np.ndarray]  # name -> fine vertices whose mean is the landmark

    def is_part(self, *names: str) -> np.ndarray:
        """[V] bool: the vertex belongs to one of the named parts."""
        return np.isin(self.parts, [PARTS.index(name) for name in names])

    def upsample(self, base: np.ndarray) -> np.ndarray:
        """Fine vertices [V, 3] of base vertices [B, 3], normalised to the head's own origin."""
        vertices = apply_steps(self.steps, base)
        return vertices - head_origin(locate(self.landmarks, vertices))


def apply_steps(steps: Iterable[sp.csr_matrix], values: np.ndarray) -> np.ndarray:
    """Apply subdivision operators in turn to per-vertex ``values`` [B, C]."""
    for step in steps:
        values = step @ values
    return values


def locate(landmarks: dict[str, np.ndarray], vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Landmark positions [3]: the mean of each landmark's ``vertices`` [V, 3]."""
    return {name: vertices[indices].mean(0) for name, indices in landmarks.items()}


ELSEWHERE_FACTOR = 1.9
MAX_FINE_EDGE_MM = 1.5
"""coarser faces cannot carry the shortest detail band"""


def head_origin(landmarks: dict[str, np.ndarray]) -> np.ndarray:
    """Origin [3] of the normalised frame: midway between the ears in x and z; in y, halfway between the ears'
    height and the face centre's (mean of eyes and mouth corners)."""
    ears = (landmarks["ear_left"] + landmarks["ear_right"]) / 2
    face = np.mean([landmarks[name] for name in ("eye_left", "eye_right", "mouth_left", "mouth_right")], axis=0)
    return np.array([ears[0], (ears[1] + face[1]) / 2, ears[2]])


def build_template(
    base: np.ndarray,
    faces: np.ndarray,
    base_parts: np.ndarray,
    landmarks: dict[str, np.ndarray],
    cut: tuple[np.ndarray, np.ndarray],
    edge_mm: float,
    loop_levels: int,
) -> HeadTemplate:
    """Template of a model with neutral vertices ``base`` [B, 3] mm, triangles ``faces`` and parts [B].

    ``landmarks`` are neutral positions [3] near the surface; ``cut`` is a point and a unit normal: the neck is cut
    there, what lies behind the plane is dropped and the opening closed. ``loop_levels`` Loop steps run everywhere;
    then edges longer than ``edge_mm`` (front of the face) or ``ELSEWHERE_FACTOR`` times that are split.
    """
    missing = set(LANDMARKS) - set(landmarks)
    if missing:
        raise ValueError(f"template without landmarks {sorted(missing)}")
    one_hot = np.eye(len(PARTS))[base_parts]
    state = np.concatenate([base, one_hot], axis=1)  # positions and part weights go through the same operators
    steps: list[sp.csr_matrix] = []

    def advance(step: sp.csr_matrix) -> None:
        nonlocal state
        steps.append(step)
        state = step @ state

    for _ in range(loop_levels):
        step, faces = loop_refine(faces, len(state))
        advance(step)
    step, faces = clip(faces, (state[:, :3] - cut[0]) @ cut[1])
    advance(step)
    step, faces = cap(faces, longest_boundary_loop(faces, state[:, :3]), len(state), rings=4)
    advance(step)
    front = (state[:, 2] > landmarks["ear_left"][2] + 15.0) & (state[:, 1] > landmarks["chin"][1] - 30.0)
    visible = ("skin", "eye_left", "eye_right")
    coarse = state[:, [3 + PARTS.index(name) for name in visible]].sum(1) < 0.5
    coarse |= (state[:, :3] - cut[0]) @ cut[1] < 0.5  # the cut's own surface
    lengths = np.where(coarse, 1e6, np.where(front, edge_mm, ELSEWHERE_FACTOR * edge_mm))
    for step, refined in refine_to_length(state[:, :3], faces, lengths, levels=3):
        advance(step)
        front, faces = step @ front, refined
    vertices, parts = state[:, :3], state[:, 3:].argmax(1)
    indices = {name: _landmark_vertices(name, position, vertices, parts) for name, position in landmarks.items()}
    canonical = vertices - head_origin(locate(indices, vertices))
    fine = np.clip(front, 0, 1) * (edge_mm <= MAX_FINE_EDGE_MM)
    above = (vertices - cut[0]) @ cut[1]
    return HeadTemplate(tuple(steps), faces.astype(np.int32), canonical, parts, fine, above, indices)


def _landmark_vertices(name: str, position: np.ndarray, vertices: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The whole eye for eyes, the surroundings for ears (their shape varies), else the nearest vertex of the skin."""
    if name in PARTS:
        return np.flatnonzero(parts == PARTS.index(name))
    skin = np.flatnonzero(parts == 0)
    distance = np.linalg.norm(vertices[skin] - position, axis=1)
    if name.startswith("ear"):
        return skin[distance < 12.0]
    return skin[[distance.argmin()]]
