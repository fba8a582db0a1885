"""Front-to-back alpha compositing, one tile at a time, 4x4 pixels per vector."""

from __future__ import annotations

import math

import numpy as np

from splathead.raster.cpu.jit import inline, kernel
from splathead.raster.cpu.layout import (
    BLOCK,
    BLOCKS_PER_SIDE,
    BLOCKS_PER_TILE,
    EXTENT_X,
    EXTENT_Y,
    FEATURES,
    LANE_X,
    LANE_Y,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    RECORD,
    SHEAR,
    TILE,
    WHITEN_X,
    WHITEN_Y,
    TilePlace,
)
from splathead.raster.cpu.parallel import next_item
from splathead.raster.cpu.simd import (
    LANES,
    add_to_each,
    any_lane,
    broadcast,
    broadcast_each,
    exp2,
    load,
    maximum,
    minimum,
    prefetch,
    select,
    store,
    store_rows,
)
from splathead.raster.interface import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

LOG2_ALPHA_MIN = np.float32(math.log2(ALPHA_MIN))
ALPHA_LIMIT = np.float32(ALPHA_MAX)
TRANSMITTANCE_LIMIT = np.float32(TRANSMITTANCE_MIN)
ZERO, ONE, HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)

PREFETCH_DISTANCE = 4
"""Splats between asking for one's data and using it."""

_SPLATS_PER_CHECK = 16
"""Splats composited between looks at whether the whole tile is opaque."""


@inline
def block_span(centre, extent):
    """First and last block (inclusive) of the tile's side that [centre - extent, centre + extent] touches."""
    first = np.intp(max(centre - extent, ZERO) * np.float32(1.0 / BLOCK))
    last = np.intp(math.floor(min(centre + extent, np.float32(TILE - 1)) * np.float32(1.0 / BLOCK)))
    return first, last


@inline
def splat_geometry(records, splat, place):
    """The splat's centre relative to the tile, its whitening transform and log2 opacity."""
    return (
        records[splat, MEAN_X] - np.float32(place.x * TILE),
        records[splat, MEAN_Y] - np.float32(place.y * TILE),
        records[splat, WHITEN_X],
        records[splat, WHITEN_X] * records[splat, SHEAR],
        records[splat, WHITEN_Y],
        records[splat, LOG2_OPACITY],
    )


@inline
def prefetch_splat(records, pair_splats, pair, end):
    """Fetch the record that a tile's list will need a few splats from now; records lie all over memory."""
    if pair + PREFETCH_DISTANCE < end:
        prefetch(records, np.intp(pair_splats[pair + PREFETCH_DISTANCE]) * RECORD)


@inline
def tile_is_opaque(transmittance, base, limit):
    """Whether no pixel of the tile that starts at ``base`` has more than ``limit`` transmittance left."""
    largest = load(transmittance, base)
    for block in range(1, BLOCKS_PER_TILE):
        largest = maximum(largest, load(transmittance, base + block * LANES))
    return not any_lane(largest > limit)


@inline
def composite_splat(splat, position, place, records, ends, sums, channels):
    """Add one splat, the ``position``-th of the tile's list, to the blocks of the tile that its box touches."""
    mean_x, mean_y, whiten_x, sheared, whiten_y, log2_opacity = splat_geometry(records, splat, place)
    first_x, last_x = block_span(mean_x, records[splat, EXTENT_X])
    first_y, last_y = block_span(mean_y, records[splat, EXTENT_Y])
    features = broadcast_each(records, splat, FEATURES, channels)
    offset_x, offset_y = load(LANE_X, 0) - mean_x, load(LANE_Y, 0) - mean_y
    for block_y in range(first_y, last_y + 1):
        dy = offset_y + np.float32(block_y * BLOCK)
        u2 = dy * whiten_y
        shift = dy * sheared
        row_log2 = log2_opacity - u2 * u2
        for block_x in range(first_x, last_x + 1):
            block = block_y * BLOCKS_PER_SIDE + block_x
            u1 = (offset_x + np.float32(block_x * BLOCK)) * whiten_x - shift
            log2_alpha = row_log2 - u1 * u1
            lane = place.base + block * LANES
            before = load(ends.transmittance, lane)
            counts = (log2_alpha >= LOG2_ALPHA_MIN) & (before > TRANSMITTANCE_LIMIT)
            # No branch: most blocks of the box have a pixel that counts, and lanes that do not get weight 0.
            weight = before * select(counts, minimum(exp2(log2_alpha), ALPHA_LIMIT), ZERO)
            after = before - weight
            store(ends.transmittance, lane, after)
            add_to_each(sums, block * (LANES * len(channels)), weight, features)
            finished = counts & (after <= TRANSMITTANCE_LIMIT)
            if any_lane(finished):
                store(ends.stops, lane, select(finished, position, load(ends.stops, lane)))


@inline
def composite_tile(start, end, place, pair_splats, records, ends, sums, channels):
    """Composite pairs start .. end of a tile; returns where it stopped because the tile is opaque."""
    for block in range(BLOCKS_PER_TILE):
        store(ends.transmittance, place.base + block * LANES, broadcast(ONE))
        store(ends.stops, place.base + block * LANES, broadcast(np.float32(end - start)))
    sums[:] = ZERO
    pair = start
    while pair < end:
        pause = min(pair + _SPLATS_PER_CHECK, end)
        while pair < pause:
            prefetch_splat(records, pair_splats, pair, end)
            composite_splat(pair_splats[pair], np.float32(pair - start), place, records, ends, sums, channels)
            pair += 1
        if tile_is_opaque(ends.transmittance, place.base, TRANSMITTANCE_LIMIT):
            break
    return pair


