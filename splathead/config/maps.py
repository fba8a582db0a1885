"""Sections of the configuration: maps rendered from the Gaussians, their clean-up, and pairs of them.

Field documentation is the help of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RenderConfig:
    """Stage 03: maps rendered from the Gaussians."""

    backend: str = "auto"
    """auto | cpu | gsplat | inria | reference"""
    modes: list[str] = field(default_factory=lambda: ["classic"])
    """classic and/or antialiased rasterisation"""
    lr_size: int = 256
    """side of the low-resolution render (rendered, not resampled)"""
    median: bool = True
    """also render median depth"""


@dataclass
class PostprocessConfig:
    """Stage 04: clean-up of the rendered maps. Sizes in pixels hold at 1024 and scale with the map."""

    alpha_threshold: float = 0.5
    closing_px: int = 5
    """diameter of the morphological closing of the mask"""
    min_component_px: int = 100
    """smaller detached parts of the mask are dropped"""
    min_component_share: float = 0.02
    """so are detached parts smaller than this share of the largest one: floaters beside and behind the head"""
    fill_holes_px: int = 5000
    """holes up to this area are filled smoothly"""
    large_holes: str = "leave"
    """larger holes: leave (seen through a loop of hair, say) or nearest (fill from the nearest pixel, as published)"""
    floater_mm: float = 30.0
    """components whose median depth is farther than this in front of the main one's nearest are removed"""
    align: bool = False
    """photos: align renders to the photo by landmarks and ECC"""
    nose_relative: bool = False
    """also write depth relative to the nose tip"""
    bilateral: bool = False
    """smooth normals from depth by a joint bilateral filter"""


@dataclass
class PairsConfig:
    """Stage 05: high-/low-resolution pairs."""

    lr_mode: str = "classic"
    """rasterisation mode of the pairs: variants rendered in it are used, high and low resolution alike"""
    lr_bits: list[int] = field(default_factory=lambda: [8, 16])
    """bit depths of the low-resolution input, 2 to 16 each"""
    interior_px: int = 8
    jump_mm: float = 4.0
