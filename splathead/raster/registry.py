"""The rasterisation backends by name, imported only when they are used.

A backend is a module with three functions:

* ``rasterize(gaussians, features, camera, settings, means2d_offset) -> Raster``,
* ``median_depth(gaussians, camera, settings) -> Tensor [H, W]``,
* ``unavailable_reason() -> str | None``: why it cannot run here and the remedy, or None. It must be
  cheap, so it looks for packages without importing heavy ones.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

import torch

from splathead.choices import BACKEND_MODULES

AUTO_ORDER = {
    "cuda": ("gsplat", "inria", "cpu", "reference"),
    "cpu": ("cpu", "reference"),
}
"""Preference of ``backend="auto"`` by the device that the Gaussians live on: fastest first."""


def backend_module(name: str) -> ModuleType:
    """The backend's module; an unknown name is an error that lists the known ones."""
    if name not in BACKEND_MODULES:
        raise ValueError(f"unknown raster backend {name!r}, expected 'auto' or one of {sorted(BACKEND_MODULES)}")
    return importlib.import_module(BACKEND_MODULES[name])


def available_backends() -> dict[str, str | None]:
    """Every backend's name -> None when it can be used here, else the reason and the remedy."""
    return {name: backend_module(name).unavailable_reason() for name in BACKEND_MODULES}


@functools.cache
def _first_available(device_type: str) -> str:
    reasons = {}
    for name in AUTO_ORDER.get(device_type, AUTO_ORDER["cpu"]):
        reason = backend_module(name).unavailable_reason()
        if reason is None:
            if reasons:
                why = "; ".join(f"{skipped}: {text}" for skipped, text in reasons.items())
                warnings.warn(f"rendering on the slower {name!r} backend ({why})", stacklevel=4)
            return name
        reasons[name] = reason
    raise RuntimeError(f"no raster backend is usable for {device_type} tensors: {reasons}")


def resolve_backend(name: str, device: torch.device | str) -> str:
    """Name of the backend to use; ``"auto"`` takes the fastest usable one for tensors on ``device``.

    A named backend that cannot run here is a RuntimeError with the remedy. When ``"auto"`` has to pass
    over a faster backend it warns once, naming the reason.
    """
    if name == "auto":
        return _first_available(torch.device(device).type)
    reason = backend_module(name).unavailable_reason()
    if reason is not None:
        raise RuntimeError(f"raster backend {name!r} cannot be used: {reason}")
    return name
