"""One photo made ready for FaceLift: the face found, the photo judged, the crop made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from splathead.config import PhotosConfig
from splathead.photos.crop import CanvasCrop
from splathead.photos.detect import Face, detect_faces
from splathead.photos.foreground import foreground
from splathead.photos.quality import Check, check_background, check_face, check_faces, check_mask
from splathead.photos.read import Photo, read_photo

MAX_WINDOW_PX = 1536
"""Longer side of what FaceLift gets; its own canvas shows two thirds of that with 512 pixels."""


@dataclass(frozen=True)
class CroppedFace:
    """The largest face of a photo on FaceLift's canvas."""

    face: Face  # in the upright photo's pixels
    crop: CanvasCrop  # photo to canvas
    canvas: np.ndarray  # [512, 512, 3] uint8, white beside the photo: what FaceLift's front view shows
    alpha: np.ndarray  # [512, 512] uint8, the photo's there; 0 beside the photo
    mask: np.ndarray  # [512, 512] bool, the person
    window: np.ndarray  # [h, w, 3] uint8: the photo's own pixels around the canvas, which FaceLift gets and crops itself


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo, what was asked about it, and its crop (None when no face was found)."""

    path: Path
    photo: Photo
    checks: tuple[Check, ...]
    cropped: CroppedFace | None

    @property
    def failed(self) -> list[Check]:
        """The checks that the photo did not pass."""
        return [check for check in self.checks if not check.passed]

    @property
    def refusal(self) -> str:
        """Why the photo is not fit for FaceLift, with the numbers; empty when it is."""
        return "; ".join(map(str, self.failed))

    def describe(self) -> str:
        """One line for the user: the verdict, its reasons, and every number."""
        numbers = ", ".join(f"{check.name} {check.value:.3g}" for check in self.checks)
        return f"{self.path.name}: {f'refused: {self.refusal}' if self.refusal else 'accepted'} ({numbers})"


def prepare_photo(path: Path, limits: PhotosConfig | None = None) -> PreparedPhoto:
    """Find the face in a photo, judge the photo by ``limits`` (default: ``PhotosConfig()``), crop it as FaceLift does.

    The file is only read. A refused photo is cropped all the same where it shows a face: the caller decides. Errors as
    :func:`splathead.photos.read.read_photo` and :func:`splathead.photos.mtcnn.load_networks`.
    """
    limits, photo = limits or PhotosConfig(), read_photo(path)
    faces = detect_faces(photo.over_white)
    if not faces:
        return PreparedPhoto(Path(path), photo, (check_faces(faces, limits),), None)
    cropped = crop_face(photo, faces[0])
    checks = [check_faces(faces, limits), *check_face(photo, faces[0], limits), *check_mask(cropped.mask, limits)]
    if photo.alpha is None:
        checks.append(check_background(cropped.canvas, (cropped.alpha > 127) & ~cropped.mask, limits))
    return PreparedPhoto(Path(path), photo, tuple(checks), cropped)


def crop_face(photo: Photo, face: Face) -> CroppedFace:
    """The photo's crop around ``face``."""
    crop = CanvasCrop.around(face)
    canvas, alpha = crop.apply(photo)
    height, width = photo.rgb.shape[:2]
    window = photo.over_white[crop.window(width, height)]
    factor = MAX_WINDOW_PX / max(window.shape[:2])
    if factor < 1:
        size = (max(1, round(window.shape[1] * factor)), max(1, round(window.shape[0] * factor)))
        window = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
    return CroppedFace(face, crop, canvas, alpha, foreground(canvas, alpha), np.ascontiguousarray(window))
