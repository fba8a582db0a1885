"""Landmarks, and the alignment of a photo to a rendered view by landmarks and ECC.

The photo moves, the maps stay: warping a depth map would resample it, so the photo is brought onto the view's
pixel grid instead. Landmarks come from known vertices (``landmarks`` in subject.json, projected) or from a
detector that the caller passes (stage 04: ``splathead.photos.detect.face_landmarks``); nothing is guessed without either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera, camera_yaw_elevation, load_cameras
from splathead.images import load_maps, read_png, write_json, write_png

NOSE_TIP = "nose_tip"
"""Name of the nose tip among a head's landmarks."""

MIN_SHARED_LANDMARKS = 3
MIN_CORRELATION = 0.5
"""An ECC below this means that the photo does not show what the render shows."""

MAX_REFINEMENT = 0.15
"""ECC may change the landmarks' alignment by this (entries of the matrix; fraction of the image for shifts)."""

LandmarkDetector = Callable[[np.ndarray], Mapping[str, Sequence[float]]]
"""RGB uint8 [H, W, 3] -> name -> (u, v) in pixels, centres at +0.5; empty when no face is found."""


@dataclass(frozen=True)
class Alignment:
    """``matrix`` [2, 3] takes the view's pixel coordinates (centres at +0.5) to the photo's."""

    matrix: np.ndarray
    correlation: float  # enhanced correlation coefficient of render and warped photo, -1..1

    def warp(self, photo: np.ndarray, width: int, height: int) -> np.ndarray:
        """The photo [h, w, 3] uint8 on the view's grid [height, width, 3]; black outside of the photo."""
        return cv2.warpAffine(
            photo, _corner_origin_to_cv2(self.matrix), (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )


def project_landmarks(landmarks: Mapping[str, Sequence[float]], camera: Camera) -> dict[str, np.ndarray]:
    """World landmarks name -> [3] to pixels name -> [2] of those in front of the camera."""
    if not landmarks:
        return {}
    pixels, z = camera.project(np.asarray(list(landmarks.values()), dtype=np.float64))
    return {name: pixel for name, pixel, depth in zip(landmarks, pixels, z) if depth > 0}


def image_landmarks(
    known: Mapping[str, Sequence[float]] | None, image: np.ndarray, detector: LandmarkDetector | None, where: str
) -> dict[str, np.ndarray]:
    """Landmarks name -> [2] px of an image: ``known`` ones, else the detector's.

    ValueError naming ``where`` when there is neither, or when the detector finds no face.
    """
    if known:
        return {name: np.asarray(pixel, dtype=np.float64) for name, pixel in known.items()}
    if detector is None:
        raise ValueError(
            f"{where}: no landmarks: subject.json names none and no landmark detector was given; "
            "add them to subject.json, or switch off postprocess.align and postprocess.nose_relative"
        )
    found = {name: np.asarray(pixel, dtype=np.float64) for name, pixel in detector(image).items()}
    if not found:
        raise ValueError(f"{where}: the landmark detector found no face")
    return found


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity [2, 3] that takes points ``source`` [N, 2] to ``target`` [N, 2] (N >= 2, not all equal)."""
    a, b = (points @ np.array([1, 1j]) for points in (source, target))  # x + iy: a similarity is b = factor a + shift
    centred = a - a.mean()
    if len(a) < 2 or np.abs(centred).max() < 1e-9:
        raise ValueError(f"fit_similarity: {len(a)} landmarks at one place, expected at least 2 different ones")
    factor = np.vdot(centred, b - b.mean()) / np.vdot(centred, centred)
    shift = b.mean() - factor * a.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def align_photo(
    render: np.ndarray,
    mask: np.ndarray,
    photo: np.ndarray,
    render_landmarks: Mapping[str, np.ndarray],
    photo_landmarks: Mapping[str, np.ndarray],
) -> Alignment:
    """Similarity from shared landmarks, refined to an affine map by ECC (Evangelidis and Psarakis, PAMI 2008).

    Args:
        render: [H, W, 3] uint8 RGB of the view.
        mask: [H, W] bool, where the render shows the head.
        photo: [h, w, 3] uint8 RGB.
        render_landmarks: name -> [2] px in the render.
        photo_landmarks: name -> [2] px in the photo.

    Raises ValueError for fewer than three shared landmarks and when ECC does not converge near the landmarks.
    """
    shared = sorted(set(render_landmarks) & set(photo_landmarks))
    if len(shared) < MIN_SHARED_LANDMARKS:
        raise ValueError(
            f"alignment: {len(shared)} landmarks in both images (render has {sorted(render_landmarks)}, photo has "
            f"{sorted(photo_landmarks)}), expected at least {MIN_SHARED_LANDMARKS}"
        )
    initial = fit_similarity(*(np.stack([points[name] for name in shared]) for points in (render_landmarks, photo_landmarks)))
    height, width = mask.shape
    rough = Alignment(initial, 0.0).warp(photo, width, height)
    refinement, correlation = _refine_ecc(render, mask, rough)
    limits = MAX_REFINEMENT * np.array([[1, 1, width], [1, 1, height]])
    if correlation < MIN_CORRELATION or (np.abs(refinement - np.eye(2, 3)) > limits).any():
        raise ValueError(
            f"alignment: ECC ended at correlation {correlation:.3f} with a refinement of {refinement.round(3).tolist()}, "
            f"expected at least {MIN_CORRELATION} and a small one; do the landmarks fit the photo?"
        )
    return Alignment(initial @ np.vstack([refinement, [0, 0, 1]]), correlation)


def _refine_ecc(render: np.ndarray, mask: np.ndarray, photo: np.ndarray) -> tuple[np.ndarray, float]:
    """Affine map [2, 3] (centres at +0.5) from the render's pixels to those of the roughly aligned photo, and its ECC."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-8)
    blur_px = max(5, round(mask.shape[1] / 100) | 1)
    # Blurring mixes the background, which differs between render and photo, into the head's rim: it stays out.
    inner = cv2.erode(mask.astype(np.uint8), np.ones((blur_px, blur_px), np.uint8), borderValue=0)
    grey_render, grey_photo = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (render, photo))
    try:
        # OpenCV's mask belongs to its second image, which must therefore be the render: the map comes out inverted.
        correlation, warp = cv2.findTransformECC(
            grey_photo, grey_render, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria, inner, blur_px
        )
    except cv2.error as error:
        raise ValueError(f"alignment: ECC did not converge ({error.err}); do the landmarks fit the photo?") from error
    return _cv2_to_corner_origin(cv2.invertAffineTransform(warp.astype(np.float64))), float(correlation)


