"""The quality filter's numbers, who stands before the background, and duplicates."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from splathead.config import Config, ConfigError, PhotosConfig, validate
from splathead.photos import duplicates, prepare_photo
from splathead.photos.crop import CanvasCrop
from splathead.photos.detect import Face, detect_faces
from splathead.photos.duplicates import hash_from_text, hash_to_text, near_duplicates, perceptual_hash
from splathead.photos.foreground import foreground
from splathead.photos.quality import Check, blur, border_distance, check_background, check_faces, check_mask, frontality
from splathead.photos.read import Photo

LIMITS = PhotosConfig()


def face_with(box=(100, 100, 200, 200), **landmarks) -> Face:
    marks = {"eye_right": (120, 130), "eye_left": (180, 130), "nose_tip": (150, 160), **landmarks}
    return Face(np.array(box, float), 1.0, {name: np.array(mark, float) for name, mark in marks.items()})


@pytest.fixture(scope="module")
def portrait():
    """A real face in front of one grey, public domain (NASA), 330 x 363."""
    return cv2.resize(skimage.data.astronaut()[:330, 80:380], (330, 363), interpolation=cv2.INTER_CUBIC)


def test_frontality_is_the_ratio_of_the_eyes_distances_and_knows_no_tilt():
    assert frontality(face_with()) == pytest.approx(1)
    assert frontality(face_with(nose_tip=(140, 160))) == pytest.approx(20 / 40)
    assert frontality(face_with(nose_tip=(160, 150))) == pytest.approx(20 / 40)  # the other way, nearer
    assert frontality(face_with(nose_tip=(185, 160))) == 0  # a profile: the nose is beside both eyes
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    tilted = {name: turn @ mark for name, mark in face_with(nose_tip=(140, 160)).landmarks.items()}
    assert frontality(face_with(**tilted)) == pytest.approx(0.5)
    assert frontality(face_with(eye_right=(150, 130), eye_left=(150, 130))) == 0


def test_border_distance_is_of_the_nearest_side():
    photo = Photo(np.zeros((400, 300, 3), np.uint8), None)
    assert border_distance(face_with(), photo) == pytest.approx(min(100 / 300, 100 / 400, 1 - 200 / 300, 1 - 200 / 400))
    assert border_distance(face_with(box=(100, -8, 200, 200)), photo) == pytest.approx(-8 / 400)
    assert border_distance(face_with(mouth_left=(291, 180)), photo) == pytest.approx(9 / 300)


def test_mask_numbers_are_the_studys():
    mask = np.zeros((512, 512), bool)
    mask[128:384, 64:320] = True
    area, offset = check_mask(mask, LIMITS)
    assert area.value == pytest.approx(0.25) and offset.value == pytest.approx(64 / 512)
    assert area.passed and offset.passed
    (empty,) = check_mask(np.zeros((512, 512), bool), LIMITS)
    assert not empty.passed and "fills 0, expected 0.15 to 0.85" in str(empty)
    corner = np.zeros((512, 512), bool)
    corner[:230, :230] = True
    assert [check.passed for check in check_mask(corner, LIMITS)] == [True, False]
    assert [check.passed for check in check_mask(np.ones((512, 512), bool), LIMITS)] == [False, True]


def test_background_is_judged_without_the_person():
    canvas = np.full((512, 512, 3), 90, np.uint8)
    canvas[200:] = np.random.default_rng(0).integers(0, 256, (312, 512, 3))
    wall = np.zeros((512, 512), bool)
    wall[:200] = True
    assert check_background(canvas, wall, LIMITS).value == 0
    clutter = check_background(canvas, ~wall, LIMITS)
    assert clutter.value == pytest.approx(np.sqrt((256**2 - 1) / 12), rel=0.02) and not clutter.passed
    assert check_background(canvas, np.zeros((512, 512), bool), LIMITS).passed


def test_small_faces_beside_the_large_one_do_not_count():
    faces = [face_with((0, 0, 100, 120)), face_with((0, 0, 50, 50)), face_with((0, 0, 30, 30))]
    assert check_faces(faces, LIMITS).value == 2 and not check_faces(faces, LIMITS).passed
    assert check_faces([faces[0], faces[2]], LIMITS).passed
    assert str(check_faces([], LIMITS)) == "no face found" and not check_faces([], LIMITS).passed


def test_checks_say_what_they_expect():
    assert str(Check("blur", 0.9123, high=0.8)) == "blur of the face 0.912, expected at most 0.8"
    assert str(Check("frontality", 0.2, 0.55)) == "frontality 0.2, expected at least 0.55"
    assert not Check("blur", float("nan"), high=0.8).passed


def test_blur_grows_with_blur_and_not_with_the_photos_size(portrait):
    (face,) = detect_faces(portrait)
    values = [blur(Photo(portrait, None), face)]
    for sigma in (1.0, 2.0, 4.0):
        soft = cv2.GaussianBlur(portrait, (0, 0), sigma * face.size_px / 194)
        values.append(blur(Photo(soft, None), face))
    assert (np.diff(values) > 0.02).all() and values[0] < 0.6 < LIMITS.blur < values[-1]
    double = Face(2 * face.box, 1.0, {})
    enlarged = cv2.resize(portrait, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert blur(Photo(enlarged, None), double) == pytest.approx(values[0], abs=0.05)
    beside = Face(face.box - np.repeat(face.box[0], 4), 1.0, {})  # a box that reaches out of the photo
    assert 0 <= blur(Photo(portrait, None), beside) <= 1


def test_prepare_accepts_a_portrait_and_refuses_with_reasons(portrait, tmp_path):
    path = tmp_path / "ada.png"
    Image.fromarray(portrait).save(path)
    prepared = prepare_photo(path)
    assert prepared.refusal == "" and not prepared.failed
    assert prepared.describe().startswith("ada.png: accepted (faces 1, face_px 1") and "frontality 0.9" in prepared.describe()
    assert prepared.cropped.canvas.shape == (512, 512, 3) and 0.3 < prepared.cropped.mask.mean() < 0.5
    strict = prepare_photo(path, PhotosConfig(frontality=0.999, face_px=300))
    assert [check.name for check in strict.failed] == ["face_px", "frontality"]
    assert "expected at least 300; frontality 0.9" in strict.refusal and strict.cropped is not None
    Image.fromarray(skimage.data.coffee()).save(path)
    nobody = prepare_photo(path)
    assert nobody.refusal == "no face found" and nobody.cropped is None
    assert nobody.describe() == "ada.png: refused: no face found (faces 0)"


def test_grabcut_finds_a_person_and_repeats_itself(portrait):
    crop = CanvasCrop.around(detect_faces(portrait)[0])
    canvas, alpha = crop.apply(Photo(portrait, None))
    mask = foreground(canvas, alpha)
    np.testing.assert_array_equal(mask, foreground(canvas, alpha))
    assert not mask[alpha == 0].any()
    hair, chest, wall_left, wall_right = (120, 250), (440, 240), (150, 60), (150, 470)  # row, column, by eye
    assert mask[hair] and mask[chest] and not mask[wall_left] and not mask[wall_right]
    # a photo of nothing but the face has no background to learn
    close = np.zeros_like(alpha)
    close[240:320, 220:290] = 255
    np.testing.assert_array_equal(foreground(canvas, close), close > 0)


def test_grabcut_on_a_head_of_known_outline(shared_data):
    """A posed capture's head over a cluttered and over a striped background."""
    image = cv2.imread(str(shared_data / "data/facelift_sample/sample_000/images/cam_024.png"), cv2.IMREAD_UNCHANGED) / 65535
    alpha, colours = image[..., 3:], image[..., 2::-1]
    clutter = 0.5 + 4 * cv2.GaussianBlur(np.random.default_rng(0).normal(size=colours.shape), (0, 0), 12)
    stripes = np.broadcast_to(0.5 + 0.4 * np.sin(np.arange(colours.shape[1]) / 6)[None, :, None] * [1, 0.2, 0.2], colours.shape)
    for background in (np.clip(clutter, 0, 1), stripes):
        rgb = np.rint(255 * (colours * alpha + background * (1 - alpha))).astype(np.uint8)
        crop = CanvasCrop.around(detect_faces(rgb)[0])
        mask = foreground(*crop.apply(Photo(rgb, None)))
        truth = crop.apply(Photo(rgb, np.rint(255 * alpha[..., 0]).astype(np.uint8)))[1] > 127
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_the_eight_portraits_are_accepted(shared_data):
    found = {}
    for path in sorted((shared_data / "data/facelift_sample").glob("00?.png")):
        prepared = prepare_photo(path)
        assert prepared.refusal == "", path.name
        found[path.stem] = {check.name: check.value for check in prepared.checks}
        low, high = prepared.cropped.crop.to_canvas(prepared.cropped.face.box.reshape(2, 2) + np.array([[1, 1], [0, 0]]))
        np.testing.assert_allclose((high - low).mean(), 194.27, atol=0.01)
    assert len(found) == 8 and min(values["frontality"] for values in found.values()) == pytest.approx(0.747, abs=0.01)


