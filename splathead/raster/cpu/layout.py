"""Sizes, column numbers and array bundles that the kernels share."""

import math
from typing import NamedTuple

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


class GaussianArrays(NamedTuple):
    """Raw parameters, float32."""

    means: np.ndarray  # [N, 3]
    log_scales: np.ndarray  # [N, 3]
    quaternions: np.ndarray  # [N, 4]
    opacity_logits: np.ndarray  # [N]


class View(NamedTuple):
    """A camera and the settings that projection needs."""

    pose: np.ndarray  # [12] float64 world-to-camera rotation, row major, and translation
    lens: np.ndarray  # [9] float32, indexed by the constants of project.py
    near: float
    antialiased: bool
    width: int
    height: int


class Splats(NamedTuple):
    """Projected Gaussians; entries of culled ones (tile count 0) are undefined."""

    records: np.ndarray  # [N, 16] float32, columns as above
    depths: np.ndarray  # [N] float32 z
    rects: np.ndarray  # [N, 4] int16 half-open tile range x0, x1, y0, y1
    tile_counts: np.ndarray  # [N] int32


class TileLists(NamedTuple):
    """Which splats each tile composites, near to far: one pair per tile and splat that meet."""

    tiles_x: int
    order: np.ndarray  # [tiles] int64 longest list first, so that threads finish together
    starts: np.ndarray  # [tiles + 1] int64 range of a tile's pairs
    pair_splats: np.ndarray  # [pairs] int32
    pair_slots: np.ndarray  # [pairs] int32 where the pair's gradient line goes


class TileEnds(NamedTuple):
    """How compositing ended; pixels lie tile by tile, block by block."""

    transmittance: np.ndarray  # [tiles * 1024] float32
    stops: np.ndarray  # [tiles * 1024] float32 position in the list of the splat that finished the pixel, or its length
    pairs: np.ndarray  # [tiles] int64 end of the pairs that were looked at


class Frame(NamedTuple):
    """An image, or the gradient of one."""

    features: np.ndarray  # [C, H, W] float32
    alpha: np.ndarray  # [H, W] float32


class ParameterGrads(NamedTuple):
    """Gradients of GaussianArrays, of the features and of the projected centres."""

    means: np.ndarray
    log_scales: np.ndarray
    quaternions: np.ndarray
    opacity_logits: np.ndarray
    features: np.ndarray  # [N, C]
    means2d: np.ndarray  # [N, 2] px


class TilePlace(NamedTuple):
    """Where a tile lies in the image (in tiles) and in the arrays of TileEnds."""

    x: int
    y: int
    base: int
