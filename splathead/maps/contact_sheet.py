"""Small pictures of a view's maps side by side: to look at, never to measure."""

from __future__ import annotations

import cv2
import numpy as np

from splathead.images import encode_normals

TILE_PX = 192
LABEL_PX = 18


def preview_row(maps: dict[str, np.ndarray], names: tuple[str, ...] = ()) -> list[tuple[str, np.ndarray]]:
    """(label, tile [TILE_PX, TILE_PX, 3] uint8 RGB) of the maps of one view (all when ``names`` is empty)."""
    width = maps["alpha"].shape[1]
    shown = names or tuple(name for name in _PAINTERS if name in maps)
    return [(f"{name} {width}", _fit_tile(_PAINTERS[name](_shrink(maps, name)))) for name in shown]


def contact_sheet(rows: list[list[tuple[str, np.ndarray]]]) -> np.ndarray:
    """One RGB uint8 picture of equally long rows of labelled tiles."""
    lines = []
    for row in rows:
        tiles = []
        for label, tile in row:
            title = np.full((LABEL_PX, TILE_PX, 3), 32, np.uint8)
            cv2.putText(title, label, (4, LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
            tiles.append(np.vstack([title, tile]))
        lines.append(np.hstack(tiles))
    return np.vstack(lines)


def _shrink(maps: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Every n-th pixel of a map, about TILE_PX wide: sampling mixes no empty pixels in and is quick."""
    step = max(1, maps["alpha"].shape[1] // TILE_PX)
    return maps[name][step // 2 :: step, step // 2 :: step]


def _fit_tile(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return tile


def _paint_depth(depth: np.ndarray) -> np.ndarray:
    """Near is bright; the range is the map's 1 % to 99 % quantiles; empty is black."""
    used = depth > 0
    near, far = np.quantile(depth[used], [0.01, 0.99]) if used.any() else (0.0, 1.0)
    shown = np.clip((far - depth) / max(far - near, 1e-6), 0, 1) * 255
    return np.where(used[..., None], _colour_map(shown, cv2.COLORMAP_TURBO), 0).astype(np.uint8)


def _paint_variance(variance: np.ndarray) -> np.ndarray:
    """Depth's standard deviation; the brightest colour is the map's 98 % quantile."""
    deviation = np.sqrt(variance)
    top = np.quantile(deviation[deviation > 0], 0.98) if deviation.any() else 1.0
    return _colour_map(deviation / top * 255, cv2.COLORMAP_INFERNO)


def _paint_normal(normal: np.ndarray) -> np.ndarray:
    return encode_normals(normal.astype(np.float32) / 127)


def _paint_grey(image: np.ndarray) -> np.ndarray:
    return np.repeat((image.astype(np.float32) * 255).astype(np.uint8)[..., None], 3, axis=2)


def _paint_rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image)


def _colour_map(values: np.ndarray, colours: int) -> np.ndarray:
    return cv2.applyColorMap(np.clip(values, 0, 255).astype(np.uint8), colours)[..., ::-1]


_PAINTERS = {
    "rgb": _paint_rgb,
    "photo": _paint_rgb,
    "alpha": _paint_grey,
    "mask": _paint_grey,
    "depth": _paint_depth,
    "depth_median": _paint_depth,
    "depth_variance": _paint_variance,
    "normal": _paint_normal,
    "depth_normal": _paint_normal,
}
"""How each map is drawn; names that are not here are not shown."""
