"""Where lips, brows, scalp and irises lie on a head, and procedural albedo for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splathead.subjects.detail import band_noise, smoothstep
from splathead.subjects.template import HeadTemplate, locate

PUPIL_DISTANCE_MM = 62.0
"""distance between the eyes that the outlines below were drawn for; they scale with the head's own"""
# outlines of the lips over |x| / half the mouth's width: shares of the height at the middle
_LIP_SHARE = (0.0, 0.2, 0.5, 0.8, 1.0)
_UPPER_LIP = (1.0, 1.2, 0.95, 0.48, 0.0)
_LOWER_LIP = (1.0, 0.98, 0.84, 0.48, 0.0)
# centre line of a brow relative to its eye: outwards and upwards, and half its thickness
_BROW_OUT_MM = (-15.0, -8.0, 2.0, 12.0, 22.0, 27.0)
_BROW_UP_MM = (15.0, 17.0, 19.5, 21.0, 17.5, 14.0)
_BROW_HALF_MM = (2.6, 3.6, 3.6, 3.0, 1.8, 0.6)
# hairline: height above the eyes over the azimuth from the face
_HAIRLINE_DEG = (0, 35, 55, 67, 78, 86, 106, 116, 130, 150, 180)
_HAIRLINE_MM = (66, 64, 52, 16, -14, 14, 14, -20, -46, -58, -62)
_EAR_RADII_MM = np.array([16.0, 40.0, 30.0])

SKIN_TONES = np.array(
    [[0.90, 0.75, 0.66], [0.88, 0.70, 0.58], [0.83, 0.62, 0.48], [0.71, 0.50, 0.36], [0.55, 0.37, 0.26], [0.40, 0.26, 0.18]]
)
HAIR_COLOURS = np.array(
    [[0.07, 0.06, 0.06], [0.17, 0.11, 0.07], [0.32, 0.20, 0.12], [0.55, 0.38, 0.20], [0.45, 0.18, 0.09], [0.62, 0.61, 0.60]]
)
IRIS_COLOURS = np.array([[0.22, 0.12, 0.06], [0.35, 0.22, 0.10], [0.30, 0.36, 0.20], [0.28, 0.42, 0.52], [0.45, 0.52, 0.55]])


@dataclass(frozen=True)
class Regions:
    """Soft masks over a template's vertices, each [V] in [0, 1] unless said otherwise."""

    lips: np.ndarray
    brows: np.ndarray
    lashes: np.ndarray
    flush: np.ndarray  # cheeks, nose tip, ears
    beard: np.ndarray
    ears: np.ndarray
    hairline_mm: np.ndarray  # [V] signed distance inside the hairline, mm; negative outside
    gaze_deg: np.ndarray  # [V] angle from the eye's optical axis; 180 outside the eyes


def find_regions(template: HeadTemplate) -> Regions:
    """Regions of a template from its landmarks and canonical positions."""
    points = template.canonical
    marks = locate(template.landmarks, points)
    scale = (marks["eye_left"][0] - marks["eye_right"][0]) / PUPIL_DISTANCE_MM
    skin = template.is_part("skin")
    outer = template.is_part("skin", "cavity")
    ears = np.max([_ellipsoid(points, marks[f"ear_{side}"], _EAR_RADII_MM * scale) for side in ("left", "right")], axis=0)
    ears = ears * skin * (np.abs(points[:, 0]) > abs(marks["ear_left"][0]) - 9 * scale)
    cheek_centres = [marks[f"eye_{side}"] + scale * np.array([x, -34.0, 8.0]) for side, x in _sides(6.0)]
    cheeks = [_ellipsoid(points, centre, np.full(3, 24 * scale)) for centre in cheek_centres]
    nose = _ellipsoid(points, marks["nose_tip"] - [0, 0, 8 * scale], np.full(3, 18 * scale))
    return Regions(
        lips=_lips(points, marks, scale) * outer,
        brows=np.max([_brow(points, marks[f"eye_{side}"], sign, scale) for side, sign in _sides(1)], axis=0) * skin,
        lashes=np.max([_lashes(points, marks[f"eye_{s}"], template.is_part(f"eye_{s}")) for s, _ in _sides(1)], axis=0) * outer,
        flush=np.clip(np.max([*cheeks, nose, 0.8 * ears], axis=0), 0, 1) * skin,
        beard=_beard(points, marks, scale) * skin,
        ears=ears,
        hairline_mm=np.where(skin, _hairline(points, marks, scale, ears), -100.0),
        gaze_deg=np.minimum(*[_gaze(points, marks[f"eye_{side}"], template.is_part(f"eye_{side}")) for side, _ in _sides(1)]),
    )


