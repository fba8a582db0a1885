"""Landmarks and ECC on a photo with a known similarity; errors instead of guesses."""

import cv2
import numpy as np
import pytest

from splathead.cameras import orbit_camera
from splathead.maps.align import Alignment, align_photo, depth_at, fit_similarity, image_landmarks, project_landmarks


def textured_head(size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """RGB with smooth texture on black, and its mask."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(size, size, 3)), (0, 0), 4)
    y, x = np.mgrid[:size, :size]
    mask = ((y - 80) / 62) ** 2 + ((x - 78) / 48) ** 2 < 1
    return np.where(mask[..., None], np.clip(130 + 900 * noise, 20, 250), 0).astype(np.uint8), mask


def similarity(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def photo_of(render: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Sample the render at every photo pixel's centre (+0.5), independently of the code under test."""
    v, u = np.mgrid[:size, :size] + 0.5
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    source = apply(inverse, np.stack([u, v], -1).reshape(-1, 2)).reshape(size, size, 2).astype(np.float32) - 0.5
    return cv2.remap(render, source[..., 0], source[..., 1], cv2.INTER_CUBIC)


def test_alignment_recovers_a_known_similarity_from_rough_landmarks():
    render, mask = textured_head()
    truth = similarity(4.0, 1.5, (7.3, -5.1))
    photo = photo_of(render, truth, 256)
    photo = np.clip(photo.astype(float) * 0.8 + 25, 0, 255).astype(np.uint8)  # other exposure: ECC does not mind
    points = np.array([[60.0, 70], [98, 72], [79, 90], [65, 110], [95, 108]])
    rough = apply(truth, points) + np.random.default_rng(0).normal(0, 2.0, points.shape)
    names = ["eye_right", "eye_left", "nose_tip", "mouth_right", "mouth_left"]
    alignment = align_photo(render, mask, photo, dict(zip(names, points)), dict(zip(names, rough)))
    inside = np.array([[50.0, 50], [106, 50], [106, 110], [50, 110]])
    assert np.abs(apply(alignment.matrix, inside) - apply(truth, inside)).max() < 0.4  # OpenCV places samples to 1/32 px
    assert np.abs(apply(fit_similarity(points, rough), inside) - apply(truth, inside)).max() > 1.0  # ECC did something
    assert alignment.correlation > 0.95
    warped = alignment.warp(photo, 160, 160).astype(float)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert np.abs((warped - 25) / 0.8 - render)[inner].mean() < 5


def test_pixel_centres():
    """A photo of twice the size has its centres at twice the coordinates: no half-pixel shift anywhere."""
    matrix = similarity(0, 2.0, (0, 0))
    ramp = np.repeat((np.arange(64) + 0.5)[None, :, None] * np.ones((64, 1, 1)), 3, axis=2)
    warped = Alignment(matrix, 1.0).warp(ramp.astype(np.float32), 32, 32)
    np.testing.assert_allclose(warped[16, 2:-2, 0], 2 * (np.arange(2, 30) + 0.5), atol=1e-3)


def test_fit_similarity_is_exact_and_refuses_degenerate_points():
    truth = similarity(-30, 0.7, (3, 4))
    points = np.array([[0.0, 0], [10, 2], [3, 9]])
    np.testing.assert_allclose(fit_similarity(points, apply(truth, points)), truth, atol=1e-12)
    with pytest.raises(ValueError, match="at one place"):
        fit_similarity(np.ones((3, 2)), points)


def test_no_landmarks_and_wrong_landmarks_are_errors():
    render, mask = textured_head()
    with pytest.raises(ValueError, match=r"photo x\.png: no landmarks.*no landmark detector"):
        image_landmarks(None, render, None, "photo x.png")
    with pytest.raises(ValueError, match="found no face"):
        image_landmarks({}, render, lambda image: {}, "photo x.png")
    found = image_landmarks(None, render, lambda image: {"nose_tip": (image.shape[1] / 2, 3)}, "photo")
    np.testing.assert_array_equal(found["nose_tip"], [80, 3])
    with pytest.raises(ValueError, match="1 landmarks in both images"):
        align_photo(render, mask, render, {"nose_tip": np.zeros(2)}, {"nose_tip": np.zeros(2), "eye": np.ones(2)})
    three = {"a": np.array([60.0, 70]), "b": np.array([98.0, 72]), "c": np.array([79.0, 110])}
    other = cv2.GaussianBlur(np.random.default_rng(9).integers(0, 255, render.shape).astype(np.uint8), (0, 0), 4)
    with pytest.raises(ValueError, match="alignment: ECC"):
        align_photo(render, mask, other, three, three)


def test_projected_landmarks_and_depth_under_a_pixel():
    camera = orbit_camera(0, 0, 64)
    pixels = project_landmarks({"nose_tip": [0, 0, 90], "behind": [0, 0, 900]}, camera)
    assert set(pixels) == {"nose_tip"} and project_landmarks({}, camera) == {}
    np.testing.assert_allclose(pixels["nose_tip"], [32, 32])
    depth, mask = np.full((64, 64), 400.0), np.ones((64, 64), bool)
    depth[32, 32] = 0
    mask[32, 32] = False
    assert depth_at(depth, mask, pixels["nose_tip"], "view") == 400
    with pytest.raises(ValueError, match=r"view: pixel \(70.0, 3.0\) lies outside"):
        depth_at(depth, mask, np.array([70.0, 3.0]), "view")
