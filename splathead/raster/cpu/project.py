"""3D Gaussians to 2D splats: EWA projection of 16 Gaussians at a time.

The 2D covariance S = [[a, b], [b, d]] = P P^T + dilation I with P = J R M (2x3) is kept as a
triangular factor of its inverse: d^T S^-1 d = u1^2 + u2^2 with

    u1 = sqrt(d / det) (dx - (b / d) dy),    u2 = dy / sqrt(d).

A quadratic form of the inverse itself cancels badly for needle-shaped splats; this one does not.
"""

from __future__ import annotations

import math

import numpy as np

from splathead.raster.cpu.jit import inline, kernel
from splathead.raster.cpu.layout import (
    EXTENT_X,
    EXTENT_Y,
    FEATURES,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    RECORD,
    SHEAR,
    TILE,
    WHITEN_SCALE,
    WHITEN_X,
    WHITEN_Y,
)
from splathead.raster.cpu.parallel import next_item
from splathead.raster.cpu.simd import LANES, broadcast, exp2, load, log2, maximum, minimum, sqrt, store
from splathead.raster.interface import ALPHA_MIN

GAUSSIANS_PER_ITEM = 512
"""Gaussians that a thread takes from the work counter at a time."""

# Rows of the lane buffer in which 16 Gaussians are transposed from their arrays.
X, Y, Z = 0, 1, 2  # centre in the camera frame
LOG_SCALE, QUATERNION, LOGIT = 3, 6, 10
LANE_ROWS = 11

# Entries of `lens`, the float32 camera constants.
FX, FY, CX, CY, MIN_SLOPE_X, MAX_SLOPE_X, MIN_SLOPE_Y, MAX_SLOPE_Y, DILATION = range(9)

_LOG2_E = np.float32(math.log2(math.e))
_TWO_LN_2 = np.float32(2 * math.log(2.0))
_LOG2_ALPHA_MIN = np.float32(math.log2(ALPHA_MIN))
_WHITEN_SCALE = np.float32(WHITEN_SCALE)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)


@inline
def gather(first, count, gaussians, view, buffer, in_front):
    """Transpose Gaussians first .. first + count into ``buffer`` rows, moving centres to the camera frame.

    Centres are transformed in float64: depth order and position then do not depend on the origin.
    Unused lanes, and those not in front of the near plane (``in_front`` False), get a harmless Gaussian.
    """
    means, pose = gaussians.means, view.pose
    for lane in range(LANES):
        i = first + min(lane, count - 1)
        px, py, pz = np.float64(means[i, 0]), np.float64(means[i, 1]), np.float64(means[i, 2])
        z = pose[6] * px + pose[7] * py + pose[8] * pz + pose[11]
        in_front[lane] = lane < count and z > view.near
        if in_front[lane]:
            buffer[X * LANES + lane] = np.float32(pose[0] * px + pose[1] * py + pose[2] * pz + pose[9])
            buffer[Y * LANES + lane] = np.float32(pose[3] * px + pose[4] * py + pose[5] * pz + pose[10])
            buffer[Z * LANES + lane] = np.float32(z)
        else:
            buffer[X * LANES + lane] = np.float32(0.0)
            buffer[Y * LANES + lane] = np.float32(0.0)
            buffer[Z * LANES + lane] = _ONE
        for k in range(3):
            buffer[(LOG_SCALE + k) * LANES + lane] = gaussians.log_scales[i, k]
        for k in range(4):
            buffer[(QUATERNION + k) * LANES + lane] = gaussians.quaternions[i, k]
        buffer[LOGIT * LANES + lane] = gaussians.opacity_logits[i]


@inline
def exp(x):
    """e^x per lane, kept within 2^-126 .. 2^126."""
    return exp2(maximum(minimum(x * _LOG2_E, np.float32(126.0)), np.float32(-126.0)))


@inline
def load_opacity(buffer):
    """Opacity = sigmoid(logit)."""
    return _ONE / (_ONE + exp(broadcast(np.float32(0.0)) - load(buffer, LOGIT * LANES)))


@inline
def load_scales(buffer):
    """The three standard deviations."""
    return (
        exp(load(buffer, LOG_SCALE * LANES)),
        exp(load(buffer, (LOG_SCALE + 1) * LANES)),
        exp(load(buffer, (LOG_SCALE + 2) * LANES)),
    )


