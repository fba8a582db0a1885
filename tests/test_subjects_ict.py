"""ICT-FaceKit: both ways of reading it, bad files, and the heads made of it (where the data is present)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splathead.subjects import ict
from splathead.subjects.generate import WearOptions
from splathead.subjects.template import locate

EDGE_MM = 4.0
QUADS = np.array([[0, 1, 2, 3], [3, 2, 4, 5]])


@pytest.fixture(scope="module")
def compact(shared_data) -> Path:
    path = shared_data / "data" / "ict_facekit" / "ict_facekit.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def write_obj(path: Path, vertices: np.ndarray, quads: np.ndarray = QUADS) -> None:
    """An OBJ as ICT-FaceKit writes it: mtllib, v, vt, groups with usemtl, quads as v/vt/vn."""
    lines = ["mtllib ICTFaceModelMaterial.mtl", *(f"v {x:.15f} {y:.15f} {z:.15f}" for x, y, z in vertices)]
    lines += ["vt 0.1 0.2", "vn 0 0 1", "usemtl M_Face", *("f " + " ".join(f"{i + 1}/1/1" for i in quad) for quad in quads)]
    path.write_text("\n".join(lines) + "\n")


def write_folder(folder: Path, shapes: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for name, vertices in shapes.items():
        write_obj(folder / f"{name}.obj", vertices)
    return folder


def full_size_shapes(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    neutral = rng.normal(0, 5, (ict.VERTEX_COUNT, 3))
    names = ("identity000", "identity001", "jawOpen", "mouthSmile_L", "mouthSmile_R")
    return {"generic_neutral_mesh": neutral, **{name: neutral + rng.normal(0, 0.1, neutral.shape) for name in names}}


def test_the_official_folder_gives_the_linear_model(tmp_path):
    shapes = full_size_shapes()
    repository = tmp_path / "ICT-FaceKit"
    write_folder(repository / "FaceXModel", shapes)
    model = ict.load_ict(repository)  # the repository or its FaceXModel folder
    assert model.expression_names == ("jawOpen", "mouthSmile_L", "mouthSmile_R") and len(model.identity) == 2
    np.testing.assert_array_equal(model.faces[:4], [[0, 1, 2], [0, 2, 3], [3, 2, 4], [3, 4, 5]])
    neutral = shapes["generic_neutral_mesh"]
    expected = neutral + 0.5 * (shapes["identity001"] - neutral) + 0.3 * (shapes["mouthSmile_R"] - neutral)
    np.testing.assert_allclose(model.vertices(np.array([0.0, 0.5]), {"mouthSmile_R": 0.3}), 10 * expected, atol=1e-4)
    ict.save_compact(tmp_path / "compact.npz", model)
    again = ict.load_ict(tmp_path / "compact.npz")
    assert again.expression_names == model.expression_names
    np.testing.assert_allclose(again.identity, model.identity, atol=1e-3)
    np.testing.assert_array_equal(again.faces, model.faces)


def test_bad_folders_and_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"github\.com/ICT-VGL"):
        ict.load_ict(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"generic_neutral_mesh\.obj"):
        ict.load_ict(tmp_path / "empty")
    shapes = full_size_shapes()
    alone = write_folder(tmp_path / "alone", {"generic_neutral_mesh": shapes["generic_neutral_mesh"]})
    with pytest.raises(FileNotFoundError, match="0 identity and 0 expression"):
        ict.load_ict(alone)
    shorter = {**shapes, "identity001": shapes["identity001"][:-5]}
    with pytest.raises(ValueError, match=r"identity001\.obj: 26714 vertices, expected 26719"):
        ict.load_ict(write_folder(tmp_path / "shorter", shorter))
    small = {name: vertices[:6] for name, vertices in shapes.items()}
    with pytest.raises(ValueError, match=r"neutral mesh of shape \(6, 3\), expected \(26719, 3\)"):
        ict.load_ict(write_folder(tmp_path / "small", small))
    torn = write_folder(tmp_path / "torn", small)
    (torn / "generic_neutral_mesh.obj").write_text("v 1 2\nv 3 4 5\n")
    with pytest.raises(ValueError, match="5 coordinates on 2 vertex lines"):
        ict.load_ict(torn)
    np.savez(tmp_path / "other.npz", neutral=np.zeros(3))
    with pytest.raises(ValueError, match="no array faces, identity"):
        ict.load_ict(tmp_path / "other.npz")
    (tmp_path / "noise.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"noise\.npz: not a compact ICT-FaceKit npz"):
        ict.load_ict(tmp_path / "noise.npz")


def test_expressions_are_symmetric_where_they_should_be():
    shapes = np.zeros((1, ict.VERTEX_COUNT, 3))
    gaze = ("eyeLookIn_L", "eyeLookOut_R", "eyeLookOut_L", "eyeLookIn_R")
    names = (*gaze, "jawOpen", "mouthSmile_L", "mouthSmile_R", "eyeBlink_L")
    model = ict.IctModel(shapes[0], np.array([[0, 1, 2]]), shapes, np.zeros((len(names), *shapes[0].shape)), names)
    for seed in range(12):
        identity, expression = ict.sample_parameters(model, seed)
        assert len(identity) == 1 and expression and "eyeBlink_L" not in expression
        assert ("mouthSmile_L" in expression) == ("mouthSmile_R" in expression)
        assert ("eyeLookIn_L" in expression) == ("eyeLookOut_R" in expression)


def test_heads_of_the_real_model(compact):
    model = ict.load_ict(compact)
    template, rows = ict.ict_template(model, EDGE_MM)
    assert len(rows) < ict.VERTEX_COUNT
    marks = locate(template.landmarks, template.canonical)
    assert marks["eye_left"][0] > 25 > -25 > marks["eye_right"][0] and marks["nose_tip"][2] > 120
    heads = [ict.ict_head(compact, seed, WearOptions(0.0, 0.0), EDGE_MM) for seed in (0, 1)]
    np.testing.assert_array_equal(ict.ict_head(compact, 0, WearOptions(0.0, 0.0), EDGE_MM).vertices, heads[0].vertices)
    difference = np.linalg.norm(heads[0].vertices - heads[1].vertices, axis=1)
    assert np.sqrt((difference**2).mean()) > 2.0
    for head in heads:
        assert head.attributes["parameters"]["expression"]
        assert 180 < head.extent_mm[1] < 330 and np.abs(head.vertices).max() < 226
    dressed = ict.ict_head(compact, 0, WearOptions(1.0, 1.0), EDGE_MM)
    assert dressed.attributes["collar"] != "none" and dressed.attributes["hair"] != "none"


def test_the_official_layout_equals_the_compact_file(compact, tmp_path):
    reference = ict.load_ict(compact)
    neutral = reference.neutral.astype(np.float64)
    shapes = {"generic_neutral_mesh": neutral}
    shapes |= {f"identity{k:03d}": neutral + reference.identity[k] for k in range(2)}
    for name in ("jawOpen", "mouthSmile_L"):
        shapes[name] = neutral + reference.expression[reference.expression_names.index(name)]
    model = ict.load_ict(write_folder(tmp_path / "FaceXModel", shapes))
    weights, expression = np.array([0.7, -0.4]), {"jawOpen": 0.5, "mouthSmile_L": 0.2}
    expected = reference.vertices(weights, expression)  # zip stops at the two weights
    np.testing.assert_allclose(model.vertices(weights, expression), expected, atol=2e-2)
