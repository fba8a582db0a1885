"""The head mesh that every mesh source produces, its normalisation and its fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

LATTICE_PER_MM = 4096
"""Vertices lie on a lattice of 1/4096 mm: exact in float32, and equal across machines whose maths libraries
round the last bit of float64 differently, so that a frozen SHA-256 stays valid."""


@dataclass
class HeadMesh:
    """A head's true surface: millimetres, +Y up, +Z front, origin between the ears' height and the face's centre."""

    vertices: np.ndarray  # [V, 3] float32 mm
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside
    colours: np.ndarray  # [V, 3] float32 albedo in [0, 1]
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)  # name -> [3] world mm, "nose_tip" for instance
    attributes: dict = field(default_factory=dict)  # JSON-ready: parameters, hair, collar ...
    face_uv: np.ndarray | None = None  # [F, 3, 2] texture coordinates of each face's corners, v = 0 is the top row
    texture: np.ndarray | None = None  # [H, W, 3] uint8 sRGB; replaces ``colours`` where present

    def __post_init__(self) -> None:
        self.vertices = np.ascontiguousarray(self.vertices, dtype=np.float32)
        self.faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        self.colours = np.ascontiguousarray(self.colours, dtype=np.float32)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or not len(self.vertices):
            raise ValueError(f"head mesh: vertices of shape {self.vertices.shape}, expected [V, 3] with V > 0")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or not len(self.faces):
            raise ValueError(f"head mesh: faces of shape {self.faces.shape}, expected [F, 3] with F > 0")
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise ValueError(
                f"head mesh: face indices {self.faces.min()}..{self.faces.max()}, expected 0..{len(self.vertices) - 1}"
            )
        if not np.isfinite(self.vertices).all():
            raise ValueError("head mesh: vertices with NaN or infinity")
        if self.colours.shape != self.vertices.shape:
            raise ValueError(f"head mesh: colours of shape {self.colours.shape}, expected {self.vertices.shape}")
        if (self.texture is None) != (self.face_uv is None):
            raise ValueError("head mesh: texture and face_uv come together or not at all")

    @cached_property
    def vertex_normals(self) -> np.ndarray:
        """Unit vertex normals [V, 3] float32."""
        return vertex_normals(self.vertices, self.faces).astype(np.float32)

    @property
    def extent_mm(self) -> np.ndarray:
        """Size of the bounding box [3]."""
        return self.vertices.max(0) - self.vertices.min(0)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit vertex normals [V, 3] float64; a vertex without area gets 0."""
    from splathead.mesh_kernels import sum_face_normals

    normals = sum_face_normals(vertices, faces)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1)


def quantised(mesh: HeadMesh) -> HeadMesh:
    """The mesh with vertices on the 1/4096 mm lattice and 8-bit colours: what mesh.ply stores without loss."""
    return replace(
        mesh,
        vertices=np.rint(np.asarray(mesh.vertices, dtype=np.float64) * LATTICE_PER_MM) / LATTICE_PER_MM,
        colours=np.rint(np.clip(mesh.colours, 0, 1).astype(np.float64) * 255) / 255,
    )


def mesh_sha256(mesh: HeadMesh) -> str:
    """SHA-256 of geometry and vertex colours (float32, int32 and uint8 little-endian bytes with their counts)."""
    digest = hashlib.sha256(f"{len(mesh.vertices)} {len(mesh.faces)} ".encode())
    digest.update(mesh.vertices.astype("<f4").tobytes())
    digest.update(mesh.faces.astype("<i4").tobytes())
    digest.update(np.rint(np.clip(mesh.colours, 0, 1) * 255).astype(np.uint8).tobytes())
    return digest.hexdigest()


def concatenated(parts: list[HeadMesh]) -> HeadMesh:
    """One mesh of several untextured parts; landmarks and attributes are the first part's."""
    if any(part.texture is not None for part in parts):
        raise ValueError("concatenated: parts with a texture cannot be joined")
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    return replace(
        parts[0],
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)]),
        colours=np.concatenate([part.colours for part in parts]),
    )