@inline
def load_unit_quaternion(buffer):
    """w, x, y, z of unit length, and 1 / |raw quaternion|."""
    w, x = load(buffer, QUATERNION * LANES), load(buffer, (QUATERNION + 1) * LANES)
    y, z = load(buffer, (QUATERNION + 2) * LANES), load(buffer, (QUATERNION + 3) * LANES)
    inverse_norm = _ONE / maximum(sqrt(w * w + x * x + y * y + z * z), np.float32(1e-12))
    return w * inverse_norm, x * inverse_norm, y * inverse_norm, z * inverse_norm, inverse_norm


@inline
def rotation_matrix(w, x, y, z):
    """Row-major rotation matrix of a unit quaternion."""
    return (
        _ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y),
        _TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x),
        _TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y),
    )  # fmt: skip


@inline
def jacobian_rows(slope_x, slope_y, inverse_z, view):
    """The two rows of J R: derivative of the pixel position with respect to world position, slopes clamped."""
    lens, pose = view.lens, view.pose
    clamped_x = minimum(maximum(slope_x, lens[MIN_SLOPE_X]), lens[MAX_SLOPE_X])
    clamped_y = minimum(maximum(slope_y, lens[MIN_SLOPE_Y]), lens[MAX_SLOPE_Y])
    along_x, along_y = lens[FX] * inverse_z, lens[FY] * inverse_z
    x_by_z, y_by_z = along_x * clamped_x, along_y * clamped_y
    return (
        along_x * np.float32(pose[0]) - x_by_z * np.float32(pose[6]),
        along_x * np.float32(pose[1]) - x_by_z * np.float32(pose[7]),
        along_x * np.float32(pose[2]) - x_by_z * np.float32(pose[8]),
        along_y * np.float32(pose[3]) - y_by_z * np.float32(pose[6]),
        along_y * np.float32(pose[4]) - y_by_z * np.float32(pose[7]),
        along_y * np.float32(pose[5]) - y_by_z * np.float32(pose[8]),
        clamped_x,
        clamped_y,
    )


@inline
def dot(ax, ay, az, bx, by, bz):
    """Inner product."""
    return ax * bx + ay * by + az * bz