def _sides(value: float) -> tuple[tuple[str, float], tuple[str, float]]:
    return (("left", value), ("right", -value))


def _ellipsoid(points: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """1 at ``centre`` falling smoothly to 0 at the ellipsoid's surface."""
    return smoothstep(np.linalg.norm((points - centre) / radii, axis=1), 1.0, 0.6)


def _lips(points: np.ndarray, marks: dict[str, np.ndarray], scale: float) -> np.ndarray:
    corner = (marks["mouth_left"] * [1, 1, 1] + marks["mouth_right"] * [-1, 1, 1]) / 2
    share = np.abs(points[:, 0]) / corner[0]
    height = points[:, 1] - corner[1]
    upper = np.interp(share, _LIP_SHARE, _UPPER_LIP) * (marks["lip_top"][1] - corner[1])
    lower = np.interp(share, _LIP_SHARE, _LOWER_LIP) * (marks["lip_bottom"][1] - corner[1])
    inside = np.minimum(upper - height, height - lower)
    front = smoothstep(points[:, 2], corner[2] - 9 * scale, corner[2] - 5 * scale)
    return smoothstep(inside, -0.8, 0.8) * front * (share < 1.05)


def _beard(points: np.ndarray, marks: dict[str, np.ndarray], scale: float) -> np.ndarray:
    """Moustache, jaw and upper neck; on the cheek its edge falls from the ear towards the mouth."""
    mouth, ear = marks["mouth_left"], marks["ear_left"]
    back = np.clip((mouth[2] - points[:, 2]) / (mouth[2] - ear[2]), 0, 1)
    cheek = mouth[1] + 6 * scale + (ear[1] - mouth[1]) * back**2.5
    moustache = smoothstep(np.abs(points[:, 0]), mouth[0] + 10 * scale, mouth[0] - 2 * scale)
    edge = cheek * (1 - moustache) + (marks["nose_tip"][1] - 12 * scale) * moustache
    below = smoothstep(points[:, 1] - edge, 7 * scale, -7 * scale)
    jaw = smoothstep(points[:, 2], ear[2] + 2 * scale, ear[2] + 14 * scale)
    neck = smoothstep(points[:, 1], marks["chin"][1] - 48 * scale, marks["chin"][1] - 22 * scale)
    return below * jaw * neck


def _brow(points: np.ndarray, eye: np.ndarray, outwards: float, scale: float) -> np.ndarray:
    out = (points[:, 0] - eye[0]) * outwards / scale
    up = (points[:, 1] - eye[1]) / scale
    half = np.interp(out, _BROW_OUT_MM, _BROW_HALF_MM, left=0, right=0)
    away = np.abs(up - np.interp(out, _BROW_OUT_MM, _BROW_UP_MM))
    first, last = _BROW_OUT_MM[0], _BROW_OUT_MM[-1]
    ends = smoothstep(out, first - 1, first + 3) * smoothstep(out, last + 1, last - 3)
    return smoothstep(away - half, 0.8, -0.8) * ends * (points[:, 2] > eye[2] - 15 * scale)


def _lashes(points: np.ndarray, eye: np.ndarray, eye_vertices: np.ndarray) -> np.ndarray:
    """The lids' rims: what lies just outside the eyeball on its front."""
    radius = np.percentile(np.linalg.norm(points[eye_vertices] - eye, axis=1), 50)
    away = np.linalg.norm(points - eye, axis=1) - radius
    return smoothstep(away, 2.4, 1.4) * (points[:, 2] > eye[2] + 0.35 * radius)


def _hairline(points: np.ndarray, marks: dict[str, np.ndarray], scale: float, ears: np.ndarray) -> np.ndarray:
    middle = (marks["ear_left"] + marks["ear_right"]) / 2
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - middle[2]))
    above = points[:, 1] - marks["eye_left"][1] - np.interp(azimuth, _HAIRLINE_DEG, _HAIRLINE_MM) * scale
    return np.where(ears > 0.05, -10.0, np.clip(above, -100, 100))


def _gaze(points: np.ndarray, eye: np.ndarray, eye_vertices: np.ndarray) -> np.ndarray:
    offset = points - eye
    angle = np.degrees(np.arctan2(np.hypot(offset[:, 0], offset[:, 1]), offset[:, 2]))
    return np.where(eye_vertices, angle, 180.0)


