"""A head mesh and its cameras to the files that the later stages read, and back.

The fit sees ``images/`` and ``points.npz`` only: the true mesh and the true maps are for evaluation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from splathead.cameras import MM_PER_UNIT, Camera, load_cameras, save_cameras
from splathead.fusion.files import load_mesh, save_mesh
from splathead.fusion.surface import FusedMesh
from splathead.images import atomic_path, load_maps, read_png, save_maps, write_json, write_png
from splathead.raycast import Lighting, RayCaster, shaded_colours, shaded_rgba
from splathead.subjects.base import HeadMesh, mesh_sha256
from splathead.subjects.rig import SubjectCameras

CLOUD_NOISE_MM = 3.0
CLOUD_COLOUR_NOISE = 0.05
CLOUD_OUTLIERS = 0.02
"""share of the initial cloud's points that lie anywhere in the head's neighbourhood, as false matches do"""
_CLOUD_VIEW_SIZE = 72


@dataclass(frozen=True)
class SubjectLabel:
    """What a subject is called and where it belongs."""

    name: str
    identity: str
    source: str
    split: str
    seed: int
    scale: str = "metric"  # "metric", or "nominal" where the true size is unknown


def write_subject(folder: Path, head: HeadMesh, cameras: SubjectCameras, label: SubjectLabel, init_points: int) -> None:
    """Write subject.json, mesh.ply, cameras_*.json, images/, truth/ and points.npz of ``head`` into ``folder``.

    Images are shaded RGBA (straight alpha, 8 bit) of the fit and held-out views; truth holds depth (float32 mm),
    normals (camera axes) and mask of the map views; points.npz is a sparse noisy cloud, see :func:`sparse_cloud`.
    """
    folder = Path(folder)
    caster, lighting = RayCaster(head), Lighting.sample(label.seed)
    for camera in [*cameras.fit, *cameras.heldout]:
        write_png(folder / "images" / f"{camera.name}.png", shaded_rgba(caster, camera, lighting))
    for camera in cameras.maps:
        hits = caster.cast(camera)
        mask = hits.mask
        if not mask.any():
            raise ValueError(f"subject {label.name}: view {camera.name} sees nothing of the head; check its size and axes")
        normals = hits.normal_map().astype(np.float16)
        maps = {"alpha": mask, "mask": mask, "depth": hits.depth_map, "normal": normals}
        save_maps(folder / "truth" / f"{camera.name}.npz", maps)
    for group in ("fit", "heldout", "maps"):
        save_cameras(folder / f"cameras_{group}.json", getattr(cameras, group))
    points, colours = sparse_cloud(caster, cameras.fit, lighting, init_points, np.random.default_rng([label.seed, 0x5F4]))
    with atomic_path(folder / "points.npz") as temporary:
        np.savez(temporary, points=points, colours=colours)
    save_mesh(folder / "mesh.ply", _as_fused(head), scale=label.scale)
    write_json(folder / "subject.json", _description(head, label))


def _as_fused(head: HeadMesh) -> FusedMesh:
    return FusedMesh(head.vertices, head.faces, np.rint(np.clip(head.colours, 0, 1) * 255).astype(np.uint8))


def _description(head: HeadMesh, label: SubjectLabel) -> dict:
    return {
        "name": label.name, "identity": label.identity, "source": label.source, "split": label.split, "seed": label.seed,
        "scale": label.scale, "unit": "mm", "mm_per_unit": MM_PER_UNIT,
        "diagonal_mm": float(np.linalg.norm(head.extent_mm)), "vertices": len(head.vertices), "faces": len(head.faces),
        "mesh_sha256": mesh_sha256(head),
        "landmarks": {name: [round(float(v), 4) for v in position] for name, position in head.landmarks.items()},
        "attributes": head.attributes,
    }  # fmt: skip


def sparse_cloud(
    caster: RayCaster, cameras: list[Camera], lighting: Lighting, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A cloud as structure from motion would give: points [N, 3] mm and colours [N, 3] in [0, 1], float32.

    Surface points that ``cameras`` see, with Gaussian noise of 3 mm and 0.05 in colour, and 2 % outliers.
    """
    seen = [caster.cast(camera.resized(_CLOUD_VIEW_SIZE)) for camera in cameras]
    points = np.concatenate([hits.points_world() for hits in seen])
    colours = np.concatenate([shaded_colours(hits, lighting) for hits in seen])
    if not len(points):
        raise ValueError("no fit view sees the head, so there is no initial cloud; check the head's size and axes")
    chosen = rng.choice(len(points), count, replace=count > len(points))
    points = points[chosen] + rng.normal(0, CLOUD_NOISE_MM, (count, 3))
    colours = np.clip(colours[chosen] + rng.normal(0, CLOUD_COLOUR_NOISE, (count, 3)), 0, 1)
    low, high = points.min(0), points.max(0)
    outliers = rng.random(count) < CLOUD_OUTLIERS
    points[outliers] = rng.uniform(low, high, (int(outliers.sum()), 3))
    colours[outliers] = rng.random((int(outliers.sum()), 3))
    return points.astype(np.float32), colours.astype(np.float32)


@dataclass(frozen=True)
class LoadedSubject:
    """A subject's folder; files are read when asked for."""

    folder: Path
    info: dict
    cameras: SubjectCameras

    def image(self, name: str) -> np.ndarray:
        """RGBA [H, W, 4] uint8 of a fit or held-out view."""
        return read_png(self.folder / "images" / f"{name}.png", channels=4, bits=8)

    @property
    def has_truth(self) -> bool:
        """True when the subject has a true mesh and true maps."""
        return (self.folder / "mesh.ply").is_file()

    def truth(self, name: str) -> dict[str, np.ndarray]:
        """True ``depth`` [H, W] float32 mm, ``mask`` [H, W] bool and ``normal`` [H, W, 3] float32 of a map view."""
        maps = load_maps(self.folder / "truth" / f"{name}.npz", ("depth", "mask", "normal"))
        return {"depth": maps["depth"], "mask": maps["mask"], "normal": maps["normal"].astype(np.float32)}

    @cached_property
    def mesh(self) -> HeadMesh:
        """The true mesh with vertex colours."""
        loaded = load_mesh(self.folder / "mesh.ply")
        if loaded.colours is None:
            raise ValueError(f"{self.folder / 'mesh.ply'}: no vertex colours")
        landmarks = {name: np.array(position) for name, position in self.info["landmarks"].items()}
        return HeadMesh(loaded.vertices, loaded.faces, loaded.colours / 255.0, landmarks, self.info["attributes"])

    def initial_cloud(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 3] mm and colours [N, 3] in [0, 1] that fits start from."""
        with np.load(self.folder / "points.npz", allow_pickle=False) as archive:
            return archive["points"], archive["colours"]


def load_subject(folder: Path) -> LoadedSubject:
    """Open a subject's folder (generated, scan or capture); errors name the file that is missing or wrong."""
    folder = Path(folder)
    path = folder / "subject.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such subject")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    groups = [load_cameras(folder / f"cameras_{group}.json") for group in ("fit", "heldout", "maps")]
    return LoadedSubject(folder, info, SubjectCameras(*groups))
