"""The fused loss of fits against its plain torch definition, and the definition against known answers."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from splathead.fitting.losses import Box, LossWeights, dissimilarity, mean_depth_std, subject_box, torch_view_loss, view_loss
from splathead.metrics.image import ssim

BACKGROUND = torch.tensor([0.2, 0.7, 0.4])


def rendered_view(height: int = 44, width: int = 37) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features [5, H, W], alpha [H, W] and a photo [4, H, W] uint8; a band of rays misses the surface."""
    generator = torch.Generator().manual_seed(3)
    alpha = 0.6 + 0.4 * torch.rand(height, width, generator=generator)
    alpha[:6] = 0.3
    mean = 5 * torch.randn(height, width, generator=generator)
    variance = 1 + 40 * torch.rand(height, width, generator=generator)
    colour = torch.rand(3, height, width, generator=generator) * alpha
    features = torch.cat([colour, (alpha * mean)[None], (alpha * (mean * mean + variance))[None]])
    photo = (255 * torch.rand(4, height, width, generator=generator)).to(torch.uint8)
    return features, alpha, photo


def value_and_gradients(loss, dtype: torch.dtype, weights: LossWeights, box: Box, channels: int) -> tuple[torch.Tensor, ...]:
    features, alpha, photo = rendered_view()
    features = features[:channels].to(dtype).requires_grad_()
    alpha = alpha.to(dtype).requires_grad_()
    value = loss(features, alpha, photo, BACKGROUND.to(dtype), weights, box)
    (3 * value).backward()
    return value.detach(), features.grad, alpha.grad


@pytest.mark.parametrize("box", [Box(0, 44, 0, 37), Box(5, 40, 3, 30), Box(0, 8, 0, 37)])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.2, 0.0), (0.0, 0.01), (0.3, 0.01)])
@pytest.mark.parametrize("channels", [3, 5])
def test_fused_loss_equals_definition(box, weights, channels):
    if weights[1] > 0 and channels == 3:
        pytest.skip("the depth penalty needs depth")
    if weights[0] > 0 and box.y1 - box.y0 < 11:
        pytest.skip("the definition needs a box of at least one window; the fused loss leaves SSIM out")
    weights = LossWeights(*weights)
    expected = value_and_gradients(torch_view_loss, torch.float64, weights, box, channels)
    found = value_and_gradients(view_loss, torch.float32, weights, box, channels)
    for want, got in zip(expected, found):
        assert torch.allclose(got.double(), want, rtol=0, atol=2e-5 * float(want.abs().max()))


def test_depth_penalty_needs_depth():
    features, alpha, photo = rendered_view()
    with pytest.raises(ValueError, match=r"features \[5, H, W\]"):
        view_loss(features[:3], alpha, photo, BACKGROUND, LossWeights(0.0, 0.1), Box(0, 44, 0, 37))


def test_dissimilarity_is_one_minus_the_metric():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 40, 30, 3))
    tensors = (torch.from_numpy(image.transpose(2, 0, 1)) for image in (first, second))
    windows = 30 * 20
    assert float(dissimilarity(*tensors)) / windows == pytest.approx(1 - ssim(first, second), abs=1e-9)


def test_depth_std_of_two_layers():
    weights = torch.tensor([[0.5, 0.3], [0.5, 0.1]])  # two splats on two rays: 0.5 + 0.5 at z = -4 and 6; 0.4 misses
    z = torch.tensor([-4.0, 6.0])[:, None]
    alpha = weights.sum(0)[None]
    std = mean_depth_std((weights * z).sum(0)[None], (weights * z * z).sum(0)[None], alpha)
    assert float(std) == pytest.approx(5.0)


def test_fused_loss_is_the_same_with_any_thread_count():
    weights, box = LossWeights(0.2, 0.01), Box(0, 44, 0, 37)
    results = []
    threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
            results.append(value_and_gradients(view_loss, torch.float32, weights, box, 5))
    finally:
        torch.set_num_threads(threads)
        numba.set_num_threads(numba_threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_subject_box():
    mask = torch.zeros(50, 40, dtype=torch.bool)
    mask[20:25, 3:30] = True
    assert subject_box(mask, margin=11) == Box(9, 36, 0, 40)
    assert subject_box(torch.zeros(50, 40, dtype=torch.bool)) == Box(0, 50, 0, 40)
