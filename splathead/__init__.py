"""SplatHead: sharp depth, clean detail and metric meshes from Gaussian-splatted heads."""

import os

# Idle OpenMP threads of torch would spin on the cores that the rasteriser's threads need (a fifth of a fit's step on
# two cores). OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
