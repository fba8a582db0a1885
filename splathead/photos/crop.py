"""FaceLift's crop: the face at a fixed size and place on a white square canvas, and the way back to the photo.

FaceLift (Lyu et al., ICCV 2025) scales a photo such that MTCNN's box has the mean size that it has in the training views and
puts its centre where it lies there. The canvas is then the front view of FaceLift's rig (``orbit_camera(0, size=512)``).
Here nothing is rounded to whole pixels on the way; FaceLift's own crop differs by up to 2 px.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from PIL import Image

from splathead.cameras import Camera
from splathead.photos.detect import Face
from splathead.photos.read import Photo

CANVAS_PX = 512
FACE_PX = 194.2749650813705
FACE_CENTRE_PX = (251.83270369057132, 280.0133630862363)
"""Side of FaceLift's canvas; mean of the box's width and height and its centre there, means over FaceLift's training views."""

_WINDOW_MARGIN = 0.1


@dataclass(frozen=True)
class CanvasCrop:
    """Photo to canvas, px to px (centres at +0.5): ``canvas = scale * photo + offset``."""

    scale: float
    offset: np.ndarray  # [2]

    @classmethod
    def around(cls, face: Face) -> CanvasCrop:
        """FaceLift's crop of the photo with this face."""
        # FaceLift's numbers are of boxes whose first pixel is 1 and whose last one counts in full: ours start at the edge
        low, high = face.box[:2] + 1, face.box[2:]
        scale = FACE_PX / float((high - low).mean())
        return cls(scale, np.array(FACE_CENTRE_PX) - scale * (low + high) / 2)

    def to_canvas(self, pixels: np.ndarray) -> np.ndarray:
        """Photo pixels [..., 2] on the canvas."""
        return self.scale * np.asarray(pixels, dtype=np.float64) + self.offset

    def to_photo(self, pixels: np.ndarray) -> np.ndarray:
        """Canvas pixels [..., 2] in the photo."""
        return (np.asarray(pixels, dtype=np.float64) - self.offset) / self.scale

    def photo_camera(self, canvas_camera: Camera, width: int, height: int) -> Camera:
        """The camera of the whole photo (``width`` x ``height``) for which ``canvas_camera`` is the canvas's."""
        cx, cy = self.to_photo(np.array([canvas_camera.cx, canvas_camera.cy]))
        return dataclasses.replace(
            canvas_camera, width=width, height=height, cx=float(cx), cy=float(cy),
            fx=canvas_camera.fx / self.scale, fy=canvas_camera.fy / self.scale,
        )  # fmt: skip

    def apply(self, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        """The canvas: RGB [512, 512, 3] uint8 over white, and the photo's alpha there [512, 512] uint8 (0 beside the photo).

        Bicubic with antialiasing, as FaceLift resizes.
        """
        alpha = np.full(photo.rgb.shape[:2], 255, np.uint8) if photo.alpha is None else photo.alpha
        return self._resample(photo.over_white, 255), self._resample(alpha, 0)

    def window(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of a photo that the canvas shows, and a tenth of the canvas more on each side."""
        low = np.floor(self.to_photo(np.full(2, -_WINDOW_MARGIN * CANVAS_PX))).astype(int)
        high = np.ceil(self.to_photo(np.full(2, (1 + _WINDOW_MARGIN) * CANVAS_PX))).astype(int)
        columns, rows = (slice(max(0, a), min(b, size)) for a, b, size in zip(low.tolist(), high.tolist(), (width, height)))
        return rows, columns

    def _resample(self, image: np.ndarray, beside: int) -> np.ndarray:
        """``image`` [H, W] or [H, W, 3] uint8 on the canvas, ``beside`` where the photo ends."""
        reduction = max(1, int(0.5 / self.scale))  # a coarse box filter first: the window below stays small
        picture = Image.fromarray(image).reduce(reduction)
        low = self.to_photo(np.zeros(2)) / reduction
        high = self.to_photo(np.full(2, CANVAS_PX)) / reduction
        corner = np.floor(low).astype(int)
        size = np.ceil(high).astype(int) - corner
        window = Image.new(picture.mode, tuple(size.tolist()), (beside,) * len(picture.getbands()))
        window.paste(picture, tuple((-corner).tolist()))
        box = tuple(np.concatenate([low - corner, high - corner]).tolist())
        return np.asarray(window.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.BICUBIC, box=box))
