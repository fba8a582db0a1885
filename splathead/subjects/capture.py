"""Posed captures of one head: photographs and cameras from other tools become a subject that can be fitted.

The capture's world is moved into the head frame of ``cameras.py``. Its unit is unknown, so the size is nominal:
what the capture's cameras see at the head's distance is mapped to what the rig sees there. The start of the fit is
the capture's own sparse cloud, or points on the visual hull of its silhouettes; no true surface is involved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead.cameras import (
    MM_PER_UNIT,
    RIG_HFOV_DEG,
    RIG_RADIUS_UNITS,
    Camera,
    camera_yaw_elevation,
    orbit_camera,
    save_cameras,
)  # fmt: skip
from splathead.config import Config, SubjectsConfig
from splathead.images import atomic_path, write_json, write_png
from splathead.subjects import colmap
from splathead.subjects.frames import FACELIFT_FRAME, HeadFrame, axis_name, axis_vector
from splathead.subjects.importer import subject_name
from splathead.subjects.photos import Photo, load_photo
from splathead.subjects.posed_views import TRANSFORMS_FILES, PosedCapture, read_opencv_cameras, read_transforms
from splathead.subjects.visual_hull import foreground_share, initial_points
from splathead.wording import counted

RIG_HALF_EXTENT_MM = RIG_RADIUS_UNITS * MM_PER_UNIT * math.tan(math.radians(RIG_HFOV_DEG / 2))
"""Half the width that a camera of the rig sees at the head's distance: 226.6 mm."""

MIN_FIT_VIEWS = 3
MIN_CLOUD_POINTS = 100
"""A capture's own cloud is used when at least this many of its points lie on the head."""

_SNAP_COSINE = math.cos(math.radians(3.0))  # an estimated direction this near an axis is that axis
_IN_FOREGROUND = 0.8  # share of the views that must show the head where a point of the cloud lies


@dataclass(frozen=True)
class CaptureReport:
    """What was understood of a capture. ``lines`` are for the user."""

    subject: str
    frame: HeadFrame
    lines: list[str]


def capture_kind(folder: Path) -> str:
    """``opencv_cameras``, ``transforms``, ``colmap`` or "" when ``folder`` is no capture."""
    if (folder / "opencv_cameras.json").is_file():
        return "opencv_cameras"
    if any((folder / name).is_file() for name in TRANSFORMS_FILES):
        return "transforms"
    return "colmap" if colmap.model_folder(folder) else ""