@inline
def cross(ax, ay, az, bx, by, bz):
    """Vector product."""
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@inline
def projected_axes(jx0, jx1, jx2, jy0, jy1, jy2, rotation, scales):
    """P = J R M: image-plane x (first three) and y components of the Gaussian's scaled axes."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation
    s0, s1, s2 = scales
    return (
        dot(jx0, jx1, jx2, r00, r10, r20) * s0,
        dot(jx0, jx1, jx2, r01, r11, r21) * s1,
        dot(jx0, jx1, jx2, r02, r12, r22) * s2,
        dot(jy0, jy1, jy2, r00, r10, r20) * s0,
        dot(jy0, jy1, jy2, r01, r11, r21) * s1,
        dot(jy0, jy1, jy2, r02, r12, r22) * s2,
    )


@inline
def covariance_factor(px0, px1, px2, py0, py1, py2, dilation):
    """a, d, whiten_x = sqrt(d / det), shear = b / d, whiten_y = 1 / sqrt(d), det and |cross product|^2 = det without dilation.

    The determinant comes from the cross product (Cauchy-Binet), a sum of squares.
    """
    a = dot(px0, px1, px2, px0, px1, px2) + dilation
    d = dot(py0, py1, py2, py0, py1, py2) + dilation
    b = dot(px0, px1, px2, py0, py1, py2)
    c0, c1, c2 = cross(px0, px1, px2, py0, py1, py2)
    area_squared = dot(c0, c1, c2, c0, c1, c2)
    det = area_squared + dilation * (a + d - dilation)
    inverse_d = _ONE / d
    return a, d, sqrt(d / det), b * inverse_d, sqrt(inverse_d), det, area_squared


@inline
def project_lanes(buffer, view, fields):
    """Splat geometry of the 16 Gaussians in ``buffer``, written to ``fields`` as rows in record order."""
    lens = view.lens
    inverse_z = _ONE / load(buffer, Z * LANES)
    slope_x, slope_y = load(buffer, X * LANES) * inverse_z, load(buffer, Y * LANES) * inverse_z
    w, x, y, z, _ = load_unit_quaternion(buffer)
    jx0, jx1, jx2, jy0, jy1, jy2, _, _ = jacobian_rows(slope_x, slope_y, inverse_z, view)
    px0, px1, px2, py0, py1, py2 = projected_axes(
        jx0, jx1, jx2, jy0, jy1, jy2, rotation_matrix(w, x, y, z), load_scales(buffer)
    )
    a, d, whiten_x, shear, whiten_y, det, area_squared = covariance_factor(px0, px1, px2, py0, py1, py2, lens[DILATION])
    opacity = load_opacity(buffer)
    if view.antialiased:
        opacity = opacity * sqrt(area_squared / det)
    log2_opacity = log2(opacity)
    cutoff = maximum((log2_opacity - _LOG2_ALPHA_MIN) * _TWO_LN_2, np.float32(0.0))
    store(fields, MEAN_X * LANES, lens[FX] * slope_x + lens[CX])
    store(fields, MEAN_Y * LANES, lens[FY] * slope_y + lens[CY])
    store(fields, WHITEN_X * LANES, whiten_x * _WHITEN_SCALE)
    store(fields, SHEAR * LANES, shear)
    store(fields, WHITEN_Y * LANES, whiten_y * _WHITEN_SCALE)
    store(fields, LOG2_OPACITY * LANES, log2_opacity)
    store(fields, EXTENT_X * LANES, sqrt(cutoff * a))
    store(fields, EXTENT_Y * LANES, sqrt(cutoff * d))


@inline
def tile_span(centre, extent, size):
    """Half-open range of tiles that [centre - extent, centre + extent] touches in an image side of ``size`` px."""
    low, high = max(centre - extent, np.float32(0.0)), min(centre + extent, np.float32(size))
    return np.int32(low) // TILE, min(np.int32(high) // TILE + 1, (size + TILE - 1) // TILE)


@inline
def write_splat(i, lane, fields, features, offsets, view, splats):
    """Move lane ``lane`` of ``fields`` to splat ``i``, with its features; leaves it culled if it misses the image."""
    mean_x, mean_y = fields[MEAN_X * LANES + lane], fields[MEAN_Y * LANES + lane]
    if offsets.shape[0] > 0:
        mean_x, mean_y = mean_x + offsets[i, 0], mean_y + offsets[i, 1]
    extent_x, extent_y = fields[EXTENT_X * LANES + lane], fields[EXTENT_Y * LANES + lane]
    # Written so that NaN and infinite extents fail the test.
    on_screen = mean_x + extent_x >= 0 and mean_x - extent_x <= view.width and extent_x < np.inf
    on_screen &= mean_y + extent_y >= 0 and mean_y - extent_y <= view.height and extent_y < np.inf
    if not (on_screen and extent_x > 0):
        return
    x0, x1 = tile_span(mean_x, extent_x, view.width)
    y0, y1 = tile_span(mean_y, extent_y, view.height)
    rects, records = splats.rects, splats.records
    rects[i, 0], rects[i, 1], rects[i, 2], rects[i, 3] = np.int16(x0), np.int16(x1), np.int16(y0), np.int16(y1)
    splats.tile_counts[i] = (x1 - x0) * (y1 - y0)
    records[i, MEAN_X], records[i, MEAN_Y] = mean_x, mean_y
    for k in range(WHITEN_X, FEATURES):
        records[i, k] = fields[k * LANES + lane]
    for k in range(features.shape[1]):
        records[i, FEATURES + k] = features[i, k]
    for k in range(features.shape[1], RECORD - FEATURES):
        records[i, FEATURES + k] = np.float32(0.0)


@kernel
def project(counter, items, gaussians, features, offsets, view, splats):
    """Fill ``splats`` from ``gaussians`` and their ``features`` [N, C <= 8]; ``offsets`` [N or 0, 2] px move the centres."""
    buffer, fields = np.empty(LANE_ROWS * LANES, np.float32), np.empty(FEATURES * LANES, np.float32)
    in_front = np.empty(LANES, np.bool_)
    total = gaussians.means.shape[0]
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for first in range(item * GAUSSIANS_PER_ITEM, min((item + 1) * GAUSSIANS_PER_ITEM, total), LANES):
            count = min(LANES, total - first)
            gather(first, count, gaussians, view, buffer, in_front)
            project_lanes(buffer, view, fields)
            for lane in range(count):
                splats.tile_counts[first + lane] = 0
                if in_front[lane]:
                    splats.depths[first + lane] = buffer[Z * LANES + lane]
                    write_splat(first + lane, lane, fields, features, offsets, view, splats)
