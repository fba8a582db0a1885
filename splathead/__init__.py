"""SplatHead: sharp depth, clean detail and metric meshes from Gaussian-splatted heads."""

__version__ = "0.1.0"
