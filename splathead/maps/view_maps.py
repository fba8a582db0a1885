"""Maps of a view beside depth, as networks use them: guides, and normals to be supervised with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splathead.config import Config
from splathead.guides import stored_maps
from splathead.images import load_maps
from splathead.maps.render_subject import pack_normals
from splathead.samples import STAGE_NAMES, Sample, stage_folder, subject_folder

NORMAL_TARGETS_FOLDER = "normal_targets"
"""In stage 10's folder: ``<source>/<subject>/<variant>/<view>.npz``, normals that take long to make."""
PREPARED_NORMALS = ("splat_bilateral", "dsine")


def load_guide_maps(config: Config, sample: Sample, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The maps of stage 04 that a sample's guides are made of, see :func:`splathead.guides.view_guides`."""
    sources = stored_maps(names)
    return load_maps(sample.path(config, 4, "_hr.npz"), sources) if sources else {}


def load_normal_target(config: Config, sample: Sample, kind: str) -> np.ndarray:
    """Normals [H, W, 3] int8 (times 127, camera axes, 0 = unknown) to supervise with.

    ``kind``: ``surface`` (true), ``splat`` (the Gaussians' shortest axes), ``splat_bilateral`` (these, smoothed as in the
    published study) or ``dsine``; stage 10 makes the last two, and FileNotFoundError says so where it has not.
    """
    if kind == "surface":
        path = subject_folder(config, sample.subject) / "truth" / f"{sample.view}.npz"
        normals = load_maps(path, ("normal",))["normal"]
        return normals if normals.dtype == np.int8 else pack_normals(normals)
    if kind in PREPARED_NORMALS:
        path = stage_folder(config, 10) / NORMAL_TARGETS_FOLDER / kind / sample.subject / sample.variant / f"{sample.view}.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no normals of {kind}; run scripts/{STAGE_NAMES[10]}.py, which makes them")
        return load_maps(path, ("normal",))["normal"]
    if kind != "splat":
        raise ValueError(f"normal target {kind!r}, expected surface, splat, {' or '.join(PREPARED_NORMALS)}")
    maps = load_maps(sample.path(config, 4, "_hr.npz"), ("normal", "mask"))
    return maps["normal"] * maps["mask"][..., None]
