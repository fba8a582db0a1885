"""One picture of several results: a row for each, with its colours, its depth before and enhanced, and its mesh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from splathead.report.panels import shrunk
from splathead.result_view.folder import FILES, ResultFolder, open_result
from splathead.result_view.meshes import load_role
from splathead.result_view.pictures import FrontView, before_after, load_front_view, opaque, read_front
from splathead.result_view.turntable import BACKGROUND, TurntableOptions, mesh_frames, over_background, turntable_cameras

HEADINGS = ("colour", "depth before", "depth enhanced", "mesh")
TILE_PX = 300
HEADING_PX = 32
FRAMES_OF_A_TURN = 12
"""The mesh is shown as the turntable's second frame of so many: 30 degrees from the front"""


def results_sheet(folders: Sequence[Path]) -> np.ndarray:
    """Picture [HEADING_PX + rows * TILE_PX, columns * TILE_PX, 3] uint8 RGB of the results in ``folders``, from above.

    Raises FileNotFoundError or ValueError with one sentence for a folder that is no result, a damaged one, or one without
    the depth or the mesh.
    """
    rows = [np.concatenate(_tiles(open_result(folder)), axis=1) for folder in folders]
    return np.concatenate([np.concatenate([_heading(text) for text in HEADINGS], axis=1), *rows])


def _tiles(result: ResultFolder) -> list[np.ndarray]:
    """The row of a result, a tile for each of :data:`HEADINGS`."""
    missing = [FILES[role] for role in ("depth", "depth_before", "mesh_ply") if role not in result.files]
    if missing:
        raise ValueError(f"{result.path}: no {missing[0]} in it, expected the whole result of scripts/20_enhance_head.py")
    view, mesh = load_front_view(result), load_role(result, "mesh_ply")
    after, before = before_after(view, "shaded")
    camera = turntable_cameras(mesh.vertices, TurntableOptions(frames=FRAMES_OF_A_TURN, size=TILE_PX))[1]
    return [*(_tile(picture) for picture in (_colours(result, view), before, after)), next(mesh_frames(mesh, [camera]))]


def _colours(result: ResultFolder, view: FrontView) -> np.ndarray:
    """RGBA; nothing where the input was a depth map without a photo."""
    if "rgb" not in result.files:
        return np.zeros((*view.after.shape, 4), np.uint8)
    return opaque(read_front(result, view, "rgb", 3), view.after > 0)


def _tile(rgba: np.ndarray) -> np.ndarray:
    """RGBA in the middle of a tile [TILE_PX, TILE_PX, 3] uint8, reduced to fit."""
    picture = over_background(shrunk(rgba, TILE_PX))
    height, width = picture.shape[:2]
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile = np.full((TILE_PX, TILE_PX, 3), BACKGROUND)
    tile[top : top + height, left : left + width] = picture
    return tile


def _heading(text: str) -> np.ndarray:
    """Dark text in the middle of a strip [HEADING_PX, TILE_PX, 3] uint8."""
    strip, font, size = np.full((HEADING_PX, TILE_PX, 3), BACKGROUND), cv2.FONT_HERSHEY_SIMPLEX, 0.6
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    place = ((TILE_PX - width) // 2, (HEADING_PX + height) // 2)
    return cv2.putText(strip, text, place, font, size, (48, 48, 48), 1, cv2.LINE_AA)
