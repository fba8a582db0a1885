"""The tool: any splatted head, depth map, posed capture or photo becomes clean depth, normals, a mesh and a report."""

from splathead.enhance.options import EnhanceOptions
from splathead.enhance.tool import enhance

__all__ = ["EnhanceOptions", "enhance"]
