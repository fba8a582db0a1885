"""Data of the report's mesh viewer: decimated meshes as quantised base64 buffers in one JSON element.

Positions are 16-bit fractions of one box per subject, so that all its meshes stay aligned to within 1/65535 of
the box; colours and signed distances to the true surface are 8-bit. ``assets/viewer.js`` reads it.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.fusion import FusedMesh, decimated
from splathead.metrics.surface import Surface
from splathead.report.panels import ERROR_COLOURS, colour_gradient

UNCOLOURED = 178
"""grey of meshes without colours"""


@dataclass(frozen=True)
class ViewerMesh:
    """One mesh to show."""

    label: str
    mesh: FusedMesh
    truth: Surface | None = None
    """surface to colour errors by; None: there is none, or the mesh is the truth"""
    sign: int = 1
    """-1: the colours say where ``truth`` lies as seen from the mesh, not where the mesh lies as seen from it"""
    small: FusedMesh | None = None
    """:func:`decimated_with_colours` of the mesh, where that was made before"""


def viewer_subject(name: str, meshes: Sequence[ViewerMesh], *, max_faces: int, error_range: float) -> dict:
    """JSON-ready data of one subject's meshes, decimated to ``max_faces``; errors saturate at +-``error_range`` (mm)."""
    small = [entry.small or decimated_with_colours(entry.mesh, max_faces) for entry in meshes]
    corner = np.min([mesh.vertices.min(0) for mesh in small], axis=0).astype(np.float64)
    size = np.maximum(np.max([mesh.vertices.max(0) for mesh in small], axis=0) - corner, 1e-6)
    packed = [_packed(entry, mesh, corner, size, error_range) for entry, mesh in zip(meshes, small)]
    return {"name": name, "corner": corner.tolist(), "size": size.tolist(), "meshes": packed}


def viewer_json(subjects: Sequence[dict]) -> str:
    """The viewer's data as text that is safe inside a ``<script>`` element."""
    return json.dumps({"subjects": list(subjects)}, separators=(",", ":")).replace("<", "\\u003c")


def viewer_markup(data: str = "", error_name: str = "", scale: tuple[str, str] = ("", ""), source: str = "") -> str:
    """HTML that ``assets/viewer.js`` brings to life.

    ``data`` is the text of :func:`viewer_json`; without it the page fetches that from ``source``. ``error_name`` is what
    signed distances are called, empty where there are none; ``scale`` says what lies at the ends of their colours.
    """
    subjects = json.loads(data)["subjects"] if data else []
    options = "".join(f'<option value="{i}">{html.escape(subject["name"])}</option>' for i, subject in enumerate(subjects))
    chooser = f'<label class="group"><span class="name">Head</span><select>{options}</select></label>' * (len(subjects) > 1)
    names = ["shaded", "colour", "normals"] + [error_name] * bool(error_name)
    modes = "".join(
        f'<button type="button" data-mode="{i}" aria-pressed="{"true" if i == 0 else "false"}">{html.escape(name)}</button>'
        for i, name in enumerate(names)
    )
    bar = (
        f'<div class="bar" hidden><span>{html.escape(scale[0])}</span>'
        f'<i style="background:{colour_gradient(ERROR_COLOURS)}"></i><span>{html.escape(scale[1])}</span></div>'
    )
    fetched = f' data-source="{html.escape(source)}"' if source else ""
    inline = f'<script type="application/json" id="viewer-data">{data}</script>' if data else ""
    return (
        f'<div id="viewer"{fetched}><div class="controls">{chooser}'
        f'<div class="group"><span class="name">Show</span>{modes}</div>'
        f'<div class="group"><span class="name">Panes</span><span class="meshes group"></span></div></div>{bar}'
        f'<div class="viewer"><canvas tabindex="0" role="img" aria-label="Meshes side by side"></canvas>'
        f'<div class="labels"></div></div></div>{inline}'
    )


def decimated_with_colours(mesh: FusedMesh, max_faces: int) -> FusedMesh:
    """The mesh with few faces; colours are those of the nearest original vertices."""
    from scipy.spatial import cKDTree

    small = decimated(mesh, max_faces)
    if mesh.colours is not None:
        small.colours = mesh.colours[cKDTree(mesh.vertices).query(small.vertices)[1]]
    return small


def _packed(entry: ViewerMesh, mesh: FusedMesh, corner: np.ndarray, size: np.ndarray, error_range: float) -> dict:
    wide = len(mesh.vertices) > 2**16
    colours = mesh.colours if mesh.colours is not None else np.full(mesh.vertices.shape, UNCOLOURED, dtype=np.uint8)
    errors = None
    if entry.truth is not None:
        share = entry.sign * signed_distances(mesh.vertices, entry.truth) / error_range
        errors = _base64(np.rint(np.clip(share * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8))
    return {
        "label": entry.label, "wide": wide,
        "positions": _base64(np.rint((mesh.vertices - corner) / size * 65535).astype("<u2")),
        "colours": _base64(colours), "errors": errors,
        "indices": _base64(mesh.faces.astype("<u4" if wide else "<u2")),
    }  # fmt: skip


def signed_distances(points: np.ndarray, surface: Surface) -> np.ndarray:
    """Signed distance [N] of points [N, 3] to the closest triangle; negative is outside, as depth in front is."""
    distance, face = surface.closest(points)
    offset = np.asarray(points, dtype=np.float64) - surface.vertices[surface.faces[face, 0]]
    outside = (offset * surface.face_normals[face]).sum(axis=1) > 0
    return np.where(outside, -distance, distance)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
