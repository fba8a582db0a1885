"""The loss of :mod:`splathead.fitting.losses` on a CPU: value and gradients in a few passes (numba).

Threads take image rows from a counter (:mod:`splathead.raster.cpu.parallel`), and no sum crosses rows
before the last, serial one: the result has the same bits for any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import torch
from torch import Tensor

from splathead.fitting.losses import (
    ALPHA_SURFACE,
    MAX_DEPTH_STD_MM,
    MIN_DEPTH_VARIANCE_MM2,
    SSIM_C1,
    SSIM_C2,
    SSIM_WINDOW_PX,
    Box,
    LossWeights,
    gaussian_window,
)  # fmt: skip
from splathead.raster.cpu.parallel import next_item, run_shared

_f = np.float32
_REACH = SSIM_WINDOW_PX - 1  # a window filter shortens a line by this much
_K0, _K1, _K2, _K3, _K4, _K5 = (_f(tap) for tap in gaussian_window()[:6])
_C1, _C2 = _f(SSIM_C1), _f(SSIM_C2)
_BYTE = _f(1.0 / 255.0)


class _DepthLimits(NamedTuple):
    """Thresholds that kernels are given: what they import, numba's cache would keep after an edit."""

    alpha: np.float32
    min_variance: np.float32
    max_variance: np.float32


# A row is always summed by one thread, so that reordering within it does not depend on the number of threads.
_kernel = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})


