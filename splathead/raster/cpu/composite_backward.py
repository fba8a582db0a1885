"""Gradient of compositing: replays each tile back to front and writes one line per (tile, splat) pair.

With q = dL/d(alpha out) + <dL/d(features out), f> of a splat, weight w = T alpha and R = the sum of w q
over the splats behind it,

    dL/d ln(alpha) = w q - alpha / (1 - alpha) R.

Going backwards, R is a plain sum and T grows by 1 / (1 - alpha) from the final transmittance, so both
keep their relative precision in deep stacks, where R = total - prefix would have lost it. Geometry
gradients are moments of that value with the whitened offsets u, which stay of order one for
needles too; project_backward.py turns them into gradients of the parameters.
"""

from __future__ import annotations

import numpy as np

from splathead.raster.cpu.composite import (
    ALPHA_LIMIT,
    LOG2_ALPHA_MIN,
    ONE,
    PREFETCH_DISTANCE,
    ZERO,
    block_corner,
    block_span,
    splat_geometry,
    tile_place,
)
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
    RECORD,
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
    load_rows,
    minimum,
    multiply_add_each,
    prefetch,
    select,
    store,
    sum_lanes_each,
    zeros_each,
)


@inline
def copy_from_image(plane, place, rows):
    """Copy a tile of an image plane [H, W] to a row-major buffer; pixels outside the image keep what the buffer holds."""
    height, width = plane.shape
    x0, y0 = place.x * TILE, place.y * TILE
    for y in range(min(TILE, height - y0)):
        for x in range(min(TILE, width - x0)):
            rows[y * TILE + x] = plane[y0 + y, x0 + x]


@inline
def read_channel(place, plane, channel, rows, grads, channels):
    """One channel of the tile's incoming gradient, from image rows to blocks."""
    copy_from_image(plane, place, rows)
    for block in range(BLOCKS_PER_TILE):
        store(grads, (block * (len(channels) + 1) + channel) * LANES, load_rows(rows, block_corner(block), TILE))


@inline
def read_tile(place, frame_grad, rows, grads, channels):
    """The tile's incoming gradients to ``grads``: per block the channels, then alpha."""
    rows[:] = ZERO
    for channel in range(frame_grad.features.shape[0]):
        read_channel(place, frame_grad.features[channel], channel, rows, grads, channels)
    read_channel(place, frame_grad.alpha, len(channels), rows, grads, channels)


@inline
def splat_gradient(splat, position, place, records, stops, transmittance, behind, grads, channels):
    """One splat's gradient line from one tile, as a vector in the order of layout.py's GRAD columns.

    ``transmittance`` is that behind the splat and becomes that in front of it; ``behind`` is R.
    """
    mean_x, mean_y, whiten_x, sheared, whiten_y, log2_opacity = splat_geometry(records, splat, place)
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
            counts = (log2_alpha >= LOG2_ALPHA_MIN) & (load(stops, place.base + block * LANES) >= position)
            if any_lane(counts):
                unclamped = exp2(log2_alpha)
                alpha = select(counts, minimum(unclamped, ALPHA_LIMIT), ZERO)
                inverse = ONE / (ONE - alpha)
                before = load(transmittance, block * LANES) * inverse
                store(transmittance, block * LANES, before)
                weight = before * alpha
                first_grad = block * (LANES * (len(channels) + 1))
                pixel_grads = load_each(grads, first_grad, channels)
                weighted = weight * dot_each(pixel_grads, features, load(grads, first_grad + LANES * len(channels)))
                sum_features = multiply_add_each(weight, pixel_grads, sum_features)
                rest = load(behind, block * LANES)
                store(behind, block * LANES, rest + weighted)
                v = weighted - alpha * inverse * rest
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
    return sum_lanes_each((sum_v, sum_1, sum_2, sum_11, sum_12, sum_22, *sum_features))


@kernel
def composite_backward(counter, items, lists, records, ends, frame_grad, pair_grads, channels):
    """Fill pair_grads [pairs * 16]: the gradient line in every pair's slot, zero for pairs behind an opaque tile's end.

    ``ends`` is what ``composite`` left and ``frame_grad`` the gradient of its frame.
    """
    transmittance, behind = np.empty(BLOCKS_PER_TILE * LANES, np.float32), np.empty(BLOCKS_PER_TILE * LANES, np.float32)
    grads = np.zeros(BLOCKS_PER_TILE * LANES * (len(channels) + 1), np.float32)  # padding channels stay zero
    rows = np.empty(TILE * TILE, np.float32)
    pair_splats, pair_slots, stops = lists.pair_splats, lists.pair_slots, ends.stops
    while True:
        item = next_item(counter)
        if item >= items:
            break
        tile = lists.order[item]
        start, stop, end = lists.starts[tile], ends.pairs[tile], lists.starts[tile + 1]
        if start == end:
            continue
        place = tile_place(tile, lists.tiles_x)
        read_tile(place, frame_grad, rows, grads, channels)
        transmittance[:] = ends.transmittance[place.base : place.base + TILE * TILE]
        behind[:] = ZERO
        for pair in range(stop, end):
            store(pair_grads, np.intp(pair_slots[pair]) * GRAD_LINE, broadcast(ZERO))
        for pair in range(stop - 1, start - 1, -1):
            if pair - PREFETCH_DISTANCE >= start:
                prefetch(records, np.intp(pair_splats[pair - PREFETCH_DISTANCE]) * RECORD)
                prefetch(pair_grads, np.intp(pair_slots[pair - PREFETCH_DISTANCE]) * GRAD_LINE)
            position = np.float32(pair - start)
            line = splat_gradient(pair_splats[pair], position, place, records, stops, transmittance, behind, grads, channels)
            store(pair_grads, np.intp(pair_slots[pair]) * GRAD_LINE, line)
