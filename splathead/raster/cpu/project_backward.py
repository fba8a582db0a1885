"""Gradients of the splats' image-plane moments back to the raw Gaussian parameters.

With L the triangular factor of the inverse covariance (S^-1 = L L^T, see project.py) and P = J R M:
dL/dm = L m1 and dL/dP = L (M2 Q), Q = L^T P, where m1 and M2 are the first and second moments of v u.
Working with the whitened axes Q keeps needle-shaped splats accurate.
"""

from __future__ import annotations

import numpy as np

from splathead.raster.cpu.jit import inline, kernel
from splathead.raster.cpu.layout import (
    GRAD_FEATURES,
    GRAD_LINE,
    GRAD_LOG_ALPHA,
    GRAD_U1,
    GRAD_U2,
    GRAD_U11,
    GRAD_U12,
    GRAD_U22,
    WHITEN_SCALE,
)
from splathead.raster.cpu.parallel import next_item
from splathead.raster.cpu.project import (
    DILATION,
    FX,
    FY,
    GAUSSIANS_PER_ITEM,
    LANE_ROWS,
    MAX_SLOPE_X,
    MAX_SLOPE_Y,
    MIN_SLOPE_X,
    MIN_SLOPE_Y,
    X,
    Y,
    Z,
    covariance_factor,
    cross,
    dot,
    gather,
    jacobian_rows,
    load_opacity,
    load_scales,
    load_unit_quaternion,
    projected_axes,
    rotation_matrix,
)
from splathead.raster.cpu.simd import LANES, broadcast, load, select, store

_ONE, _TWO = np.float32(1.0), np.float32(2.0)
_PER_U = np.float32(1.0 / WHITEN_SCALE)
_PER_UU = np.float32(1.0 / WHITEN_SCALE**2)

# Rows of the output lanes.
_D_MEAN, _D_LOG_SCALE, _D_QUATERNION, _D_LOGIT, _D_MEAN2D = 0, 3, 6, 10, 11
_OUTPUT_ROWS = 13


@inline
def sum_slots(i, splat_slots, pair_grads):
    """Sum of a splat's gradient lines over its tiles, always in the same order."""
    total = broadcast(np.float32(0.0))
    for slot in range(splat_slots[i], splat_slots[i + 1]):
        total = total + load(pair_grads, slot * GRAD_LINE)
    return total


@inline
def axes_gradient(moments, axes, view):
    """dL/dP (six vectors: x row, y row) from the moments of one splat, and the gradient of its centre in px."""
    px0, px1, px2, py0, py1, py2 = axes
    dilation = view.lens[DILATION]
    _, _, whiten_x, shear, whiten_y, _, area_squared = covariance_factor(px0, px1, px2, py0, py1, py2, dilation)
    m11 = load(moments, GRAD_U11 * LANES) * _PER_UU
    m12 = load(moments, GRAD_U12 * LANES) * _PER_UU
    m22 = load(moments, GRAD_U22 * LANES) * _PER_UU
    qx0, qx1, qx2 = (px0 - shear * py0) * whiten_x, (px1 - shear * py1) * whiten_x, (px2 - shear * py2) * whiten_x
    qy0, qy1, qy2 = py0 * whiten_y, py1 * whiten_y, py2 * whiten_y
    gx0, gx1, gx2 = m11 * qx0 + m12 * qy0, m11 * qx1 + m12 * qy1, m11 * qx2 + m12 * qy2
    gy0, gy1, gy2 = m12 * qx0 + m22 * qy0, m12 * qx1 + m22 * qy1, m12 * qx2 + m22 * qy2
    if view.antialiased:
        # d ln sqrt(det S0 / det S) / dP = (S0^-1 - S^-1) P = dilation S^-1 S0^-1 P, with S0 = P P^T undilated and
        # S0^-1 P = (py x c, c x px) / |c|^2, c = px x py: the product does not cancel for large splats.
        drawn = area_squared > np.float32(0.0)
        factor = select(drawn, dilation * load(moments, GRAD_LOG_ALPHA * LANES) / area_squared, np.float32(0.0))
        c0, c1, c2 = cross(px0, px1, px2, py0, py1, py2)
        ex0, ex1, ex2 = cross(py0, py1, py2, c0, c1, c2)
        ey0, ey1, ey2 = cross(c0, c1, c2, px0, px1, px2)
        along_x, along_y = factor * whiten_x, factor * whiten_y
        gx0 = gx0 + along_x * (ex0 - shear * ey0)
        gx1 = gx1 + along_x * (ex1 - shear * ey1)
        gx2 = gx2 + along_x * (ex2 - shear * ey2)
        gy0, gy1, gy2 = gy0 + along_y * ey0, gy1 + along_y * ey1, gy2 + along_y * ey2
    dx0, dx1, dx2 = gx0 * whiten_x, gx1 * whiten_x, gx2 * whiten_x
    dy0, dy1, dy2 = gy0 * whiten_y - shear * dx0, gy1 * whiten_y - shear * dx1, gy2 * whiten_y - shear * dx2
    d_mean_x = whiten_x * load(moments, GRAD_U1 * LANES) * _PER_U
    d_mean_y = whiten_y * load(moments, GRAD_U2 * LANES) * _PER_U - shear * d_mean_x
    return (dx0, dx1, dx2, dy0, dy1, dy2), (d_mean_x, d_mean_y)


