"""Who stands before the background, on FaceLift's canvas: the photo's alpha, else GrabCut (Rother et al., SIGGRAPH 2004).

Good enough to judge where a head is and how much of the picture it fills, and used for nothing else: FaceLift removes the
background with a network of its own. GrabCut knows colours, not people: it loses hair and clothes in the background's
colours, and keeps background in theirs.
"""

from __future__ import annotations

import cv2
import numpy as np

from splathead.photos.crop import CANVAS_PX, FACE_CENTRE_PX, FACE_PX

_WORKING_PX = 256
_ITERATIONS = 4


def foreground(canvas: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Mask [512, 512] bool of the person on a canvas.

    ``canvas`` [512, 512, 3] uint8 and ``alpha`` [512, 512] uint8 as from :meth:`CanvasCrop.apply`. Alpha decides where
    a part of the photo is transparent, GrabCut where all of it is opaque.
    """
    covered = alpha > 127
    inside = alpha[_bounds(covered)]
    if not (inside > 127).all():
        return covered
    small = cv2.resize(canvas, (_WORKING_PX, _WORKING_PX), interpolation=cv2.INTER_AREA)
    box = _bounds(cv2.resize(alpha, (_WORKING_PX, _WORKING_PX), interpolation=cv2.INTER_AREA) == 255)
    labels = _seeds()[box].copy()
    if not (labels == cv2.GC_PR_BGD).any() or (labels == cv2.GC_PR_BGD).all():
        return covered  # a photo of nothing but the face, or of its edge: no two kinds of pixels to tell apart
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # GrabCut's clustering draws from it
    cv2.grabCut(np.ascontiguousarray(small[box]), labels, None, *models, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    person = np.zeros((_WORKING_PX, _WORKING_PX), np.uint8)
    person[box] = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    person = _part_with_face(cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    return cv2.resize(person, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_NEAREST).astype(bool) & covered


def _seeds() -> np.ndarray:
    """GrabCut's labels [256, 256] to start from: the face, around it hair, below it shoulders, elsewhere background."""
    scale = _WORKING_PX / CANVAS_PX
    face, (x, y) = FACE_PX * scale, (v * scale for v in FACE_CENTRE_PX)
    labels = np.full((_WORKING_PX, _WORKING_PX), cv2.GC_PR_BGD, np.uint8)

    def ellipse(down: float, half_width: float, half_height: float, label: int) -> None:
        centre, axes = (round(x), round(y + down * face)), (round(half_width * face), round(half_height * face))
        cv2.ellipse(labels, centre, axes, 0, 0, 360, label, -1)

    ellipse(1.25, 1.1, 0.7, cv2.GC_PR_FGD)
    ellipse(-0.1, 0.6, 0.8, cv2.GC_PR_FGD)
    ellipse(0.0, 0.3, 0.42, cv2.GC_FGD)
    return labels


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold the mask (never empty: the canvas shows the photo's face)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _part_with_face(person: np.ndarray) -> np.ndarray:
    """The connected part with the most of the face, its holes filled: [H, W] uint8, empty when there is none."""
    _, parts = cv2.connectedComponents(person)
    counts = np.bincount(parts[_seeds() == cv2.GC_FGD], minlength=2)
    counts[0] = 0
    part = (parts == counts.argmax()) & (parts > 0)
    outline, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(person), outline, -1, 1, -1)
