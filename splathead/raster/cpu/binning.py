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
def sort_by_depth(splats):
    """Indices (int32) of the splats that touch a tile, near to far; equal depths keep index order."""
    depths, tile_counts = splats.depths, splats.tile_counts
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
def _list_sizes(splats, tiles_x, tiles_y):
    """Splats per tile [tiles_y + 1, tiles_x + 1], from the rectangles' corners by two prefix sums."""
    rects, tile_counts = splats.rects, splats.tile_counts
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
def bin_into_tiles(sorted_splats, splats, lists, splat_slots):
    """Deal the splats to the tiles of their rectangles in sorted order, filling ``lists`` but for its ``order``.

    The slots of splat i are the consecutive ones splat_slots[i] .. splat_slots[i + 1] ([N + 1]).
    """
    rects, tile_counts, tiles_x, tile_starts = splats.rects, splats.tile_counts, lists.tiles_x, lists.starts
    tiles_y = (tile_starts.shape[0] - 1) // tiles_x
    sizes = _list_sizes(splats, tiles_x, tiles_y)
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
    for i in sorted_splats:
        tile, width, column = rects[i, 2] * tiles_x + rects[i, 0], rects[i, 1] - rects[i, 0], 0
        # One loop over the rectangle rather than two: half the mispredicted branches, which dominate here.
        for slot in range(splat_slots[i], splat_slots[i + 1]):
            position = cursors[tile]
            cursors[tile] = position + 1
            lists.pair_splats[position] = i
            lists.pair_slots[position] = slot
            column += 1
            row_ends = column == width
            tile += tiles_x - width + 1 if row_ends else 1
            column = 0 if row_ends else column
