"""Which views a mesh is made of; heads that are good from the front only get more of them near the front.

A head made from one photo is a stack of layers that line up where the photo was taken from. From 40 degrees they have come
apart: every view there contradicts the front, and a mesh of the front alone has holes beside the nose and no ears. Views in
between (the fan) see those parts and are wrong by less. Averaged with the front they would still crack the face, as they
contradict it, too. So the front has priority. What was measured on such heads stands in eval/LOG.md (2026-11-28, heads made
from one photo).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splathead.cameras import Camera
from splathead.enhance.enlarge import method_weights
from splathead.enhance.head import Head
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.views import EnhancedView, enhance_views, fitting_cameras, view_cameras
from splathead.fusion import DepthView
from splathead.fusion.view_choice import choose_views, outside_views

FEW = 1 / 3
"""A head of which no more views than this are fit for its mesh is good from the front only: a head made from one photo keeps
the front and at most one of eight others, half a head more than half of its views (eval/LOG.md)"""
FAN = ((10, 0), (-10, 0), (20, 0), (-20, 0), (30, 0), (-30, 0), (0, 15), (0, -15))
"""Yaw and elevation in degrees of the views near the front"""
PRIORITY = 1e-4
"""Factor on the weight of a view within ``NEAR_DEG`` of the front; its square for those farther off, which are worse. Fusion
averages by weight, so that a weight this low only matters where the front saw nothing, and there the nearer views come first.
A hundred times more would move what the front sees where it is slanted and unsure, as its own weight is low there, and would
fill in no more (eval/LOG.md)"""
NEAR_DEG = 15.5
"""Half a degree more than the elevations of the fan, whose angles are worked out with rounding"""


@dataclass(frozen=True)
class HeadViews:
    """Everything that was looked at, the front first, and what of it the mesh is made of."""

    views: list[EnhancedView]
    used: list[int]
    """places of the views that are fused"""
    front_first: bool
    """the others only fill in"""
    lines: list[str]

    @property
    def fused(self) -> list[str]:
        """Names of the views that are fused."""
        return [self.views[place].camera.name for place in self.used]

    def depth_views(self, *, enhanced: bool) -> list[DepthView]:
        """What fusion takes, depth in mm; raw depth in the same way as the enhanced one, so that they can be compared."""
        views = [self.views[place].depth_view(enhanced=enhanced) for place in self.used]
        return second_to_front(views) if self.front_first else views


def head_views(head: Head, options: EnhanceOptions, jobs: int) -> HeadViews:
    """Views around the head; where hardly more than the front of them is fit, those near the front, too."""
    views, lines = enhance_views(head, options, jobs, view_cameras(head, options))
    kept, left_out = choose_views([view.depth_view(enhanced=True) for view in views], head.diagonal_mm)
    lines = [*lines, *left_out]
    if not is_front_only(len(kept), len(views)):
        return HeadViews(views, kept, front_first=False, lines=lines)
    fan, removed = enhance_views(head, options, jobs, fan_cameras(head, views[0].camera), " near the front")
    outside, inside = outside_views([view.depth_view(enhanced=True) for view in (views[0], *fan)])
    filling = [len(views) + place - 1 for place in outside if place > 0]
    notes = [_note(len(kept), len(views), len(filling), len(fan), inside), *_advice(options.method_for("splats"))]
    return HeadViews([*views, *fan], kept + filling, front_first=True, lines=[*lines, *removed, *notes])


def _note(kept: int, views: int, filling: int, fan: int, left_out: Sequence[str]) -> str:
    """Of how many views around the head which number was kept, and of how many near the front which number fills in."""
    done = f"filled in from {filling} of {fan} views near it" if filling else f"not filled in from the {fan} views near it"
    others = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"NOTE: {kept} of {views} views {'is' if kept == 1 else 'are'} fit: what the front does not see is {done}{others}"


def _advice(method: str) -> list[str]:
    if method_weights(method) is None:
        return []
    return ["NOTE: the network knows splats fitted to views all around, not such heads: compare with --method splat_surface"]


def is_front_only(kept: int, views: int) -> bool:
    """Whether a head is good from the front only, as so few of its views are fit; who asked for one view gets one."""
    return views > 1 and (kept == 1 or kept <= FEW * views)


def fan_cameras(head: Head, front: Camera) -> list[Camera]:
    """Cameras near the front with its picture size, as far from the head (in mm) or, where it would not fit, farther."""
    return fitting_cameras(head, FAN, front.width, float(np.linalg.norm(front.position)))


def second_to_front(views: Sequence[DepthView]) -> list[DepthView]:
    """The views with the confidence of all but the first lowered so far that they only matter where it saw nothing."""
    front = views[0]
    return [front, *(_lowered(view, front.camera) for view in views[1:])]


def _lowered(view: DepthView, front: Camera) -> DepthView:
    cosine = float(view.camera.rotation[2] @ front.rotation[2])
    near = math.degrees(math.acos(min(1.0, cosine))) < NEAR_DEG
    own = np.ones(view.depth.shape, np.float32) if view.confidence is None else view.confidence
    return replace(view, confidence=own * np.float32(PRIORITY if near else PRIORITY**2))