def find_captures(path: Path) -> dict[str, Path]:
    """Subject name -> folder of every capture in ``path``: the folder itself or its direct sub-folders."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such capture folder (subjects.path)")
    children = [child for child in sorted(path.iterdir()) if child.is_dir()]
    folders = [path] if capture_kind(path) else [child for child in children if capture_kind(child)]
    if not folders:
        raise FileNotFoundError(
            f"{path}: no capture here, expected opencv_cameras.json, transforms.json or a COLMAP model "
            f"({', '.join(colmap.MODEL_FOLDERS[:3])}) in it or in its sub-folders"
        )
    return {subject_name(folder.resolve()): folder for folder in folders}


def read_capture(folder: Path) -> PosedCapture:
    """Read a capture's cameras. Errors (ValueError, FileNotFoundError) name the file and what is wrong with it."""
    folder = Path(folder)
    readers = {"opencv_cameras": read_opencv_cameras, "transforms": read_transforms, "colmap": colmap.read_colmap}
    kind = capture_kind(folder)
    if not kind:
        raise FileNotFoundError(f"{folder}: no opencv_cameras.json, transforms.json or COLMAP model")
    capture = readers[kind](folder)
    missing = [str(view.image) for view in capture.views if not view.image.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such image ({len(missing)} of {len(capture.views)} views are missing)")
    return capture


def capture_subject(folder: Path, out_dir: Path, config: Config) -> CaptureReport:
    """Write the subject folder ``out_dir`` of the capture in ``folder``.

    Writes subject.json, cameras_{fit,heldout,maps}.json, images/<view>.png (RGBA, 8 bit) and points.npz. The views in
    cameras_heldout.json are spread evenly and are no part of the fit. Errors as :func:`read_capture` and ``load_photo``.
    """
    folder, out_dir, settings = Path(folder), Path(out_dir), config.subjects
    capture = read_capture(folder)
    name = subject_name(folder.resolve())
    heldout = heldout_indices(len(capture.views), settings.heldout_views, folder)
    frame, lines = understand_frame(capture, settings)
    photos = load_photos(capture, frame, settings.image_size)
    fitted = [photo for k, photo in enumerate(photos) if k not in heldout]
    points, colours, origin = start_points(capture, fitted, frame, settings.init_points, config.seed)
    cameras = [photo.camera for photo in photos]
    size = f"{cameras[0].width}x{cameras[0].height}"
    head = f"{name}: {capture.source}, {len(photos)} views of {size} ({len(heldout)} held out), {frame.describe()}"
    lines = [head, *lines, origin]
    if not all(photo.has_mask for photo in photos):
        lines.append("WARNING: no masks, so every pixel is taken as the head (put masks/<image>.png beside the images)")
    maps, note = map_cameras(cameras, settings)
    for photo in photos:
        write_png(out_dir / "images" / f"{photo.camera.name}.png", photo.rgba)
    save_cameras(out_dir / "cameras_fit.json", [photo.camera for photo in fitted])
    save_cameras(out_dir / "cameras_heldout.json", [camera for k, camera in enumerate(cameras) if k in heldout])
    save_cameras(out_dir / "cameras_maps.json", maps)
    with atomic_path(out_dir / "points.npz") as temporary:
        np.savez(temporary, points=points.astype(np.float32), colours=colours.astype(np.float32))
    low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
    write_json(
        out_dir / "subject.json",
        {
            "name": name, "identity": name, "source": "capture", "split": "test", "scale": "nominal", "unit": "mm",
            "capture": capture.source, "frame": frame.to_dict(), "diagonal_mm": float(np.linalg.norm(high - low)),
            "understood": [*lines, *note],
        },
    )  # fmt: skip
    return CaptureReport(name, frame, [*lines, *note])


def heldout_indices(views: int, heldout: int, where: Path) -> set[int]:
    """Indices of the held-out views, spread evenly over the capture."""
    if not 0 <= heldout <= views - MIN_FIT_VIEWS:
        found = f"{counted(views, 'view')} with {heldout} held out (subjects.heldout_views)"
        least = MIN_FIT_VIEWS + max(heldout, 0)
        raise ValueError(f"{where}: {found}, expected at least {MIN_FIT_VIEWS} to fit, so {least} photos or more")
    return {int((k + 0.5) * views / heldout) for k in range(heldout)}


def load_photos(capture: PosedCapture, frame: HeadFrame, longer_side: int) -> list[Photo]:
    """Every photograph of the capture, its camera in our frame. An image without alpha among RGBA ones is an error."""

    def load(view) -> Photo:
        photo = load_photo(view, longer_side)
        return dataclasses.replace(photo, camera=frame.camera(photo.camera))

    with ThreadPoolExecutor(max_workers=4) as pool:  # decoding and resizing release the interpreter's lock
        photos = list(pool.map(load, capture.views))
    odd = [view.image for view, photo in zip(capture.views, photos, strict=True) if not photo.has_mask]
    if 0 < len(odd) < len(photos):
        raise ValueError(f"{odd[0]}: RGB without a mask, expected RGBA (or a mask) as in {len(photos) - len(odd)} other views")
    return photos


def start_points(
    capture: PosedCapture, photos: Sequence[Photo], frame: HeadFrame, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Points [N, 3] mm and colours [N, 3] in 0..1 that the fit starts from, and where they come from."""
    rng = np.random.default_rng(seed)
    if capture.points is not None:
        points = frame.points(capture.points)
        share, seen = foreground_share(points, photos)
        good = np.flatnonzero((share >= _IN_FOREGROUND) & (seen >= 2))
        if len(good) >= MIN_CLOUD_POINTS:
            chosen = rng.permutation(good)[:count]
            return points[chosen], capture.colours[chosen], f"start: {len(chosen)} points of the capture's sparse cloud"
    points, colours = initial_points(photos, 1.2 * half_extent([p.camera for p in photos], np.zeros(3)), count, rng)
    what = "on the silhouettes' visual hull" if all(p.has_mask for p in photos) else "in the volume that the cameras see"
    return points, colours, f"start: {count} points {what}"


# ---- the frame: which way is up, where is the head, how large is it


def understand_frame(capture: PosedCapture, settings: SubjectsConfig) -> tuple[HeadFrame, list[str]]:
    """The capture's frame from its cameras and the ``capture_*`` settings, with a line for each decision."""
    cameras = [view.camera for view in capture.views]
    lines = []
    up = axis_vector(settings.capture_up) if settings.capture_up != "auto" else estimate_up(cameras)
    origin = centre_of_attention(cameras)
    scale = settings.capture_mm_per_unit or RIG_HALF_EXTENT_MM / half_extent(cameras, origin)
    facelift = capture.source == "opencv_cameras" and float(up @ FACELIFT_FRAME.up) > 1 - 1e-6
    if settings.capture_front != "auto":
        front = _named_direction(settings.capture_front, cameras, origin)
        lines.append(f"front: {settings.capture_front}, as set")
    elif facelift:
        front = FACELIFT_FRAME.front
        lines.append("front: FaceLift's convention (set capture_front to change)")
    else:
        front = cameras[0].position - origin
        lines.append(f"front: assumed where view {cameras[0].name!r} looks from (set capture_front to change)")
    lines.append("scale: as set" if settings.capture_mm_per_unit else "scale: nominal")
    return HeadFrame(up, front, origin, float(scale)), lines


def _named_direction(name: str, cameras: Sequence[Camera], origin: np.ndarray) -> np.ndarray:
    by_name = {camera.name: camera for camera in cameras}
    if name in by_name:
        return by_name[name].position - origin
    try:
        return axis_vector(name)
    except ValueError as error:
        known = ", ".join(list(by_name)[:3])
        raise ValueError(f"subjects.capture_front: {error}, or the name of a view ({known} ...)") from None


def estimate_up(cameras: Sequence[Camera]) -> np.ndarray:
    """Upward direction [3] of the world, taking the photographs as upright.

    The cameras' x axes are then horizontal, so up is the direction they vary least in; where they all point
    alike (a frontal capture), up is the mean of the images' up directions.
    """
    right, mean = np.stack([c.rotation[0] for c in cameras]), -np.mean([c.rotation[1] for c in cameras], axis=0)
    values, vectors = np.linalg.eigh(right.T @ right / len(cameras))
    up = vectors[:, 0] if values[1] > 0.05 else mean
    up = up / np.linalg.norm(up) * (1.0 if up @ mean >= 0 else -1.0)
    axis = np.zeros(3)
    strongest = int(np.abs(up).argmax())
    axis[strongest] = np.sign(up[strongest])
    return axis if up @ axis > _SNAP_COSINE else up


def centre_of_attention(cameras: Sequence[Camera]) -> np.ndarray:
    """The point [3] nearest to all optical axes (least squares). ValueError when the cameras look in parallel."""
    system, target = np.zeros((3, 3)), np.zeros(3)
    for camera in cameras:
        forward = camera.rotation[2]
        across = np.eye(3) - np.outer(forward, forward)
        system += across
        target += across @ camera.position
    if np.linalg.eigvalsh(system)[0] < 1e-4 * len(cameras):
        raise ValueError("the cameras look in parallel, expected cameras around a head that they look at")
    centre = np.linalg.solve(system, target)
    return np.where(np.abs(centre) < 1e-6 * np.linalg.norm(cameras[0].position - centre), 0.0, centre)


def half_extent(cameras: Sequence[Camera], centre: np.ndarray) -> float:
    """Half the side of what a camera sees at ``centre`` (median over cameras, shorter image side), world units."""
    sides = [min(c.width / c.fx, c.height / c.fy) / 2 * float(c.project(centre[None])[1][0]) for c in cameras]
    result = float(np.median(sides))
    if result <= 0:
        raise ValueError(f"most cameras look away from the point {axis_name(centre)} that their axes are nearest to")
    return result


def map_cameras(cameras: Sequence[Camera], settings: SubjectsConfig) -> tuple[list[Camera], list[str]]:
    """Orbit cameras at ``map_yaws`` and a note on those that the capture does not cover.

    Their elevation is the protocol's 0, or as near to it as the capture's own views are: what no photograph
    shows from nearby is an invention of the fit.
    """
    seen = np.array([camera_yaw_elevation(camera) for camera in cameras])
    elevation = float(np.clip(0.0, *np.quantile(seen[:, 1], [0.05, 0.95])))
    elevation = float(round(elevation, 1))
    result = [orbit_camera(yaw, elevation, settings.map_size) for yaw in settings.map_yaws]
    nearest = [float(np.abs((seen[:, 0] - yaw + 180) % 360 - 180).min()) for yaw in settings.map_yaws]
    far = [f"{yaw:+g}" for yaw, gap in zip(settings.map_yaws, nearest, strict=True) if gap > 30]
    notes = [f"maps at elevation {elevation:g} degrees, where the capture's own views are"] if elevation else []
    if far:
        notes.append(f"WARNING: no photo within 30 degrees of map yaw {', '.join(far)}")
    return result, notes