@inline
def store_quaternion_gradient(result, quaternion, rotation_grad):
    """From dL/d(rotation matrix) to the raw quaternion: through the normalisation, hence tangential."""
    g00, g01, g02, g10, g11, g12, g20, g21, g22 = rotation_grad
    w, x, y, z, inverse_norm = quaternion
    dw = _TWO * (x * (g21 - g12) + y * (g02 - g20) + z * (g10 - g01))
    dx = _TWO * (y * (g01 + g10) + z * (g02 + g20) + w * (g21 - g12) - _TWO * x * (g11 + g22))
    dy = _TWO * (x * (g01 + g10) + z * (g12 + g21) + w * (g02 - g20) - _TWO * y * (g00 + g22))
    dz = _TWO * (x * (g02 + g20) + y * (g12 + g21) + w * (g10 - g01) - _TWO * z * (g00 + g11))
    radial = w * dw + x * dx + y * dy + z * dz
    store(result, _D_QUATERNION * LANES, inverse_norm * (dw - radial * w))
    store(result, (_D_QUATERNION + 1) * LANES, inverse_norm * (dx - radial * x))
    store(result, (_D_QUATERNION + 2) * LANES, inverse_norm * (dy - radial * y))
    store(result, (_D_QUATERNION + 3) * LANES, inverse_norm * (dz - radial * z))


@inline
def store_shape_gradient(result, jacobian, rotation, scales, quaternion, axes_grad):
    """dL/d(log scales) and dL/d(quaternion) from dL/dP: dL/dM = (J R)^T dL/dP."""
    jx0, jx1, jx2, jy0, jy1, jy2 = jacobian
    dx0, dx1, dx2, dy0, dy1, dy2 = axes_grad
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation
    s0, s1, s2 = scales
    # Gradient of the rotation matrix: that of M = R_q diag(s), times the scale of its column.
    g00, g01, g02 = (jx0 * dx0 + jy0 * dy0) * s0, (jx0 * dx1 + jy0 * dy1) * s1, (jx0 * dx2 + jy0 * dy2) * s2
    g10, g11, g12 = (jx1 * dx0 + jy1 * dy0) * s0, (jx1 * dx1 + jy1 * dy1) * s1, (jx1 * dx2 + jy1 * dy2) * s2
    g20, g21, g22 = (jx2 * dx0 + jy2 * dy0) * s0, (jx2 * dx1 + jy2 * dy1) * s1, (jx2 * dx2 + jy2 * dy2) * s2
    store(result, _D_LOG_SCALE * LANES, dot(g00, g10, g20, r00, r10, r20))
    store(result, (_D_LOG_SCALE + 1) * LANES, dot(g01, g11, g21, r01, r11, r21))
    store(result, (_D_LOG_SCALE + 2) * LANES, dot(g02, g12, g22, r02, r12, r22))
    store_quaternion_gradient(result, quaternion, (g00, g01, g02, g10, g11, g12, g20, g21, g22))


@inline
def store_mean_gradient(result, buffer, jacobian_grad, mean2d_grad, clamped_x, clamped_y, view):
    """dL/d(world mean) through the projected centre and through the Jacobian J."""
    lens, pose = view.lens, view.pose
    inverse_z = _ONE / load(buffer, Z * LANES)
    slope_x, slope_y = load(buffer, X * LANES) * inverse_z, load(buffer, Y * LANES) * inverse_z
    dx0, dx1, dx2, dy0, dy1, dy2 = jacobian_grad  # of the rows of J R
    d_mean_x, d_mean_y = mean2d_grad
    r00, r01, r02 = np.float32(pose[0]), np.float32(pose[1]), np.float32(pose[2])
    r10, r11, r12 = np.float32(pose[3]), np.float32(pose[4]), np.float32(pose[5])
    r20, r21, r22 = np.float32(pose[6]), np.float32(pose[7]), np.float32(pose[8])
    # J = [[fx / z, 0, -fx tx / z], [0, fy / z, -fy ty / z]] with tx, ty the clamped slopes.
    d_j00, d_j02 = dot(dx0, dx1, dx2, r00, r01, r02) * lens[FX], dot(dx0, dx1, dx2, r20, r21, r22) * lens[FX]
    d_j11, d_j12 = dot(dy0, dy1, dy2, r10, r11, r12) * lens[FY], dot(dy0, dy1, dy2, r20, r21, r22) * lens[FY]
    d_inverse_z = d_j00 - d_j02 * clamped_x + d_j11 - d_j12 * clamped_y
    zero = np.float32(0.0)
    free_x = (slope_x > lens[MIN_SLOPE_X]) & (slope_x < lens[MAX_SLOPE_X])
    free_y = (slope_y > lens[MIN_SLOPE_Y]) & (slope_y < lens[MAX_SLOPE_Y])
    d_slope_x = d_mean_x * lens[FX] - select(free_x, d_j02 * inverse_z, zero)
    d_slope_y = d_mean_y * lens[FY] - select(free_y, d_j12 * inverse_z, zero)
    d_x, d_y = d_slope_x * inverse_z, d_slope_y * inverse_z
    d_z = (d_inverse_z * inverse_z + d_slope_x * slope_x + d_slope_y * slope_y) * inverse_z
    store(result, _D_MEAN * LANES, r00 * d_x + r10 * d_y - r20 * d_z)
    store(result, (_D_MEAN + 1) * LANES, r01 * d_x + r11 * d_y - r21 * d_z)
    store(result, (_D_MEAN + 2) * LANES, r02 * d_x + r12 * d_y - r22 * d_z)


