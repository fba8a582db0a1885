"""Fusion of depth maps with confidence into one coloured mesh."""

from splathead.fusion.files import load_mesh, save_mesh
from splathead.fusion.surface import FusedMesh, decimated, extract_surface, largest_component, vertex_colours
from splathead.fusion.tsdf import DepthView, TsdfVolume, fuse_views

__all__ = [
    "DepthView", "FusedMesh", "TsdfVolume", "decimated", "extract_surface", "fuse_views",
    "largest_component", "load_mesh", "save_mesh", "vertex_colours",
]  # fmt: skip
