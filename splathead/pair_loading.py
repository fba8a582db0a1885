"""Training pairs from a run's stages: inputs and targets of stage 05, guides and normals beside them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from splathead.config import Config
from splathead.images import load_depth_code
from splathead.maps.low_resolution import load_low_resolution
from splathead.maps.view_maps import load_guides, load_normal_target
from splathead.metrics.zones import ZoneSettings
from splathead.samples import Sample
from splathead.training_data import TrainingPair, make_pair_of_code

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
        lr = load_low_resolution(folder, settings.lr_input, config.seed)
        target = load_depth_code(folder / f"hr_{settings.target}.png")
        return make_pair_of_code(
            "/".join(folder.parts[-3:]), lr, target, zones, guides=load_guides(config, sample, guides),
            normals=load_normal_target(config, sample, normals) if normals else None,
        )  # fmt: skip

    with ThreadPoolExecutor(LOADER_THREADS) as pool:
        return list(pool.map(load, samples))
