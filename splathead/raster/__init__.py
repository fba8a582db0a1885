"""Gaussian splatting: ``rasterize`` and ``render`` with interchangeable backends."""

from splathead.raster.interface import Raster, RasterSettings, rasterize
from splathead.raster.registry import available_backends, resolve_backend
from splathead.raster.render import OUTPUTS, RenderedMaps, render

__all__ = [
    "OUTPUTS", "Raster", "RasterSettings", "RenderedMaps",
    "available_backends", "rasterize", "render", "resolve_backend",
]  # fmt: skip
