"""A capture's photographs as the fit needs them: undistorted, resized, 8-bit RGBA with straight alpha."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera
from splathead.images import MAX_IMAGE_PIXELS
from splathead.subjects.posed_views import PosedView


@dataclass(frozen=True)
class Photo:
    """A photograph and the pinhole camera that it obeys. ``has_mask`` is False when all of it counts as the head."""

    rgba: np.ndarray  # [H, W, 4] uint8, straight alpha
    camera: Camera
    has_mask: bool


def load_photo(view: PosedView, longer_side: int = 0) -> Photo:
    """Read one view: mask from ``view.mask``, else its alpha, else a sibling ``masks`` folder, else all of it.

    ``longer_side`` > 0 resizes. Errors (ValueError, FileNotFoundError) for an unreadable image, one that is not RGB
    or RGBA, another size than the camera's, and an empty mask.
    """
    rgb, alpha = _read_rgba(view.image)
    camera = view.camera
    if rgb.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"{view.image}: image of {rgb.shape[1]}x{rgb.shape[0]}, its camera says {camera.width}x{camera.height}"
        )
    mask_path = view.mask or (sibling_mask(view.image) if alpha is None else None)
    if mask_path is not None:
        alpha = _read_mask(mask_path, camera)
    has_mask = alpha is not None
    image = np.dstack([rgb, np.ones_like(rgb[..., 0]) if alpha is None else alpha])
    image[..., :3] *= image[..., 3:]  # colours of transparent pixels must not bleed in when pixels are mixed
    if view.distortion:
        image, camera = undistort(image, camera, view.distortion)
    if longer_side and longer_side != max(camera.width, camera.height):
        factor = longer_side / max(camera.width, camera.height)
        width, height = max(1, round(camera.width * factor)), max(1, round(camera.height * factor))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        camera = camera.resized(width, height)
    if not (image[..., 3] > 0.5).any():
        raise ValueError(f"{mask_path or view.image}: empty mask: no pixel belongs to the head")
    image[..., :3] /= np.maximum(image[..., 3:], 1e-6)
    return Photo(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), camera, has_mask)


def _read_rgba(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours [H, W, 3] and alpha [H, W] (None when there is none), float32 in 0..1, of an 8- or 16-bit image."""
    image = _read_image(path)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels not in (3, 4):
        raise ValueError(f"{path}: {channels} channel(s), expected RGB or RGBA")
    colours = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)
    scale = np.float32(np.iinfo(image.dtype).max)
    return colours.astype(np.float32) / scale, image[..., 3].astype(np.float32) / scale if channels == 4 else None


def _read_image(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: not a readable image (truncated or another format?)")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: image of {image.dtype}, expected 8 or 16 bits per channel")
    if image.shape[0] * image.shape[1] > MAX_IMAGE_PIXELS:
        raise ValueError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels, expected at most {MAX_IMAGE_PIXELS} in all")
    return image


def sibling_mask(image: Path) -> Path | None:
    """``masks/<name>`` beside the image or beside its folder: same name, same stem, or COLMAP's ``<name>.png``."""
    for folder in (image.parent / "masks", image.parent.parent / "masks"):
        for name in (image.name, f"{image.stem}.png", f"{image.name}.png"):
            if (folder / name).is_file():
                return folder / name
    return None


def _read_mask(path: Path, camera: Camera) -> np.ndarray:
    image = _read_image(path)
    mask = image if image.ndim == 2 else image[..., 3 if image.shape[2] == 4 else 0]
    if mask.shape != (camera.height, camera.width):
        raise ValueError(f"{path}: mask of {mask.shape[1]}x{mask.shape[0]}, its camera says {camera.width}x{camera.height}")
    return mask.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def undistort(image: np.ndarray, camera: Camera, distortion: tuple[float, ...]) -> tuple[np.ndarray, Camera]:
    """Image [H, W, C] float32 without lens distortion (OpenCV's k1 k2 p1 p2 [k3 ...]) and its pinhole camera.

    The focal length is chosen such that every pixel of the result lies inside of the photograph.
    """
    coefficients = np.array(distortion, dtype=np.float64)
    size = (camera.width, camera.height)
    intrinsics = camera.K
    intrinsics[:2, 2] -= 0.5  # OpenCV has pixel centres at whole numbers
    new, _ = cv2.getOptimalNewCameraMatrix(intrinsics, coefficients, size, 0.0, size)
    map_x, map_y = cv2.initUndistortRectifyMap(intrinsics, coefficients, None, new, size, cv2.CV_32FC1)
    result = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    fx, fy, cx, cy = new[0, 0], new[1, 1], new[0, 2] + 0.5, new[1, 2] + 0.5
    return result, dataclasses.replace(camera, fx=float(fx), fy=float(fy), cx=float(cx), cy=float(cy))