@inline
def project_lanes_backward(buffer, moments, view, result):
    """Parameter gradients of the 16 Gaussians in ``buffer`` from their ``moments``, as rows of ``result``."""
    inverse_z = _ONE / load(buffer, Z * LANES)
    slope_x, slope_y = load(buffer, X * LANES) * inverse_z, load(buffer, Y * LANES) * inverse_z
    quaternion = load_unit_quaternion(buffer)
    w, x, y, z, _ = quaternion
    rotation, scales = rotation_matrix(w, x, y, z), load_scales(buffer)
    jx0, jx1, jx2, jy0, jy1, jy2, clamped_x, clamped_y = jacobian_rows(slope_x, slope_y, inverse_z, view)
    axes = projected_axes(jx0, jx1, jx2, jy0, jy1, jy2, rotation, scales)
    axes_grad, mean2d_grad = axes_gradient(moments, axes, view)
    store_shape_gradient(result, (jx0, jx1, jx2, jy0, jy1, jy2), rotation, scales, quaternion, axes_grad)
    # dL/d(J R) = dL/dP M^T with M = R_q diag(s)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation
    s0, s1, s2 = scales
    dx0, dx1, dx2, dy0, dy1, dy2 = axes_grad
    dx0, dx1, dx2, dy0, dy1, dy2 = dx0 * s0, dx1 * s1, dx2 * s2, dy0 * s0, dy1 * s1, dy2 * s2
    jacobian_grad = (
        dot(dx0, dx1, dx2, r00, r01, r02), dot(dx0, dx1, dx2, r10, r11, r12), dot(dx0, dx1, dx2, r20, r21, r22),
        dot(dy0, dy1, dy2, r00, r01, r02), dot(dy0, dy1, dy2, r10, r11, r12), dot(dy0, dy1, dy2, r20, r21, r22),
    )  # fmt: skip
    store_mean_gradient(result, buffer, jacobian_grad, mean2d_grad, clamped_x, clamped_y, view)
    d_mean_x, d_mean_y = mean2d_grad
    store(result, _D_MEAN2D * LANES, d_mean_x)
    store(result, (_D_MEAN2D + 1) * LANES, d_mean_y)
    store(result, _D_LOGIT * LANES, load(moments, GRAD_LOG_ALPHA * LANES) * (_ONE - load_opacity(buffer)))


@inline
def write_gradients(i, lane, drawn, result, grads):
    """Move lane ``lane`` of ``result`` to Gaussian ``i``; zeros if it was not drawn."""
    zero = np.float32(0.0)
    for k in range(3):
        grads.means[i, k] = result[(_D_MEAN + k) * LANES + lane] if drawn else zero
        grads.log_scales[i, k] = result[(_D_LOG_SCALE + k) * LANES + lane] if drawn else zero
    for k in range(4):
        grads.quaternions[i, k] = result[(_D_QUATERNION + k) * LANES + lane] if drawn else zero
    for k in range(2):
        grads.means2d[i, k] = result[(_D_MEAN2D + k) * LANES + lane] if drawn else zero
    grads.opacity_logits[i] = result[_D_LOGIT * LANES + lane] if drawn else zero


@kernel
def project_backward(counter, items, gaussians, view, splat_slots, pair_grads, grads):
    """Fill ``grads`` for every Gaussian; zero where it was culled."""
    buffer, moments = np.empty(LANE_ROWS * LANES, np.float32), np.empty(GRAD_LINE * LANES, np.float32)
    result, line = np.empty(_OUTPUT_ROWS * LANES, np.float32), np.empty(GRAD_LINE, np.float32)
    in_front = np.empty(LANES, np.bool_)
    total, channels = grads.features.shape
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for first in range(item * GAUSSIANS_PER_ITEM, min((item + 1) * GAUSSIANS_PER_ITEM, total), LANES):
            count = min(LANES, total - first)
            gather(first, count, gaussians, view, buffer, in_front)
            for lane in range(count):
                store(line, 0, sum_slots(first + lane, splat_slots, pair_grads))
                for k in range(GRAD_FEATURES):
                    moments[k * LANES + lane] = line[k]
                for k in range(channels):
                    grads.features[first + lane, k] = line[GRAD_FEATURES + k]
            project_lanes_backward(buffer, moments, view, result)
            for lane in range(count):
                i = first + lane
                write_gradients(i, lane, splat_slots[i + 1] > splat_slots[i], result, grads)
