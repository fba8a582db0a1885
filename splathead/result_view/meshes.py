"""The meshes of a result folder as the viewer shows them: before and after, each coloured by its distance to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splathead.fusion import FusedMesh, load_mesh
from splathead.metrics.surface import Surface
from splathead.report.viewer import ViewerMesh, signed_distances, viewer_subject
from splathead.result_view.folder import ResultFolder
from splathead.result_view.pictures import nice_range

BEFORE, AFTER = "before", "enhanced"
MAX_SAMPLES = 20_000
"""vertices from which the range of colours is chosen"""


@dataclass(frozen=True)
class MeshPair:
    """The enhanced mesh, the one before (None where there is none) and the distance that colours span."""

    after: FusedMesh
    before: FusedMesh | None
    change_range: float
    surface_before: Surface | None = None
    """``before``, indexed"""
    small_after: FusedMesh | None = None
    small_before: FusedMesh | None = None
    """both as the viewer shows them, where that was made before"""

    def viewer_data(self, name: str, max_faces: int) -> dict:
        """:func:`splathead.report.viewer.viewer_subject` of both, of at most ``max_faces`` triangles each."""
        if self.before is None:
            entries = [ViewerMesh(AFTER, self.after, small=self.small_after)]
        else:  # blue is outwards in both panes: seen from the mesh before, it is the other mesh that moved
            entries = [
                ViewerMesh(
                    BEFORE, self.before, Surface.build(self.after.vertices, self.after.faces), sign=-1, small=self.small_before
                ),
                ViewerMesh(AFTER, self.after, self.surface_before, small=self.small_after),
            ]
        return viewer_subject(name, entries, max_faces=max_faces, error_range=self.change_range)

    def scale_texts(self, unit: str) -> tuple[str, str]:
        """What lies at the ends of the colours of change."""
        limit = f"{self.change_range:g} {unit}"
        return f"−{limit}, moved outwards", f"+{limit}, moved inwards; saturated beyond"


def load_meshes(result: ResultFolder) -> MeshPair | None:
    """The meshes of a result; None where it has none. ValueError names a file that is no mesh."""
    if "mesh_ply" not in result.files:
        return None
    after = load_role(result, "mesh_ply")
    before = load_role(result, "mesh_before") if "mesh_before" in result.files else None
    return mesh_pair(after, before)


def mesh_pair(after: FusedMesh, before: FusedMesh | None) -> MeshPair:
    """A pair of meshes, with the distance between them that colours span."""
    if before is None:
        return MeshPair(after, None, 1.0)
    some = after.vertices[:: max(1, len(after.vertices) // MAX_SAMPLES)]
    surface = Surface.build(before.vertices, before.faces)
    return MeshPair(after, before, nice_range(signed_distances(some, surface)), surface)


def load_role(result: ResultFolder, role: str) -> FusedMesh:
    """The mesh ``role`` of a result. ValueError names a file that is no mesh."""
    path = result.files[role]
    try:
        mesh = load_mesh(path)
    except Exception as error:  # trimesh raises whatever its parser stumbles over
        raise ValueError(f"{path}: not a readable mesh ({error})") from error
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path}: a mesh of {len(mesh.faces)} faces, expected some, with finite vertices")
    return mesh
