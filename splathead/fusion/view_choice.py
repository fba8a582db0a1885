"""Which views of a head are fit to be fused.

Splats are good where their photos were. A head made from one photo has no back, and a camera behind it sees the hollow of the
face, whose depth would be fused as a surface that faces the wrong way; from the side its layers come apart, and the views
contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splathead.fusion.tsdf import DepthView
from splathead.metrics.consistency import multiview_consistency
from splathead.threads import thread_map

STRIDE = 4
"""Every n-th pixel in both directions is looked at"""
SAME_SURFACE_MM = 15.0
INSIDE_SHARE = 0.2
"""A view is left out when more of its pixels than this show the back side of what an earlier view saw from the front: whole
heads have up to 0.07, with long hair, whose sheets are seen from both sides, 0.18 (0.24 in one view of our network's); heads
without a back have 0.19 to 1 from behind. The ranges touch (eval/LOG.md)"""
CONFLICT_SHARE = 0.3
"""A view is left out when it contradicts an earlier one on more: whole heads reach 0.22 (vanilla fits, from behind), LAM's
heads 0.36 to 0.65 at 40 degrees from each other"""
MIN_POINTS = 1000
"""Fewer common points say nothing"""


def choose_views(views: Sequence[DepthView], diagonal_mm: float) -> tuple[list[int], list[str]]:
    """Indices of the views that agree with those before them and look at the outside (the first one, at the face, always), and
    a line on the others. ``diagonal_mm``: of the head's bounding box."""
    views = _heads_of(views)
    kept, left_out = [0], []
    places = range(1, len(views))  # compared also with those left out: what contradicts a bad neighbour is no better
    pairs = [(place, other) for place in places for other in range(place)]
    found = thread_map(lambda pair: conflict_share(views[pair[0]], [views[pair[1]]], diagonal_mm), pairs)
    conflicts = {place: max(share for (one, _), share in zip(pairs, found) if one == place) for place in places}
    for view, place, inside in zip(views[1:], places, _inside_shares(views)):
        conflict = conflicts[place]
        if inside > INSIDE_SHARE:
            left_out.append(_inside_text(view, inside))
        elif conflict > CONFLICT_SHARE:
            left_out.append(f"{view.camera.name} (contradicts the others on {100 * conflict:.0f} %)")
        else:
            kept.append(place)
    if not left_out:
        return kept, []
    return kept, [f"NOTE: {len(left_out)} of {len(views)} views are left out of the mesh: {', '.join(left_out)}"]


def outside_views(views: Sequence[DepthView]) -> tuple[list[int], list[str]]:
    """As :func:`choose_views`, of views beside the first one that may contradict it: left out is only what sees the inside; a
    text on each such view in place of the line."""
    views = _heads_of(views)
    shares = [0.0, *_inside_shares(views)]
    left_out = [_inside_text(view, share) for view, share in zip(views, shares) if share > INSIDE_SHARE]
    kept = [place for place, share in enumerate(shares) if share <= INSIDE_SHARE]
    return kept, left_out


def _heads_of(views: Sequence[DepthView]) -> list[DepthView]:
    """The part of each view that shows the head, often a quarter: the same pixels are looked at, at a part of the cost."""
    return thread_map(lambda view: view.cropped(margin=1, multiple=STRIDE) if view.mask.any() else view, views)


def _inside_shares(views: Sequence[DepthView]) -> list[float]:
    """Of all but the first view, with regard to those before it."""
    thread_map(lambda view: view.world_normals, views)  # now, once: each of the threads below would work out all it needs
    return thread_map(lambda place: inside_share(views[place], views[:place]), range(1, len(views)))


def _inside_text(view: DepthView, share: float) -> str:
    return f"{view.camera.name} (sees the inside on {100 * share:.0f} % of its pixels)"


def conflict_share(view: DepthView, others: Sequence[DepthView], diagonal_mm: float) -> float:
    """Largest share of points, among those that a view and one of the others see, that one of the two looks through."""
    shares = [0.0]
    for other in others:
        pair = (view, other)
        found = multiview_consistency([np.where(v.mask, v.depth, 0) for v in pair], [v.camera for v in pair], diagonal_mm)
        if found.n_points > MIN_POINTS:
            shares.append(found.consistency_conflict)
    return max(shares)


def inside_share(view: DepthView, others: Sequence[DepthView]) -> float:
    """Share of a view's pixels that lie on a surface of another view which faces the other way there."""
    points, normals = _oriented_points(view)
    opposed = np.zeros(len(points), dtype=bool)
    for other in others:
        pixels, z = other.camera.project(points)
        height, width = other.mask.shape
        columns, rows = np.floor(pixels).astype(np.int64).T
        seen = (z > 0) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        columns, rows = np.where(seen, columns, 0), np.where(seen, rows, 0)
        seen &= other.mask[rows, columns] & (np.abs(other.depth[rows, columns] - z) < SAME_SURFACE_MM)
        theirs = other.world_normals[rows, columns]
        opposed |= seen & (np.einsum("nc,nc->n", normals, theirs) < 0)
    return float(opposed.mean()) if len(points) else 0.0


def _oriented_points(view: DepthView) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] of a view and their normals [N, 3] in the world, both where both are known."""
    normals = view.world_normals[::STRIDE, ::STRIDE]
    known = view.mask[::STRIDE, ::STRIDE] & (np.abs(normals).sum(-1) > 0)
    return view.camera.unproject(view.depth)[::STRIDE, ::STRIDE][known], normals[known]
