"""Training pairs from a run's stages: inputs and targets of stage 05, guides and normals beside them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from splathead.config import Config, TrainConfig
from splathead.guides import view_guides
from splathead.images import load_depth_code
from splathead.maps.low_resolution import load_low_resolution
from splathead.maps.view_maps import load_guide_maps, load_normal_target
from splathead.metrics.zones import ZoneSettings
from splathead.samples import Sample
from splathead.training.pairs import TrainingPair, make_pair_of_code, over_range

LOADER_THREADS = 16


def load_pairs(
    config: Config, samples: Sequence[Sample], *, guides: Sequence[str] = (), with_interior: bool = False
) -> list[TrainingPair]:
    """Read the pairs that ``config.train`` trains on.

    Args:
        config: ``train`` says input, target and normals.
        samples: views of stage 05.
        guides: maps of the view that the network sees, see :mod:`splathead.guides`.
        with_interior: also compute the interior zone, for validation pairs; these come without normals.
    """
    settings = config.train
    zones = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm) if with_interior else None
    normals = settings.normal_target if settings.model.normal_head and not with_interior else ""

    def load(sample: Sample) -> TrainingPair:
        folder = sample.path(config, 5)
        name = "/".join(folder.parts[-3:])
        lr_input = settings.lr_input if with_interior else input_of(settings, name)
        lr = over_range(load_low_resolution(folder, lr_input, config.seed), settings.model.range_mm)
        target = load_depth_code(folder / f"hr_{settings.target}.png")
        scale = target.camera.width // lr.camera.width
        return make_pair_of_code(
            name, lr, target, zones, guides=view_guides(guides, load_guide_maps(config, sample, guides), lr, scale),
            normals=load_normal_target(config, sample, normals) if normals else None,
        )  # fmt: skip

    with ThreadPoolExecutor(LOADER_THREADS) as pool:
        return list(pool.map(load, samples))


def input_of(settings: TrainConfig, name: str) -> str:
    """The low-resolution input that a view is trained on: ``lr_input``, or the one of ``lr_mixture`` that its name gives it."""
    mixture = settings.lr_mixture
    return mixture[zlib.crc32(name.encode()) % len(mixture)] if mixture else settings.lr_input
