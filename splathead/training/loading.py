"""Loaded training pairs: kept for the next training on the same data, or shared with the processes forked off this one."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from splathead.config import Config
from splathead.maps.degrade import STUDY_DEGRADATIONS
from splathead.samples import Sample
from splathead.training.data import PairSet
from splathead.training.device import resident_bytes
from splathead.training.pair_loading import load_pairs


@dataclass(frozen=True, eq=False)
class DataKey:
    """What the loaded pairs depend on; equal keys share them, so that trainings on the same data load it once."""

    config: Config
    guides: tuple[str, ...]

    def _values(self) -> tuple:
        train = self.config.train
        normals = train.normal_target if train.model.normal_head else ""
        noisy = any(name in STUDY_DEGRADATIONS for name in (train.lr_input, *train.lr_mixture))
        noise_seed = self.config.seed if noisy else 0
        zones = (self.config.pairs.interior_px, self.config.pairs.jump_mm)
        inputs = (train.lr_input, tuple(train.lr_mixture), train.model.range_mm)
        what = (*inputs, noise_seed, train.target, normals, self.guides, zones)
        return (str(self.config.run_folder), *what, train.max_gpu_memory_gb)

    def __hash__(self) -> int:
        return hash(self._values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataKey) and self._values() == other._values()


_shared: dict[tuple[DataKey, tuple[Sample, ...], str], PairSet] = {}
"""What :func:`share_pairs` loaded in this process, or in the one that it was forked off"""


def pair_set(key: DataKey, samples: Sequence[Sample], split: str, device: torch.device) -> PairSet | None:
    """Pairs of the split ``train`` or ``val`` on ``device`` (in host memory where they are too large); None without samples.

    Where :func:`share_pairs` was called, only what it loaded is given; RuntimeError for anything else.
    """
    if not samples:
        return None
    if not _shared:
        return _loaded(key, tuple(samples), split, device)
    found = _shared.get((key, tuple(samples), split))
    if found is None:
        raise RuntimeError(f"pairs of {split} ({len(samples)} views) are other ones than those that were loaded to be shared")
    return found.on(device, resident_bytes(key.config.train))


def share_pairs(key: DataKey, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Load the pairs of every split into host memory, for this process and those that it forks."""
    for split, found in samples.items():
        if found:
            pairs = _shared[key, tuple(found), split] = PairSet(_pairs(key, found, split), torch.device("cpu"))
            if split == "train":
                _ = pairs.fingerprint  # computed here it is shared as well; nothing asks for that of val


@functools.lru_cache(maxsize=2)
def _loaded(key: DataKey, samples: tuple[Sample, ...], split: str, device: torch.device) -> PairSet:
    return PairSet(_pairs(key, samples, split), device, resident_bytes(key.config.train))


def _pairs(key: DataKey, samples: Sequence[Sample], split: str) -> list:
    return load_pairs(key.config, samples, guides=key.guides, with_interior=split == "val")
