"""From a person's photo to what FaceLift wants: face and landmarks, quality, duplicates, crop (stage 01, source photos).

(:mod:`splathead.subjects.photos` reads the photographs of a posed capture.)
"""

from splathead.photos.prepare import PreparedPhoto, prepare_photo

__all__ = ["PreparedPhoto", "prepare_photo"]