@dataclass(frozen=True)
class Palette:
    """Colours of one head, each [3] in [0, 1]."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    beard: float  # strength of stubble, 0 to 1
    shaved: float  # strength of hair stubble on a bald scalp, 0 to 1

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Palette:
        """Draw a skin tone (light to dark), hair colour, eye colour and stubble."""
        tone = (len(SKIN_TONES) - 1) * rng.uniform() ** 1.3
        low = int(tone)
        skin = SKIN_TONES[low] * (1 - tone + low) + SKIN_TONES[min(low + 1, len(SKIN_TONES) - 1)] * (tone - low)
        dark = tone > 3
        hair = HAIR_COLOURS[rng.choice(2 if dark else len(HAIR_COLOURS))] * rng.uniform(0.85, 1.2)
        iris = IRIS_COLOURS[rng.choice(2 if dark else len(IRIS_COLOURS))] * rng.uniform(0.8, 1.2)
        stubble = rng.uniform(0, 0.55) if rng.random() < 0.5 else 0.0
        return cls(skin * (1 + 0.03 * rng.normal(size=3)), hair, iris, stubble, float(rng.uniform(0.2, 0.8)))


def paint(
    template: HeadTemplate, regions: Regions, points: np.ndarray, palette: Palette, rng: np.random.Generator
) -> np.ndarray:
    """Albedo [V, 3] in [0, 1] of a bald head at fine vertices ``points`` [V, 3] mm."""
    blotches = 0.05 * band_noise(points, rng, (25, 80)) + 0.035 * band_noise(points, rng, (6, 14))
    pores = 0.035 * band_noise(points, rng, (2.0, 5.0))
    freckles = 0.3 * rng.uniform(0, 1) * smoothstep(band_noise(points, rng, (4, 8)), 1.5, 2.3)
    colour = palette.skin * (1 + blotches + pores - freckles)[:, None]
    flush = regions.flush * (0.8 + 0.25 * np.clip(band_noise(points, rng, (10, 30)), -1, 1))
    colour *= 1 + flush[:, None] * np.array([0.03, -0.07, -0.06])
    lips = palette.skin * 0.55 + np.array([0.62, 0.22, 0.22]) * (0.25 + 0.35 * palette.skin[0])
    colour = _blend(colour, lips * (1 + pores[:, None] * 1.5), 0.8 * regions.lips)
    speckle = 0.5 + 0.5 * np.clip(band_noise(points, rng, (1.5, 4.0)), -1, 1)
    stubble = palette.hair * 0.6 + palette.skin * 0.25
    scalp = smoothstep(regions.hairline_mm, -2, 5) * palette.shaved
    beard = regions.beard * palette.beard * (1 - regions.lips)
    colour = _blend(colour, stubble, np.maximum(scalp, beard) * (0.45 + 0.45 * speckle))
    colour = _blend(colour, palette.hair * (0.7 + 0.5 * speckle)[:, None], regions.brows * (0.45 + 0.5 * speckle))
    colour = _blend(colour, palette.hair * 0.5, 0.7 * regions.lashes)
    inner = template.is_part("cavity") & (regions.lips < 0.3) & (regions.lashes < 0.3)
    colour[inner] = np.array([0.34, 0.12, 0.11]) * (1 + pores[inner, None])
    _paint_mouth_and_eyes(colour, template, regions.gaze_deg, palette, pores + blotches)
    return np.clip(colour, 0, 1)


def _blend(base: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return base * (1 - weight[:, None]) + colour * weight[:, None]


def _paint_mouth_and_eyes(
    colour: np.ndarray, template: HeadTemplate, gaze_deg: np.ndarray, palette: Palette, grain: np.ndarray
) -> None:
    """Teeth, tongue, and eyes with sclera, iris, limbal ring and pupil (in place)."""
    for part, tint in (("teeth", (0.88, 0.84, 0.74)), ("tongue", (0.70, 0.34, 0.33))):
        chosen = template.is_part(part)
        colour[chosen] = np.array(tint) * (1 + grain[chosen, None])
    eyes = template.is_part("eye_left", "eye_right")
    gaze = gaze_deg[eyes]
    redness = smoothstep(gaze, 35, 75)[:, None] * np.array([0.02, 0.14, 0.14])
    sclera = np.array([0.90, 0.88, 0.85]) * (1 + 0.3 * grain[eyes, None]) - redness
    iris = palette.iris * (1.15 + 1.5 * grain[eyes] - 0.5 * smoothstep(gaze, 22, 27))[:, None]
    result = _blend(sclera, iris, smoothstep(gaze, 29.0, 26.5))
    colour[eyes] = _blend(result, np.full(3, 0.02), smoothstep(gaze, 12.5, 10.5))
