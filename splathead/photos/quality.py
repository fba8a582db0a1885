"""Is this photo fit for FaceLift? Every question is a :class:`Check` with the number found and the range expected.

Frontality, border, background, mask area and mask offset are the published study's, with its limits; the last two were asked
of the cropped head, as here. What is added: one clear face, large and sharp enough. Limits are ``config.photos``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from splathead.config import PhotosConfig
from splathead.photos.crop import FACE_PX
from splathead.photos.detect import Face
from splathead.photos.read import Photo

_BLUR_WINDOW_PX = 11


CHECKS = {
    "faces": "large faces", "face_px": "size of the face in pixels", "frontality": "frontality",
    "border": "distance of the face from the border", "blur": "blur of the face",
    "background": "unevenness of the background", "mask_area": "share of the canvas that the person fills",
    "mask_offset": "distance of the person from the canvas's centre",
}  # fmt: skip
"""Names of the checks, as the configuration has them, and what they are about"""


@dataclass(frozen=True)
class Check:
    """One question about a photo (a name of :data:`CHECKS`), its answer as a number, and the range of a good answer."""

    name: str
    value: float
    low: float = -np.inf
    high: float = np.inf

    @property
    def passed(self) -> bool:
        """True inside of the range, its ends included."""
        return bool(self.low <= self.value <= self.high)

    def __str__(self) -> str:
        if self.name == "faces" and not self.value:
            return "no face found"
        if np.isinf(self.high):
            expected = f"at least {self.low:.4g}"
        elif np.isinf(self.low):
            expected = f"at most {self.high:.4g}"
        else:
            expected = f"{self.low:.4g} to {self.high:.4g}" if self.low < self.high else f"{self.low:.4g}"
        return f"{CHECKS[self.name]} {self.value:.3g}, expected {expected}"


def check_faces(faces: Sequence[Face], limits: PhotosConfig) -> Check:
    """How many faces there are, the largest and those that are not small beside it. ``faces``: the largest first."""
    large = [face for face in faces if face.size_px >= limits.other_face * faces[0].size_px]
    return Check("faces", len(large), 1, 1)


def check_face(photo: Photo, face: Face, limits: PhotosConfig) -> list[Check]:
    """Questions about the face in its photo."""
    return [
        Check("face_px", face.size_px, limits.face_px),
        Check("frontality", frontality(face), limits.frontality),
        Check("border", border_distance(face, photo), limits.border),
        Check("blur", blur(photo, face), high=limits.blur),
    ]


def check_mask(mask: np.ndarray, limits: PhotosConfig) -> list[Check]:
    """Questions about the person's mask [512, 512] bool on FaceLift's canvas."""
    if not mask.any():
        return [Check("mask_area", 0.0, limits.mask_area_min, limits.mask_area_max)]
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    offset = np.hypot((rows.mean() + 0.5) / height - 0.5, (columns.mean() + 0.5) / width - 0.5)
    area = Check("mask_area", float(mask.mean()), limits.mask_area_min, limits.mask_area_max)
    return [area, Check("mask_offset", float(offset), high=limits.mask_offset)]


def check_background(canvas: np.ndarray, background: np.ndarray, limits: PhotosConfig) -> Check:
    """Standard deviation of the colours (mean over channels) of a canvas [512, 512, 3] uint8 where ``background`` [512, 512].

    The study asks it of a strip along the photo's border, where clothes in another colour than the wall count as clutter.
    """
    colours = canvas[background].astype(np.float32)
    return Check("background", float(colours.std(0).mean()) if len(colours) else 0.0, high=limits.background)


def frontality(face: Face) -> float:
    """Smaller over larger distance of the nose tip from the two eyes, along the line between them; 0 = outside of them.

    A head that is only tilted stays frontal. With MTCNN's landmarks 0.55 is about 11 degrees of yaw (nine rendered heads); the
    study measured from the outer corners of the eyes, which lie further apart.
    """
    right, left, nose = (face.landmarks[name] for name in ("eye_right", "eye_left", "nose_tip"))
    along = left - right
    place = float((nose - right) @ along / max(along @ along, 1e-9))
    return min(place, 1 - place) / max(place, 1 - place) if 0 < place < 1 else 0.0


def border_distance(face: Face, photo: Photo) -> float:
    """Smallest distance of a landmark or a side of the box from the photo's border, as a fraction of that side.

    MTCNN has no landmark on chin and forehead, which the study asks about: the box reaches from one to the other.
    """
    height, width = photo.rgb.shape[:2]
    points = np.concatenate([np.stack(list(face.landmarks.values())), face.box.reshape(2, 2)]) / np.array([width, height])
    return float(min(points.min(), 1 - points.max()))


def blur(photo: Photo, face: Face) -> float:
    """Blur metric of Crete et al. (2007), 0 sharp to 1, of the face at the size that FaceLift sees it."""
    from skimage.measure import blur_effect

    height, width = photo.rgb.shape[:2]
    left, top = np.maximum(np.floor(face.box[:2]), 0).astype(int)
    right, bottom = np.minimum(np.ceil(face.box[2:]), [width, height]).astype(int)
    patch = photo.over_white[top : max(bottom, top + 1), left : max(right, left + 1)]
    factor = FACE_PX / face.size_px
    size = tuple(max(_BLUR_WINDOW_PX + 2, round(side * factor)) for side in (patch.shape[1], patch.shape[0]))
    patch = cv2.resize(patch, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return float(blur_effect(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY), h_size=_BLUR_WINDOW_PX))
