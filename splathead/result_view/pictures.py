"""Pictures of the front view before and after: shaded, coloured by depth, and what changed in between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from splathead.cameras import Camera
from splathead.images import DepthMap, load_depth_png, read_png
from splathead.maps.normals import normals_from_depth
from splathead.report.panels import ERROR_COLOURS, NICE_RANGES, coloured, depth_picture, error_map, head_box
from splathead.result_view.folder import ResultFolder

CLAY = np.array([0.83, 0.80, 0.77])
_LIGHTS = ((-0.45, 0.55, 0.7), (0.8, 0.1, 0.5), (-0.25, 0.3, 0.95))
KEY, FILL, GLOSS = (tuple(float(value) for value in np.divide(light, np.linalg.norm(light))) for light in _LIGHTS)
"""directions to the lights (x right, y up, z towards the camera): those of ``report/assets/viewer.js``"""


@dataclass(frozen=True)
class FrontView:
    """Depths [h, w] of the front view in the result's unit, cut to the head; 0 = no surface."""

    after: np.ndarray
    before: np.ndarray | None
    camera: Camera
    """of the cut maps"""
    box: tuple[slice, slice]
    """rows and columns that were cut out"""

    @property
    def depth_range(self) -> tuple[float, float]:
        """Depths that colours span: the nearest 95 % of the enhanced map."""
        near, far = np.quantile(self.after[self.after > 0], (0.0, 0.95))
        return float(near), float(far)

    @property
    def change(self) -> np.ndarray | None:
        """Enhanced minus previous depth [h, w]; NaN where either has no surface; None without a previous map."""
        return None if self.before is None else error_map(self.after, self.before)


def load_front_view(result: ResultFolder) -> FrontView | None:
    """The front view's maps; None where the result has no depth map. Maps of two sizes are an error."""
    if "depth" not in result.files:
        return None
    after = load_depth_png(result.files["depth"])
    before = load_depth_png(result.files["depth_before"]) if "depth_before" in result.files else None
    mask = after.mask
    if before is not None:
        _check_same_view(result, after, before)
        mask = mask | before.mask
    box = head_box(mask)
    return FrontView(after.depth[box], None if before is None else before.depth[box], after.camera.cropped(*box), box)


def _check_same_view(result: ResultFolder, after: DepthMap, before: DepthMap) -> None:
    shapes = [depth_map.depth.shape for depth_map in (after, before)]
    if shapes[0] != shapes[1] or after.encoding.unit != before.encoding.unit:
        found = " and ".join(f"{h}x{w} {m.encoding.unit}" for (h, w), m in zip(shapes, (after, before)))
        raise ValueError(f"{result.path}: depth.png and depth_before.png are {found}, expected the same view")


def read_front(result: ResultFolder, view: FrontView, role: str, channels: int) -> np.ndarray:
    """The picture ``role`` of the front view, uint8 [h, w] or [h, w, channels], cut as its maps are.

    ValueError for one of another size than theirs.
    """
    image = read_png(result.files[role], channels=channels, bits=8)[view.box]
    if image.shape[:2] != view.after.shape:
        raise ValueError(f"{result.files[role]}: {image.shape[1]}x{image.shape[0]}, expected the size of depth.png")
    return image


def shaded_normals(normals: np.ndarray, base: np.ndarray = CLAY) -> np.ndarray:
    """Colours [..., 3] in [0, 1] of a surface of colour ``base`` [3] or [..., 3] with unit normals [..., 3] (x right, y up,
    z towards the camera), lit as in the mesh viewer."""
    x, y, z = np.moveaxis(normals, -1, 0)
    key, fill, gloss = (np.maximum(x * a + y * b + z * c, 0) for a, b, c in (KEY, FILL, GLOSS))
    gloss = gloss * gloss * gloss * gloss * gloss  # ** 40
    gloss = gloss * gloss * gloss * gloss
    diffuse = 0.24 + 0.12 * y + 0.68 * key + 0.2 * fill
    return np.clip(base * diffuse[..., None] + 0.07 * (gloss * gloss)[..., None], 0, 1)


def shaded_picture(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth [h, w] as a lit clay surface, RGBA uint8; transparent where no normal is known."""
    normals, valid = normals_from_depth(depth, depth > 0, camera, jump=math.inf)
    colours = shaded_normals(normals * np.array([1.0, -1.0, -1.0]))
    return np.rint(255 * np.concatenate([colours, valid[..., None]], axis=-1)).astype(np.uint8)


def nice_range(values: np.ndarray) -> float:
    """Range that colours of ``values`` span: the next round number above their 90th percentile (NaN are left out)."""
    values = np.abs(values[np.isfinite(values)])
    typical = float(np.quantile(values, 0.9)) if values.size else 1.0
    outside = typical > 0 and not NICE_RANGES[0] <= typical <= NICE_RANGES[-1]
    scale = 10.0 ** math.floor(math.log10(typical)) if outside else 1.0
    return next(scale * value for value in (*NICE_RANGES, 10.0) if scale * value >= typical)


def change_picture(change: np.ndarray, limit: float) -> np.ndarray:
    """Signed change as RGBA: red where the surface moved back, blue where it came forward, white where it stayed."""
    return coloured(change, -limit, limit, ERROR_COLOURS)


def before_after(view: FrontView, layer: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The layer ``shaded`` or ``depth`` of the enhanced map and of the one before, RGBA."""
    if layer == "shaded":
        return tuple(None if depth is None else shaded_picture(depth, view.camera) for depth in (view.after, view.before))
    shown = view.depth_range
    return tuple(None if depth is None else depth_picture(depth, shown) for depth in (view.after, view.before))


def opaque(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grey [h, w] or RGB [h, w, 3] uint8 as RGBA, transparent outside of ``mask``."""
    colours = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return np.concatenate([colours, np.where(mask, 255, 0).astype(np.uint8)[..., None]], axis=-1)
