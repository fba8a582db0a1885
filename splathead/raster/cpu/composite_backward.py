"""Gradient of compositing: replays each tile front to back and writes one line per (tile, splat) pair.

With q = dL/d(alpha out) + <dL/d(features out), f> of a splat, weight w = T alpha and R = the sum of w q
over the splats behind it,

    dL/d ln(alpha) = w q - alpha / (1 - alpha) R.

R starts as <dL/d(out), out> and loses w q at every splat, so transmittance is never divided by. Geometry
gradients are moments of that value with the whitened offsets u, which stay of order one for
needles too; project_backward.py turns them into gradients of the parameters.
"""

from __future__ import annotations

import numpy as np

from splathead.raster.cpu.composite import ALPHA_LIMIT, LOG2_ALPHA_MIN, ONE, TRANSMITTANCE_LIMIT, ZERO, block_span, splat_geometry
from splathead.raster.cpu.jit import inline, kernel
from splathead.raster.cpu.layout import (
    BLOCK,
    BLOCKS_PER_SIDE,
    BLOCKS_PER_TILE,
    EXTENT_X,
    EXTENT_Y,
    FEATURES,
    GRAD_LINE,
    LANE_X,
    LANE_Y,
    TILE,
)
from splathead.raster.cpu.parallel import next_item
from splathead.raster.cpu.simd import (
    LANES,
    any_lane,
    broadcast,
    broadcast_each,
    dot_each,
    exp2,
    load,
    load_each,
    minimum,
    multiply_add_each,
    select,
    store,
    sum_lanes_each,
    zeros_each,
)


@inline
def read_tile(tile_x, tile_y, image, alpha, grad_image, grad_alpha, remaining, grads, channels):
    """Image rows to tile buffers: ``grads`` (per block: channels, then alpha) and ``remaining`` = <grad, out>."""
    count, height, width = image.shape
    grads[:] = ZERO
    remaining[:] = ZERO
    stride = LANES * (len(channels) + 1)
    for y in range(tile_y * TILE, min(tile_y * TILE + TILE, height)):
        block_row, lane_row = (y - tile_y * TILE) // BLOCK * BLOCKS_PER_SIDE, y % BLOCK * BLOCK
        for block_x in range(BLOCKS_PER_SIDE):
            x, block = tile_x * TILE + block_x * BLOCK, block_row + block_x
            lane, grad_lane = block * LANES + lane_row, block * stride + lane_row
            for k in range(min(BLOCK, width - x)):
                total = grad_alpha[y, x + k] * alpha[y, x + k]
                grads[grad_lane + len(channels) * LANES + k] = grad_alpha[y, x + k]
                for channel in range(count):
                    grad = grad_image[channel, y, x + k]
                    grads[grad_lane + channel * LANES + k] = grad
                    total += grad * image[channel, y, x + k]
                remaining[lane + k] = total


@inline
def splat_gradient(splat, tile_x, tile_y, records, transmittance, remaining, grads, channels):
    """One splat's gradient line from one tile, as a vector in the order of layout.py's GRAD columns."""
    mean_x, mean_y, whiten_x, sheared, whiten_y, log2_opacity = splat_geometry(records, splat, tile_x, tile_y)
    first_x, last_x = block_span(mean_x, records[splat, EXTENT_X])
    first_y, last_y = block_span(mean_y, records[splat, EXTENT_Y])
    features = broadcast_each(records, splat, FEATURES, channels)
    sum_features = zeros_each(channels)
    sum_v = sum_1 = sum_2 = sum_11 = sum_12 = sum_22 = broadcast(ZERO)
    offset_x, offset_y = load(LANE_X, 0) - mean_x, load(LANE_Y, 0) - mean_y
    for block_y in range(first_y, last_y + 1):
        dy = offset_y + np.float32(block_y * BLOCK)
        u2 = dy * whiten_y
        shift = dy * sheared
        row_log2 = log2_opacity - u2 * u2
        row_v = row_1 = broadcast(ZERO)
        for block_x in range(first_x, last_x + 1):
            block = block_y * BLOCKS_PER_SIDE + block_x
            u1 = (offset_x + np.float32(block_x * BLOCK)) * whiten_x - shift
            log2_alpha = row_log2 - u1 * u1
            before = load(transmittance, block * LANES)
            counts = (log2_alpha >= LOG2_ALPHA_MIN) & (before > TRANSMITTANCE_LIMIT)
            if any_lane(counts):
                unclamped = exp2(log2_alpha)
                alpha = select(counts, minimum(unclamped, ALPHA_LIMIT), ZERO)
                weight = before * alpha
                store(transmittance, block * LANES, before - weight)
                base = block * (LANES * (len(channels) + 1))
                pixel_grads = load_each(grads, base, channels)
                weighted = weight * dot_each(pixel_grads, features, load(grads, base + LANES * len(channels)))
                sum_features = multiply_add_each(weight, pixel_grads, sum_features)
                behind = load(remaining, block * LANES) - weighted
                store(remaining, block * LANES, behind)
                v = weighted - alpha * behind / (ONE - alpha)
                v = select(unclamped < ALPHA_LIMIT, v, ZERO)  # a clamped alpha does not move
                v_1 = v * u1
                row_v = row_v + v
                row_1 = row_1 + v_1
                sum_11 = sum_11 + v_1 * u1
        sum_v = sum_v + row_v
        sum_1 = sum_1 + row_1
        sum_2 = sum_2 + row_v * u2
        sum_12 = sum_12 + row_1 * u2
        sum_22 = sum_22 + row_v * u2 * u2
    return sum_lanes_each((sum_v, sum_1, sum_2, sum_11, sum_12, sum_22) + sum_features)


@kernel
def composite_backward(
    counter, items, tile_order, tiles_x, tile_starts, tile_stops, pair_splats, records,
    image, alpha, grad_image, grad_alpha, pair_grads, channels,
):  # fmt: skip
    """Fill pair_grads [pairs * 16]: every pair's gradient line, zero for pairs behind an opaque tile's end."""
    transmittance = np.empty(BLOCKS_PER_TILE * LANES, np.float32)
    remaining = np.empty(BLOCKS_PER_TILE * LANES, np.float32)
    grads = np.empty(BLOCKS_PER_TILE * LANES * (len(channels) + 1), np.float32)
    while True:
        item = next_item(counter)
        if item >= items:
            break
        tile = tile_order[item]
        start, stop, end = tile_starts[tile], tile_stops[tile], tile_starts[tile + 1]
        if start == end:
            continue
        tile_x, tile_y = tile % tiles_x, tile // tiles_x
        read_tile(tile_x, tile_y, image, alpha, grad_image, grad_alpha, remaining, grads, channels)
        transmittance[:] = ONE
        for pair in range(start, stop):
            line = splat_gradient(pair_splats[pair], tile_x, tile_y, records, transmittance, remaining, grads, channels)
            store(pair_grads, pair * GRAD_LINE, line)
        pair_grads[stop * GRAD_LINE : end * GRAD_LINE] = ZERO
