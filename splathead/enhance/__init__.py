"""The tool: any splatted head, depth map, posed capture or photo becomes clean depth, normals, a mesh and a report.

Imported when asked for: worker processes import modules of this package that need no torch, which alone takes seconds.
"""

from __future__ import annotations

import importlib

_MODULES = {"EnhanceOptions": "splathead.enhance.options", "enhance": "splathead.enhance.tool"}
__all__ = ["EnhanceOptions", "enhance"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
