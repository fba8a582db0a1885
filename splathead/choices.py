"""Names that command lines offer, where the modules behind them import torch, which takes seconds."""

KINDS = ("splats", "depth", "capture", "photo")
"""What an input may be, see :mod:`splathead.inputs`"""
BACKEND_MODULES = {
    "cpu": "splathead.raster.cpu",
    "reference": "splathead.raster.reference",
    "gsplat": "splathead.raster.gsplat",
    "inria": "splathead.raster.inria",
}
"""Rasteriser's name -> module path, see :mod:`splathead.raster.registry`"""
