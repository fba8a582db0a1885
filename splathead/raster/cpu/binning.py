"""Depth order and per-tile splat lists.

One radix sort of the visible splats by depth, then a counting sort into tiles: because splats are
dealt in depth order, every tile's list comes out sorted.
"""

from __future__ import annotations

import numpy as np

from splathead.raster.cpu.jit import kernel

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


@kernel
def bin_into_tiles(order, rects, tile_counts, tiles_x, tile_starts, pair_splats, pair_slots, splat_slots):
    """Deal the splats of ``order`` to the tiles of their ``rects``.

    Fills tile_starts [tiles + 1]; pair_splats [pairs]: splat of each (tile, splat) pair, tile by tile,
    near to far. Every pair also owns a slot, and the slots of splat i are the consecutive ones
    splat_slots[i] .. splat_slots[i + 1]; pair_slots [pairs] says which slot a pair has.
    """
    tiles, total = tile_starts.shape[0] - 1, tile_counts.shape[0]
    cursors = np.zeros(tiles, np.int64)
    start = 0
    for i in range(total):
        splat_slots[i] = start
        start += tile_counts[i]
        if tile_counts[i] > 0:
            for tile_y in range(rects[i, 2], rects[i, 3]):
                for tile_x in range(rects[i, 0], rects[i, 1]):
                    cursors[tile_y * tiles_x + tile_x] += 1
    splat_slots[total] = start
    start = 0
    for tile in range(tiles):
        tile_starts[tile] = start
        start += cursors[tile]
        cursors[tile] = tile_starts[tile]
    tile_starts[tiles] = start
    for j in range(order.shape[0]):
        i = order[j]
        slot = splat_slots[i]
        for tile_y in range(rects[i, 2], rects[i, 3]):
            for tile_x in range(rects[i, 0], rects[i, 1]):
                position = cursors[tile_y * tiles_x + tile_x]
                cursors[tile_y * tiles_x + tile_x] = position + 1
                pair_splats[position] = i
                pair_slots[position] = slot
                slot += 1
