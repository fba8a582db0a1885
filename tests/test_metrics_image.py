"""PSNR and SSIM against scikit-image, LPIPS with real weights or honestly absent."""

from __future__ import annotations

import logging
import math
import socket
from urllib.error import URLError

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from splathead.metrics.image import MAX_PSNR_DB, lpips_model, psnr, psnr_from_rmse, ssim, ssim_map


def images(seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:80, :96] / 20.0
    reference = np.stack([np.sin(rows + k) * np.cos(columns * (k + 1)) for k in range(3)], axis=-1) * 0.4 + 0.5
    return np.clip(reference + rng.normal(scale=noise, size=reference.shape), 0, 1), reference


def test_psnr_equals_scikit_image_and_is_finite_for_equal_images():
    image, reference = images()
    assert psnr(image, reference) == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=1.0))
    assert psnr(image * 255, reference * 255, peak=255.0) == pytest.approx(psnr(image, reference))
    assert psnr(reference, reference) == MAX_PSNR_DB
    assert math.isnan(psnr_from_rmse(math.nan, 1.0))
    with pytest.raises(ValueError, match="peak 0"):
        psnr_from_rmse(0.1, 0.0)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_equals_scikit_image(noise):
    image, reference = images(noise=noise)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected, expected_map = structural_similarity(reference, image, data_range=1.0, channel_axis=2, full=True, **window)
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(ssim_map(image, reference), expected_map, atol=1e-9)
    grey = ssim_map(image[..., 1], reference[..., 1])
    assert grey.shape == image.shape[:2]
    np.testing.assert_allclose(grey, ssim_map(image, reference)[..., 1], atol=1e-12)
    assert ssim(reference, reference) == pytest.approx(1.0)


def test_images_that_do_not_fit_are_errors():
    image, reference = images()
    with pytest.raises(ValueError, match="expected the same"):
        psnr(image[:-1], reference)
    with pytest.raises(ValueError, match="NaN"):
        psnr(np.full((4, 4), np.nan), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(image[:10], reference[:10])


def test_lpips_with_local_weights_grows_with_distortion(shared_data):
    metric = lpips_model(shared_data / "weights")
    _, reference = images()
    distances = [metric(images(noise=noise)[0], reference) for noise in (0.0, 0.02, 0.1, 0.3)]
    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert distances == sorted(distances) and distances[-1] > 0.2
    assert metric(reference, images(noise=0.1)[0]) == pytest.approx(distances[2], rel=1e-4)  # symmetric
    with pytest.raises(ValueError, match=r"values in 0\.\.1"):
        metric(reference * 255, reference)


def test_lpips_folder_comes_from_the_environment(shared_data, monkeypatch):
    monkeypatch.setenv("SPLATHEAD_LPIPS", str(shared_data / "weights"))
    image, reference = images()
    assert lpips_model()(image, reference) == lpips_model(shared_data / "weights")(image, reference)


def test_lpips_never_runs_on_random_or_foreign_weights(tmp_path):
    import torch
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match=r"lpips_alex\.safetensors"):
        lpips_model(tmp_path)
    save_file({"net.slice1.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "lpips_alex.safetensors")
    with pytest.raises(ValueError, match=r"missing.*net\.slice5\.10\.weight"):
        lpips_model(tmp_path)
    with pytest.raises(ValueError, match="backbone 'squeeze'"):
        lpips_model(net="squeeze")


def test_lpips_without_network_is_none_and_says_why(monkeypatch, tmp_path, caplog):
    import torch

    def unreachable(*_args, **_kwargs):
        assert socket.getdefaulttimeout() is not None
        raise URLError("no route to host")

    monkeypatch.delenv("SPLATHEAD_LPIPS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing cached
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    before = socket.getdefaulttimeout()
    with caplog.at_level(logging.WARNING):
        assert lpips_model() is None
    assert "not measured" in caplog.text and "no route to host" in caplog.text and "SPLATHEAD_LPIPS" in caplog.text
    assert socket.getdefaulttimeout() == before
