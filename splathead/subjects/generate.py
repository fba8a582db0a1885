"""From a parametric model's vertices to a finished head: detail, colour, hair, collar, lattice."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from splathead.subjects.base import HeadMesh, concatenated, quantised, vertex_normals
from splathead.subjects.collar import make_collar, neck_vertices
from splathead.subjects.detail import skin_displacement
from splathead.subjects.hair import Hairdo, cap_displacement, hair_colour, hanging_locks
from splathead.subjects.skin import Palette, Regions, find_regions, paint
from splathead.subjects.template import HeadTemplate, locate

# independent random streams of one seed, so that a head's face does not depend on whether it wears hair
_STREAMS = {"wear": 1, "palette": 2, "paint": 3, "detail": 4, "hair": 5, "collar": 6}


@dataclass(frozen=True)
class WearOptions:
    """Shares of heads with hair-like and with collar-like geometry."""

    hair_fraction: float = 0.4
    collar_fraction: float = 0.4


WEAR_DEFAULTS = WearOptions()
FACE_EDGE_MM = 1.0
"""longest edge in the face (about 0.65 mm on average); see template.ELSEWHERE_FACTOR"""


def finish_head(template: HeadTemplate, base: np.ndarray, seed: int, options: WearOptions, parameters: dict) -> HeadMesh:
    """Finished head of a model's base vertices ``base`` [B, 3] mm; everything random comes from ``seed``.

    ``parameters`` (JSON-ready) are kept in the mesh's attributes beside what is drawn here.
    """
    streams = {name: np.random.default_rng([seed, 0x4EAD, stream]) for name, stream in _STREAMS.items()}
    regions = _regions(template)
    points = template.upsample(base)
    normals = vertex_normals(points, template.faces)
    palette = Palette.sample(streams["palette"])
    colours = paint(template, regions, points, palette, streams["paint"])
    has_hair, has_collar = streams["wear"].random(2) < (options.hair_fraction, options.collar_fraction)
    bare = template.is_part("skin").astype(float)
    displacement, amplitudes = skin_displacement(points, template.fine, streams["detail"])
    attributes = {"parameters": parameters, "detail_rms_mm": amplitudes, "hair": "none", "collar": "none"}
    hairdo = Hairdo.sample(streams["hair"]) if has_hair else None
    if hairdo is not None:
        raised, cover = cap_displacement(template, regions, points, hairdo, streams["hair"])
        bare *= 1 - cover
        tint = hair_colour(palette.hair, points, streams["hair"])
        colours = colours * (1 - cover[:, None]) + tint * cover[:, None]
        points = points + normals * raised[:, None]
        attributes |= {"hair": hairdo.style, "hair_thickness_mm": hairdo.thickness_mm}
    points = points + normals * (displacement * bare)[:, None]
    landmarks = locate(template.landmarks, points)
    parts = [HeadMesh(points, template.faces, colours, landmarks, attributes)]
    if hairdo is not None and hairdo.style == "long":
        roots = np.flatnonzero(regions.hairline_mm - hairdo.shift_mm > 6.0)
        parts.append(hanging_locks(points, normals, roots, hairdo, palette.hair, streams["hair"]))
    if has_collar:
        collar, attributes["collar"] = make_collar(points, neck_vertices(template), streams["collar"])
        parts.append(collar)
    return quantised(concatenated(parts))


@functools.lru_cache(maxsize=4)
def _regions(template: HeadTemplate) -> Regions:
    """Regions of a template (compared by identity: templates live as long as the process)."""
    return find_regions(template)