class _FusedViewLoss(torch.autograd.Function):
    """The gradients are computed with the value, so backward only scales them."""

    @staticmethod
    def forward(ctx, features, alpha, target, background, weights, box):
        grad_features, grad_alpha = torch.empty_like(features), torch.empty_like(alpha)
        value = _loss_and_gradients(
            features.detach().numpy(), alpha.detach().numpy(), target.numpy(), background.numpy(), weights, box,
            grad_features.numpy(), grad_alpha.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(grad_features, grad_alpha)
        return features.new_tensor(value)

    @staticmethod
    def backward(ctx, grad_loss):
        grad_features, grad_alpha = ctx.saved_tensors
        return grad_features * grad_loss, grad_alpha * grad_loss, None, None, None, None


def fused_view_loss(
    features: Tensor, alpha: Tensor, target: Tensor, background: Tensor, weights: LossWeights, box: Box
) -> Tensor:
    """:func:`splathead.fitting.losses.view_loss` for float32 CPU tensors."""
    return _FusedViewLoss.apply(features.contiguous(), alpha.contiguous(), target, background.float(), weights, box)


def _loss_and_gradients(features, alpha, target, background, weights, box, grad_features, grad_alpha) -> float:
    """Fill the gradients, return the loss. Arrays as in ``view_loss``, C-contiguous."""
    height, width = alpha.shape
    pair = np.empty((2, 3, height, width), np.float32)  # rendered and expected colours over the background
    row_loss = np.zeros((4, height))  # L1 and depth, then SSIM by channel
    l1_weight = _f((1.0 - weights.ssim) / (3 * height * width))
    limits = _DepthLimits(_f(ALPHA_SURFACE), _f(MIN_DEPTH_VARIANCE_MM2), _f(MAX_DEPTH_STD_MM**2))
    std_weight = _f(weights.depth_std / max(1, np.count_nonzero(alpha > limits.alpha)))
    run_shared(
        _colour_and_depth, height, features, alpha, target, background, l1_weight, std_weight, limits,
        pair, grad_features, grad_alpha, row_loss,
    )  # fmt: skip
    inner_height, inner_width = box.y1 - box.y0 - _REACH, box.x1 - box.x0 - _REACH
    if weights.ssim > 0 and inner_height > 0 and inner_width > 0:
        crop = np.ascontiguousarray(pair[:, :, box.y0 : box.y1, box.x0 : box.x1])
        ssim_weight = _f(weights.ssim / (3 * height * width))
        filtered = np.empty((3, 4, inner_height + _REACH, inner_width), np.float32)
        partials = np.zeros((3, 3, inner_height + 2 * _REACH, inner_width + 2 * _REACH), np.float32)
        run_shared(_filter_moments, 3 * crop.shape[2], crop, filtered)
        run_shared(_ssim_partials, 3 * inner_height, filtered, ssim_weight, partials, row_loss)
        run_shared(_ssim_gradient, crop.shape[2], crop, partials, background, box.y0, box.x0, grad_features, grad_alpha)
    return float(row_loss.sum())


@_kernel
def _colour_and_depth(
    counter, rows, features, alpha, target, background, l1_weight, std_weight, limits, pair, grad_features, grad_alpha, row_loss
):
    """L1 and depth spread per row; ``pair`` [2, 3, H, W] receives the images that SSIM compares."""
    width = alpha.shape[1]
    clear, cover = np.empty(width, np.float32), np.empty(width, np.float32)
    y = next_item(counter)
    while y < rows:
        for x in range(width):
            clear[x] = _f(1.0) - alpha[y, x]
            cover[x] = _f(target[3, y, x]) * _BYTE
            grad_alpha[y, x] = _f(0.0)
        total = 0.0
        for c in range(3):
            total += _colour_line(
                features[c, y], clear, target[c, y], cover, background[c], l1_weight,
                pair[0, c, y], pair[1, c, y], grad_features[c, y], grad_alpha[y],
            )  # fmt: skip
        if features.shape[0] == 5:
            total += _depth_line(
                features[3, y], features[4, y], alpha[y], std_weight, limits,
                grad_features[3, y], grad_features[4, y], grad_alpha[y],
            )  # fmt: skip
        row_loss[0, y] = total
        y = next_item(counter)


@_kernel
def _colour_line(colour, clear, photo, cover, backdrop, weight, rendered, expected, grad_colour, grad_alpha):
    """One row of one channel over the background; returns its L1."""
    subtotal = _f(0.0)
    for x in range(colour.shape[0]):
        expected[x] = _f(photo[x]) * _BYTE * cover[x] + (_f(1.0) - cover[x]) * backdrop
        rendered[x] = colour[x] + clear[x] * backdrop
        difference = rendered[x] - expected[x]
        slope = weight * (_f(difference > _f(0.0)) - _f(difference < _f(0.0)))
        grad_colour[x] = slope
        grad_alpha[x] -= slope * backdrop
        subtotal += abs(difference)
    return subtotal * weight


@_kernel
def _depth_line(sum_z, sum_z_squared, alpha, weight, limits, grad_z, grad_z_squared, grad_alpha):
    """Depth spread of one row; returns its part of the loss."""
    subtotal = _f(0.0)
    for x in range(alpha.shape[0]):
        grad_z[x] = _f(0.0)
        grad_z_squared[x] = _f(0.0)
        if weight > 0 and alpha[x] > limits.alpha:
            mean, mean_square = sum_z[x] / alpha[x], sum_z_squared[x] / alpha[x]
            variance = mean_square - mean * mean
            std = np.sqrt(min(max(variance, limits.min_variance), limits.max_variance))
            subtotal += std
            if variance > limits.min_variance and variance < limits.max_variance:
                scale = weight * _f(0.5) / (std * alpha[x])
                grad_z[x] = -_f(2.0) * mean * scale
                grad_z_squared[x] = scale
                grad_alpha[x] -= (mean_square - _f(2.0) * mean * mean) * scale
    return subtotal * weight


@_kernel
def _filter_along_row(source, result, length):
    """Symmetric window filter of a line of ``length`` + 10 values."""
    for x in range(length):
        result[x] = (
            _K0 * (source[x] + source[x + 10]) + _K1 * (source[x + 1] + source[x + 9]) + _K2 * (source[x + 2] + source[x + 8])
            + _K3 * (source[x + 3] + source[x + 7]) + _K4 * (source[x + 4] + source[x + 6]) + _K5 * source[x + 5]
        )  # fmt: skip


@_kernel
def _filter_down_rows(rows, result, length):
    """The same filter across 11 lines [11, length]."""
    for x in range(length):
        result[x] = (
            _K0 * (rows[0, x] + rows[10, x]) + _K1 * (rows[1, x] + rows[9, x]) + _K2 * (rows[2, x] + rows[8, x])
            + _K3 * (rows[3, x] + rows[7, x]) + _K4 * (rows[4, x] + rows[6, x]) + _K5 * rows[5, x]
        )  # fmt: skip


@_kernel
def _filter_moments(counter, jobs, crop, filtered):
    """x, y, x^2 + y^2 and x y of each (channel, row) filtered along the row.

    crop: [2, 3, h, w], rendered x and expected y; filtered: [3, 4, h, w - 10].
    """
    height, width = crop.shape[2:]
    moment = np.empty(width, np.float32)
    job = next_item(counter)
    while job < jobs:
        c, y = job // height, job % height
        image, reference = crop[0, c, y], crop[1, c, y]
        _filter_along_row(image, filtered[c, 0, y], width - 10)
        _filter_along_row(reference, filtered[c, 1, y], width - 10)
        for x in range(width):
            moment[x] = image[x] * image[x] + reference[x] * reference[x]
        _filter_along_row(moment, filtered[c, 2, y], width - 10)
        for x in range(width):
            moment[x] = image[x] * reference[x]
        _filter_along_row(moment, filtered[c, 3, y], width - 10)
        job = next_item(counter)


@_kernel
def _ssim_partials(counter, jobs, filtered, weight, partials, row_loss):
    """SSIM of each (channel, row of windows) and its derivatives to mean x, mean (x^2 + y^2) and mean x y.

    partials: [3 derivatives, 3 channels, h + 10, w + 10]; the windows are in the middle, zeros around them.
    """
    height, width = filtered.shape[2] - 10, filtered.shape[3]
    means = np.empty((4, width), np.float32)
    job = next_item(counter)
    while job < jobs:
        c, y = job // height, job % height
        for k in range(4):
            _filter_down_rows(filtered[c, k, y : y + 11], means[k], width)
        row_loss[1 + c, y] = _ssim_line(means, weight, partials[0, c, y + 10], partials[1, c, y + 10], partials[2, c, y + 10])
        job = next_item(counter)


@_kernel
def _ssim_line(means, weight, to_mean, to_squares, to_product):
    """One line of windows: returns its loss and writes the loss's derivatives at an offset of 10."""
    subtotal = _f(0.0)
    for x in range(means.shape[1]):
        mean_x, mean_y, squares, product = means[0, x], means[1, x], means[2, x], means[3, x]
        mean_squares, mean_product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
        n1, n2 = _f(2.0) * mean_product + _C1, _f(2.0) * (product - mean_product) + _C2
        d1, d2 = _f(1.0) / (mean_squares + _C1), _f(1.0) / (squares - mean_squares + _C2)
        similarity = n1 * n2 * d1 * d2
        subtotal += _f(1.0) - similarity
        to_mean[x + 10] = _f(-2.0) * weight * (mean_y * (n2 - n1) * d1 * d2 + mean_x * similarity * (d2 - d1))
        to_squares[x + 10] = weight * similarity * d2
        to_product[x + 10] = _f(-2.0) * weight * n1 * d1 * d2
    return subtotal * weight


@_kernel
def _ssim_gradient(counter, rows, crop, partials, background, y0, x0, grad_features, grad_alpha):
    """Carry the windows' derivatives back to the rendered pixels of each row and add them to the gradients."""
    width = crop.shape[3]
    down, lines = np.empty(width + 10, np.float32), np.empty((3, width), np.float32)
    y = next_item(counter)
    while y < rows:
        for c in range(3):
            for k in range(3):
                _filter_down_rows(partials[k, c, y : y + 11], down, width + 10)
                _filter_along_row(down, lines[k], width)
            backdrop = background[c]
            for x in range(width):
                slope = lines[0, x] + _f(2.0) * crop[0, c, y, x] * lines[1, x] + crop[1, c, y, x] * lines[2, x]
                grad_features[c, y0 + y, x0 + x] += slope
                grad_alpha[y0 + y, x0 + x] -= slope * backdrop
        y = next_item(counter)