def _corner_origin_to_cv2(matrix: np.ndarray) -> np.ndarray:
    """The same map between pixel coordinates with centres at integers, as OpenCV counts."""
    return _shift_origin(matrix, 0.5)


def _cv2_to_corner_origin(matrix: np.ndarray) -> np.ndarray:
    return _shift_origin(matrix, -0.5)


def _shift_origin(matrix: np.ndarray, shift: float) -> np.ndarray:
    """``matrix`` in coordinates that are ``shift`` smaller: x' + s = A (x + s) + t."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.full(2, shift) - shift
    return moved


def depth_at(depth: np.ndarray, mask: np.ndarray, pixel: np.ndarray, where: str) -> float:
    """Depth at ``pixel`` [2] (u, v): the median of the masked 3x3 neighbourhood, in depth's unit.

    ValueError naming ``where`` when the pixel lies outside of the mask.
    """
    column, row = (int(v) for v in np.floor(pixel))
    window = (slice(max(0, row - 1), max(0, row + 2)), slice(max(0, column - 1), max(0, column + 2)))
    values = depth[window][mask[window]]
    if not values.size:
        raise ValueError(f"{where}: pixel ({pixel[0]:.1f}, {pixel[1]:.1f}) lies outside of the head's mask")
    return float(np.median(values))


def align_subject_photo(
    subject_dir: Path, info: Mapping, variant: Path, out_dir: Path, detector: LandmarkDetector | None
) -> None:
    """Write ``<view>_photo.png`` and ``<view>_photo.json`` for the photo that a subject was made from.

    Args:
        subject_dir: folder of the photo.
        info: subject.json; used of it are ``"photo": {"file": name, "view": map view, "landmarks": {name: [u, v]}}``
            (default: the folder's ``photo.*`` and the most frontal view) and ``"landmarks": {name: [x, y, z]}`` (world
            mm); landmarks are optional where there is a detector.
        variant: folder of stage 03 with the view's rendered maps.
        out_dir: where to write.
        detector: finds landmarks that subject.json does not name.

    Raises ValueError for a missing or wrong entry, for missing landmarks and for an alignment that fails.
    """
    entry, subject = info.get("photo", {}), subject_dir.name
    file = entry.get("file") or next((path.name for path in sorted(subject_dir.glob("photo.*"))), None)
    if file is None:
        raise ValueError(
            f"subject {subject}: postprocess.align is on, but {subject_dir} has no photo.* and subject.json names none; "
            "switch it off for subjects that do not come from a photo"
        )
    cameras = {camera.name: camera for camera in load_cameras(variant / "cameras.json")}
    view = entry.get("view") or min(cameras, key=lambda name: np.abs(camera_yaw_elevation(cameras[name])).sum())
    if view not in cameras:
        raise ValueError(f"subject {subject}: photo view {view!r}, expected one of {sorted(cameras)}")
    camera, where = cameras[view], f"subject {subject}, photo {file}"
    photo = read_png(subject_dir / file, channels=3, bits=8)
    render = load_maps(variant / f"{camera.name}_hr.npz", ("rgb", "alpha"))
    known = project_landmarks(info.get("landmarks", {}), camera)
    alignment = align_photo(
        render["rgb"], render["alpha"] > 0.5, photo,
        image_landmarks(known, render["rgb"], detector, f"subject {subject}, view {camera.name}"),
        image_landmarks(entry.get("landmarks"), photo, detector, where),
    )  # fmt: skip
    write_png(out_dir / f"{camera.name}_photo.png", alignment.warp(photo, camera.width, camera.height))
    record = {"view_to_photo_px": alignment.matrix.tolist(), "correlation": alignment.correlation, "photo": file}
    write_json(out_dir / f"{camera.name}_photo.json", record)
