"""Low-resolution inputs by name: the real low-resolution render at any bit depth, or a degradation of the high-resolution one.

``<n>bit``: the map rendered at low resolution, quantised to n bits (``16bit`` stands for the float render: its step is
0.003 mm). Any other name is one of :data:`splathead.maps.degrade.STUDY_DEGRADATIONS`, computed from the splats' 1024 depth
as the published study did.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from splathead.images import DepthEncoding, DepthMap, load_depth_code, load_depth_png
from splathead.maps.degrade import STUDY_DEGRADATIONS, degrade

FLOAT_BITS = 16
"""Bits of the encoding of inputs that are not quantised; their depth stays float."""


def load_low_resolution(folder: Path, name: str, seed: int = 0) -> DepthMap:
    """Low-resolution input ``name`` of a view folder of stage 05.

    Bit depths that stage 05 did not write are made from its 16-bit map. Noise depends on ``seed`` and the view's name alone.
    """
    folder = Path(folder)
    if name in STUDY_DEGRADATIONS:
        return degraded_input(folder, name, seed)
    path = folder / f"lr_{name}.png"
    if path.is_file():
        return load_depth_png(path)
    return requantised(load_depth_png(folder / f"lr_{FLOAT_BITS}bit.png"), int(name.removesuffix("bit")))


def requantised(depth_map: DepthMap, bits: int) -> DepthMap:
    """The same map with ``bits`` bits between its own minimum and maximum."""
    encoding = DepthEncoding.from_depth(depth_map.depth, depth_map.mask, bits, depth_map.encoding.unit)
    depth, mask = encoding.decode(encoding.encode(depth_map.depth, depth_map.mask))
    return DepthMap(depth, mask, encoding, depth_map.camera, depth_map.source)


def degraded_input(folder: Path, name: str, seed: int = 0) -> DepthMap:
    """The high-resolution render of a view, degraded as ``STUDY_DEGRADATIONS[name]`` says, at the input's size."""
    high = load_depth_png(folder / "hr_render.png")
    size = load_depth_code(folder / f"lr_{FLOAT_BITS}bit.png").camera
    degradation = STUDY_DEGRADATIONS[name]
    rng = np.random.default_rng([seed, zlib.crc32("/".join(folder.parts[-3:]).encode())])
    depth, mask = degrade(high.depth, high.mask, high.camera.width // size.width, degradation, rng)
    encoding = DepthEncoding.from_depth(depth, mask, degradation.bits or FLOAT_BITS, high.encoding.unit)
    return DepthMap(depth, mask, encoding, high.camera.resized(size.width, size.height), f"{high.source}, {name}")
