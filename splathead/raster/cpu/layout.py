"""Sizes and column numbers that the kernels share."""

import math

import numpy as np

TILE = 32
"""Side of a square tile in pixels; a tile is what one thread composites at a time."""

BLOCK = 4
"""Side of a square block of pixels; its 16 pixels are the lanes of one vector."""

BLOCKS_PER_SIDE = TILE // BLOCK
BLOCKS_PER_TILE = BLOCKS_PER_SIDE * BLOCKS_PER_SIDE

CHANNEL_COUNTS = (4, 8)
"""Feature channels that kernels are compiled for; other counts are padded or split into passes."""

# Columns of a splat's record: 16 floats, one cache line.
MEAN_X, MEAN_Y = 0, 1  # px
WHITEN_X, SHEAR, WHITEN_Y = 2, 3, 4  # see project.py
LOG2_OPACITY = 5
EXTENT_X, EXTENT_Y = 6, 7  # px half extents of the alpha >= 1/255 box
FEATURES = 8
RECORD = 16

# Columns of a gradient line: what one splat collects from one tile.
GRAD_LOG_ALPHA = 0  # sum of v = dL / d ln(alpha)
GRAD_U1, GRAD_U2 = 1, 2  # sums of v u1, v u2
GRAD_U11, GRAD_U12, GRAD_U22 = 3, 4, 5  # sums of v u1 u1, v u1 u2, v u2 u2
GRAD_FEATURES = 6
GRAD_LINE = 16

WHITEN_SCALE = math.sqrt(0.5 * math.log2(math.e))
"""Whitened offsets u carry this factor, so that log2(alpha) = log2(opacity) - u1^2 - u2^2."""

LANE_X = (np.arange(16) % BLOCK + 0.5).astype(np.float32)
LANE_Y = (np.arange(16) // BLOCK + 0.5).astype(np.float32)
"""Pixel centre of each lane within its block."""