@inline
def copy_to_image(rows, place, plane):
    """Copy a row-major tile to its place in an image plane [H, W]."""
    height, width = plane.shape
    x0, y0 = place.x * TILE, place.y * TILE
    for y in range(min(TILE, height - y0)):
        for x in range(min(TILE, width - x0)):
            plane[y0 + y, x0 + x] = rows[y * TILE + x]


@inline
def block_corner(block):
    """Offset of a block's first pixel in a row-major tile."""
    return block // BLOCKS_PER_SIDE * (BLOCK * TILE) + block % BLOCKS_PER_SIDE * BLOCK


@inline
def write_tile(place, transmittance, sums, rows, frame, channels):
    """A tile's sums and transmittance (block by block) to the frame (row by row), by way of the buffer ``rows``."""
    for channel in range(frame.features.shape[0]):
        for block in range(BLOCKS_PER_TILE):
            store_rows(rows, block_corner(block), TILE, load(sums, (block * len(channels) + channel) * LANES))
        copy_to_image(rows, place, frame.features[channel])
    for block in range(BLOCKS_PER_TILE):
        store_rows(rows, block_corner(block), TILE, ONE - load(transmittance, place.base + block * LANES))
    copy_to_image(rows, place, frame.alpha)


@inline
def clear_tile(place, frame, rows):
    """Zero a tile of the frame."""
    rows[:] = ZERO
    for channel in range(frame.features.shape[0]):
        copy_to_image(rows, place, frame.features[channel])
    copy_to_image(rows, place, frame.alpha)


@inline
def tile_place(tile, tiles_x):
    """Place of the ``tile``-th tile."""
    return TilePlace(tile % tiles_x, tile // tiles_x, tile * (TILE * TILE))


@kernel
def composite(counter, items, lists, records, frame, ends, channels):
    """Composite every tile into ``frame`` and fill ``ends`` for the gradient.

    ``channels`` is a tuple whose length is the number of features in the records, C padded.
    """
    sums, rows = np.empty(BLOCKS_PER_TILE * LANES * len(channels), np.float32), np.empty(TILE * TILE, np.float32)
    while True:
        item = next_item(counter)
        if item >= items:
            break
        tile = lists.order[item]
        place = tile_place(tile, lists.tiles_x)
        start, end = lists.starts[tile], lists.starts[tile + 1]
        if start == end:
            ends.pairs[tile] = end
            clear_tile(place, frame, rows)
        else:
            ends.pairs[tile] = composite_tile(start, end, place, lists.pair_splats, records, ends, sums, channels)
            write_tile(place, ends.transmittance, sums, rows, frame, channels)


@inline
def median_splat(splat, place, records, depth, transmittance, median):
    """Let one splat take the pixels of the tile whose transmittance it brings to 0.5 or less."""
    mean_x, mean_y, whiten_x, sheared, whiten_y, log2_opacity = splat_geometry(records, splat, place)
    first_x, last_x = block_span(mean_x, records[splat, EXTENT_X])
    first_y, last_y = block_span(mean_y, records[splat, EXTENT_Y])
    offset_x, offset_y = load(LANE_X, 0) - mean_x, load(LANE_Y, 0) - mean_y
    for block_y in range(first_y, last_y + 1):
        dy = offset_y + np.float32(block_y * BLOCK)
        u2 = dy * whiten_y
        shift = dy * sheared
        row_log2 = log2_opacity - u2 * u2
        for block_x in range(first_x, last_x + 1):
            lane = (block_y * BLOCKS_PER_SIDE + block_x) * LANES
            u1 = (offset_x + np.float32(block_x * BLOCK)) * whiten_x - shift
            log2_alpha = row_log2 - u1 * u1
            before = load(transmittance, lane)
            alpha = select(log2_alpha >= LOG2_ALPHA_MIN, minimum(exp2(log2_alpha), ALPHA_LIMIT), ZERO)
            after = before - before * alpha
            store(transmittance, lane, after)
            store(median, lane, select((before > HALF) & (after <= HALF), broadcast(depth), load(median, lane)))


@kernel
def median_depth(counter, items, lists, splats, image):
    """image [H, W]: depth of the splat at which the transmittance falls to 0.5 or less, 0 where none does."""
    transmittance, rows = np.empty(BLOCKS_PER_TILE * LANES, np.float32), np.empty(TILE * TILE, np.float32)
    median = np.empty(BLOCKS_PER_TILE * LANES, np.float32)
    while True:
        item = next_item(counter)
        if item >= items:
            break
        tile = lists.order[item]
        place = tile_place(tile, lists.tiles_x)
        transmittance[:] = ONE
        median[:] = ZERO
        for pair in range(lists.starts[tile], lists.starts[tile + 1]):
            splat = lists.pair_splats[pair]
            median_splat(splat, place, splats.records, splats.depths[splat], transmittance, median)
            if pair % _SPLATS_PER_CHECK == 0 and tile_is_opaque(transmittance, 0, HALF):
                break
        for block in range(BLOCKS_PER_TILE):
            store_rows(rows, block_corner(block), TILE, load(median, block * LANES))
        copy_to_image(rows, place, image)
