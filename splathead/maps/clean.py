"""Which pixels of a rendered view show the head: alpha threshold, floaters, closing, components, holes.

Sizes in pixels are meant for 1024-pixel-wide maps and scale with the map, so that a 256 map of the same view is
treated alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from splathead.config import PostprocessConfig

REFERENCE_WIDTH = 1024
"""Map width that pixel sizes in the configuration refer to."""

FLOATER_SHARE = 0.15
"""Floaters are smaller than this share of the largest part of the view."""


@dataclass(frozen=True)
class CleanMask:
    """Disjoint parts of a view's mask, each [H, W] bool."""

    known: np.ndarray  # the rendered depth is used
    small_holes: np.ndarray  # to be filled smoothly (closing adds to these)
    large_holes: np.ndarray  # to be filled from the nearest known pixel; empty unless asked for

    @property
    def mask(self) -> np.ndarray:
        """All pixels that show the head."""
        return self.known | self.small_holes | self.large_holes


def clean_mask(alpha: np.ndarray, depth: np.ndarray, settings: PostprocessConfig, map_width: int) -> CleanMask:
    """Mask of one rendered view.

    Args:
        alpha: [H, W] accumulated opacity of the view or of a crop that leaves a pixel around the head.
        depth: [H, W] z-depth in mm whose jumps separate floaters from the head; median depth does not smear across
            a floater's soft edge as expected depth does.
        settings: thresholds; see :class:`splathead.config.PostprocessConfig`.
        map_width: width of the whole view in pixels.

    May come out empty; the caller knows which view to name.
    """
    scale = map_width / REFERENCE_WIDTH
    known = (alpha > settings.alpha_threshold) & (depth > 0)
    known &= ~find_floaters(depth, known, settings.floater_mm)
    closed = close_mask(known, round(settings.closing_px * scale))
    closed &= large_components(closed, known, settings.min_component_px * scale**2, settings.min_component_share)
    small, large = find_holes(closed, settings.fill_holes_px * scale**2)
    if settings.large_holes != "nearest":
        large = np.zeros_like(large)
    known &= closed
    return CleanMask(known, (closed & ~known) | small, large)


def find_floaters(depth: np.ndarray, mask: np.ndarray, distance: float) -> np.ndarray:
    """Pixels [H, W] bool of ``mask`` that hang in front of the subject.

    The mask is cut into parts at depth jumps of more than ``distance`` (unit of ``depth``). A part is a floater when
    it has less than ``FLOATER_SHARE`` of the largest part's pixels and its median depth is more than ``distance`` nearer
    than the largest part's nearest pixel (its 0.1 % quantile). Without the first condition a head would be a floater
    in front of its shoulders.
    """
    labels, sizes = _depth_parts(depth, mask, distance)
    if len(sizes) < 3:  # background and one part
        return np.zeros_like(mask)
    main = 1 + int(sizes[1:].argmax())
    limit = np.quantile(depth[labels == main], 0.001) - distance
    is_floater = np.zeros(len(sizes), dtype=bool)
    for label in np.unique(labels[mask & (depth < limit)]):
        small = label not in (0, main) and sizes[label] < FLOATER_SHARE * sizes[main]
        is_floater[label] = small and np.median(depth[labels == label]) < limit
    return is_floater[labels]


def _depth_parts(depth: np.ndarray, mask: np.ndarray, jump: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels [H, W] of the parts of ``mask`` between depth jumps (0 = none) and their sizes, the background's first.

    A pixel with a neighbour that is more than ``jump`` nearer belongs to the edge of what lies behind: leaving
    those out cuts the mask.
    """
    known = np.where(mask, depth, np.inf).astype(np.float32)
    nearest = cv2.erode(known, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    inner = mask & (known <= nearest + np.float32(jump))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inner.astype(np.uint8), connectivity=4)
    return labels, stats[:, cv2.CC_STAT_AREA]


def close_mask(mask: np.ndarray, diameter_px: int) -> np.ndarray:
    """Morphological closing of ``mask`` [H, W] bool with a disc; nothing below 2 pixels."""
    if diameter_px < 2:
        return mask.copy()
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px))
    # The frame is extended by the mask's own border, else closing would eat into heads that leave the image.
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), *(diameter_px,) * 4, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)
    return closed[diameter_px:-diameter_px, diameter_px:-diameter_px].astype(bool) | mask


def large_components(mask: np.ndarray, counted: np.ndarray, min_px: float, min_share: float = 0.0) -> np.ndarray:
    """Connected parts (8 neighbours) of ``mask`` [H, W] bool that are not small.

    Their pixels in ``counted`` must be at least ``min_px`` (and one), and ``min_share`` of the largest part's.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels[counted], minlength=count)
    sizes[0] = 0
    keep = sizes >= max(min_px, 1, min_share * sizes.max())
    return keep[labels]


def find_holes(mask: np.ndarray, max_small_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the background that ``mask`` encloses: (up to ``max_small_px`` pixels, larger), each [H, W] bool.

    What touches the image's border is open, not a hole.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    height, width = mask.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    enclosed = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    enclosed[0] = False
    small = enclosed & (stats[:, cv2.CC_STAT_AREA] <= max_small_px)
    large = enclosed & ~small
    return tuple(chosen[labels] if chosen.any() else np.zeros_like(mask) for chosen in (small, large))
