"""Maps of a view beside depth, as networks use them: guides, and normals to be supervised with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splathead.config import Config
from splathead.images import load_maps
from splathead.maps.bilateral import joint_bilateral_normals
from splathead.maps.render_subject import NORMAL_SCALE, pack_normals
from splathead.samples import Sample, subject_folder

DSINE_SUFFIX = "_dsine.npz"
"""Beside stage 04's maps: ``normal`` as DSINE predicts it, written by stage 10."""


def load_guides(config: Config, sample: Sample, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Guides [H, W] or [H, W, C] of a sample as stage 04 stores them, by name; see :mod:`splathead.guides`."""
    return load_maps(sample.path(config, 4, "_hr.npz"), tuple(names)) if names else {}


def load_normal_target(config: Config, sample: Sample, kind: str) -> np.ndarray:
    """Normals [H, W, 3] int8 (times 127, camera axes, 0 = unknown) to supervise with.

    ``kind``: ``surface`` (true), ``splat`` (the Gaussians' shortest axes), ``splat_bilateral`` (these, smoothed as in the
    published study) or ``dsine``.
    """
    if kind == "surface":
        path = subject_folder(config, sample.subject) / "truth" / f"{sample.view}.npz"
        normals = load_maps(path, ("normal",))["normal"]
        return normals if normals.dtype == np.int8 else pack_normals(normals)
    if kind == "dsine":
        return load_maps(sample.path(config, 4, DSINE_SUFFIX), ("normal",))["normal"]
    maps = load_maps(sample.path(config, 4, "_hr.npz"), ("normal", "rgb", "mask"))
    normals = maps["normal"] * maps["mask"][..., None]
    if kind == "splat":
        return normals
    if kind != "splat_bilateral":
        raise ValueError(f"normal target {kind!r}, expected surface, splat, splat_bilateral or dsine")
    box = np.ix_(maps["mask"].any(1), maps["mask"].any(0))
    smooth = np.zeros_like(normals)
    known = np.any(normals[box] != 0, axis=2)
    smooth[box] = pack_normals(joint_bilateral_normals(normals[box] / np.float32(NORMAL_SCALE), known, maps["rgb"][box]))
    return smooth