def test_copies_have_nearly_the_same_hash_and_others_do_not(portrait):
    original = perceptual_hash(portrait)
    assert original.shape == (duplicates.HASH_BITS,)
    np.testing.assert_array_equal(hash_from_text(hash_to_text(original)), original)
    encoded = cv2.imdecode(cv2.imencode(".jpg", portrait, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    copies = [encoded, cv2.resize(portrait, (150, 160), interpolation=cv2.INTER_AREA)]
    copies += [np.clip(portrait * 1.2 + 10, 0, 255).astype(np.uint8), (255 * (portrait / 255) ** 1.4).astype(np.uint8)]
    for copy in copies:
        assert (perceptual_hash(copy) != original).mean() < 0.08 < LIMITS.near_duplicate
    for other in (skimage.data.coffee(), skimage.data.chelsea(), np.ascontiguousarray(portrait[:, ::-1])):
        assert (perceptual_hash(other) != original).mean() > 0.25


def test_near_duplicates_against_a_slow_reference(monkeypatch):
    rng = np.random.default_rng(2)
    hashes = rng.random((60, duplicates.HASH_BITS)) < 0.5
    for copy, origin, bits in ((20, 3, 10), (33, 20, 10), (34, 3, 25), (59, 58, 0), (41, 40, 26)):
        hashes[copy] = hashes[origin]
        hashes[copy, rng.choice(duplicates.HASH_BITS, bits, replace=False)] ^= True
    expected: dict[int, tuple[int, float]] = {}
    for row in range(60):
        shares = {k: float((hashes[row] != hashes[k]).mean()) for k in range(row) if k not in expected}
        nearest = min(shares, key=shares.get, default=None)
        if nearest is not None and shares[nearest] <= 0.1:
            expected[row] = (nearest, shares[nearest])
    assert set(expected) == {20, 33, 34, 59}  # 26 of 255 bits are more than a tenth
    for block in (7, 1024):
        monkeypatch.setattr(duplicates, "_BLOCK", block)
        found = near_duplicates(hashes, 0.1)
        assert {row: origin for row, (origin, _) in found.items()} == {row: origin for row, (origin, _) in expected.items()}
        np.testing.assert_allclose([found[row][1] for row in found], [expected[row][1] for row in found], atol=1e-5)
    assert near_duplicates(np.empty((0, duplicates.HASH_BITS), bool), 0.1) == {}


def test_limits_are_checked():
    for key, value in (("frontality", 1.5), ("face_px", -1.0), ("near_duplicate", 2.0)):
        config = Config()
        setattr(config.photos, key, value)
        with pytest.raises(ConfigError, match=rf"test: photos\.{key}: {value}, expected 0 to "):
            validate(config, "test")
