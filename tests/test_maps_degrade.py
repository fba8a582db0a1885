"""Degradations against slow masked references, OpenCV and torch."""

import cv2
import numpy as np
import pytest
import torch

from splathead.maps.degrade import KERNELS, STUDY_DEGRADATIONS, Degradation, degrade, downsample


def slow_downsample(depth: np.ndarray, mask: np.ndarray, factor: int, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """The definition as a loop: weights of the tensor-product kernel over every pixel, empty ones left out."""
    _, stretched, weight = KERNELS[kernel]
    stretch = factor if stretched else 1
    height, width = (side // factor for side in depth.shape)
    low, covered = np.zeros((height, width)), np.zeros((height, width), bool)

    def axis_weights(cell: int, size: int) -> np.ndarray:
        offsets = np.arange(-8 * factor, size + 8 * factor) + 0.5 - (cell + 0.5) * factor
        values = weight(offsets / stretch)
        return (values / values.sum())[8 * factor : 8 * factor + size]

    for i in range(height):
        for j in range(width):
            weights = np.outer(axis_weights(i, depth.shape[0]), axis_weights(j, depth.shape[1]))
            total = weights[mask].sum()
            covered[i, j] = total >= 0.5 - 1e-5
            low[i, j] = (weights * depth)[mask].sum() / total if covered[i, j] else 0
    return low, covered


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downsample_equals_the_slow_reference(kernel, factor):
    rng = np.random.default_rng(1)
    depth = rng.uniform(400, 500, (24, 36)).astype(np.float32)
    mask = cv2.GaussianBlur(rng.random(depth.shape), (0, 0), 2) > 0.5
    low, low_mask = downsample(np.where(mask, depth, 0), mask, factor, kernel)
    expected, expected_mask = slow_downsample(depth, mask, factor, kernel)
    np.testing.assert_array_equal(low_mask, expected_mask)
    np.testing.assert_allclose(low, expected, atol=1e-3)
    assert (low[~low_mask] == 0).all() and 0 < low_mask.sum() < low_mask.size


def test_kernels_are_those_of_opencv_and_torch():
    depth = np.random.default_rng(2).uniform(400, 500, (64, 64)).astype(np.float32)
    mask = np.ones_like(depth, bool)
    tensor = torch.from_numpy(depth)[None, None].double()
    expected = {
        "area": cv2.resize(depth, (16, 16), interpolation=cv2.INTER_AREA),
        "bicubic": cv2.resize(depth, (16, 16), interpolation=cv2.INTER_CUBIC),
        "bicubic_antialiased": torch.nn.functional.interpolate(tensor, size=(16, 16), mode="bicubic", antialias=True)[0, 0],
        "point": depth[1::4, 1::4],
    }
    for kernel, low in expected.items():
        np.testing.assert_allclose(downsample(depth, mask, 4, kernel)[0], low, atol=2e-3, err_msg=kernel)


def test_no_empty_pixel_enters_an_average():
    depth = np.full((32, 32), 450.0, np.float32)
    mask = np.arange(32)[None, :] + np.zeros((32, 1)) < 18
    for kernel in KERNELS:
        low, low_mask = downsample(np.where(mask, depth, 0), mask, 4, kernel)
        np.testing.assert_allclose(low[low_mask], 450, atol=1e-4, err_msg=kernel)


def test_noise_and_bits():
    y = np.linspace(0, 1, 128)[:, None] ** 1.7
    depth = (400 + 100 * y * np.ones((1, 128))).astype(np.float32)
    mask = np.ones_like(depth, bool)
    clean, _ = degrade(depth, mask, 4, Degradation("area"))
    noisy, _ = degrade(depth, mask, 4, Degradation("area", noise_fraction=0.02), np.random.default_rng(0))
    again, _ = degrade(depth, mask, 4, Degradation("area", noise_fraction=0.02), np.random.default_rng(0))
    np.testing.assert_array_equal(noisy, again)
    assert np.std(noisy - clean) == pytest.approx(0.02 * np.ptp(clean), rel=0.1)
    for bits in range(6, 11):
        coded, _ = degrade(depth, mask, 4, Degradation("area", bits=bits))
        lsb = np.ptp(clean) / (2**bits - 2)
        error = np.abs(coded - clean).max()
        assert 0.2 * lsb < error <= 0.5 * lsb + 1e-4
        assert coded.min() == pytest.approx(clean.min(), abs=1e-4) and coded.max() == pytest.approx(clean.max(), abs=1e-4)


def test_study_names_and_errors():
    assert STUDY_DEGRADATIONS["bicubic_noise"].noise_fraction == 0.02 and STUDY_DEGRADATIONS["bicubic_8bit"].bits == 8
    depth, mask = np.full((8, 8), 450.0, np.float32), np.ones((8, 8), bool)
    with pytest.raises(ValueError, match="multiples of the factor 3"):
        downsample(depth, mask, 3, "area")
    with pytest.raises(ValueError, match="empty mask"):
        degrade(depth, np.zeros_like(mask), 4, Degradation("area"))
    with pytest.raises(ValueError, match="random generator"):
        degrade(depth, mask, 4, Degradation("area", noise_fraction=0.1))
    with pytest.raises(ValueError, match="kernel 'lanczos', expected one of area"):
        Degradation("lanczos")
    with pytest.raises(ValueError, match="bits 17"):
        Degradation("area", bits=17)
