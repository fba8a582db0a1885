"""Depth order and per-tile splat lists.

One radix sort of the visible splats by depth, then a counting sort into tiles: because splats are
dealt in depth order, every tile's list comes out sorted.
"""

from __future__ import annotations

import numpy as np

from splathead.raster.cpu.jit import inline, kernel

_DIGIT_BITS = 12
_DIGITS = 1 << _DIGIT_BITS


@kernel
def sort_by_depth(depths, tile_counts):
    """Indices (int32) of splats with ``tile_counts`` > 0, near to far; equal depths keep index order."""
    total = depths.shape[0]
    keys, indices = np.empty(total, np.uint32), np.empty(total, np.int32)
    bits = depths.view(np.uint32)  # positive floats order like their bit patterns
    count = 0
    smallest, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(total):
        if tile_counts[i] > 0:
            key = bits[i]
            keys[count], indices[count] = key, np.int32(i)
            count += 1
            smallest, largest = min(smallest, key), max(largest, key)
    if count == 0:
        return indices[:0]
    other_keys, other_indices = np.empty(count, np.uint32), np.empty(count, np.int32)
    histogram = np.empty(_DIGITS, np.int64)
    spread, shift = np.int64(largest) - np.int64(smallest), 0
    while spread >> shift > 0:
        histogram[:] = 0
        for i in range(count):
            histogram[((keys[i] - smallest) >> np.uint32(shift)) & np.uint32(_DIGITS - 1)] += 1
        start = 0
        for digit in range(_DIGITS):
            size = histogram[digit]
            histogram[digit] = start
            start += size
        for i in range(count):
            digit = ((keys[i] - smallest) >> np.uint32(shift)) & np.uint32(_DIGITS - 1)
            position = histogram[digit]
            histogram[digit] = position + 1
            other_keys[position], other_indices[position] = keys[i], indices[i]
        keys, other_keys = other_keys, keys
        indices, other_indices = other_indices, indices
        shift += _DIGIT_BITS
    return indices[:count]


@inline
def _list_sizes(rects, tile_counts, tiles_x, tiles_y):
    """Splats per tile [tiles_y + 1, tiles_x + 1], from the rectangles' corners by two prefix sums."""
    sizes = np.zeros((tiles_y + 1, tiles_x + 1), np.int64)
    for i in range(tile_counts.shape[0]):
        if tile_counts[i] > 0:
            x0, x1, y0, y1 = rects[i, 0], rects[i, 1], rects[i, 2], rects[i, 3]
            sizes[y0, x0] += 1
            sizes[y0, x1] -= 1
            sizes[y1, x0] -= 1
            sizes[y1, x1] += 1
    for y in range(tiles_y):
        for x in range(1, tiles_x):
            sizes[y, x] += sizes[y, x - 1]
    for y in range(1, tiles_y):
        for x in range(tiles_x):
            sizes[y, x] += sizes[y - 1, x]
    return sizes


@kernel
def bin_into_tiles(order, rects, tile_counts, tiles_x, tile_starts, pair_splats, pair_slots, splat_slots):
    """Deal the splats of ``order`` to the tiles of their ``rects``.

    Fills tile_starts [tiles + 1]; pair_splats [pairs]: splat of each (tile, splat) pair, tile by tile,
    near to far. Every pair also owns a slot, and the slots of splat i are the consecutive ones
    splat_slots[i] .. splat_slots[i + 1]; pair_slots [pairs] says which slot a pair has.
    """
    tiles_y = (tile_starts.shape[0] - 1) // tiles_x
    sizes = _list_sizes(rects, tile_counts, tiles_x, tiles_y)
    cursors = np.empty(tiles_x * tiles_y, np.int64)
    start = 0
    for tile in range(cursors.shape[0]):
        tile_starts[tile] = cursors[tile] = start
        start += sizes[tile // tiles_x, tile % tiles_x]
    tile_starts[cursors.shape[0]] = start
    start = 0
    for i in range(tile_counts.shape[0]):
        splat_slots[i] = start
        start += tile_counts[i]
    splat_slots[tile_counts.shape[0]] = start
    for j in range(order.shape[0]):
        i = order[j]
        tile, width, column = rects[i, 2] * tiles_x + rects[i, 0], rects[i, 1] - rects[i, 0], 0
        # One loop over the rectangle rather than two: half the mispredicted branches, which dominate here.
        for slot in range(splat_slots[i], splat_slots[i + 1]):
            position = cursors[tile]
            cursors[tile] = position + 1
            pair_splats[position] = i
            pair_slots[position] = slot
            column += 1
            row_ends = column == width
            tile += tiles_x - width + 1 if row_ends else 1
            column = 0 if row_ends else column
