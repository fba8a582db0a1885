"""What both evaluations share: which views and methods, the unit of lengths, the fallback for empty pixels, parts on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.images import DepthMap, load_depth_png
from splathead.maps.pairs import Pair, load_pair
from splathead.metrics.depth import fill_empty
from splathead.metrics.zones import ZoneSettings
from splathead.models.interpolation import upsample_depth
from splathead.samples import Sample, list_samples, predictions_folder, subject_info
from splathead.training_data import prepare_input


@dataclass(frozen=True)
class Scale:
    """Lengths of a subject: millimetres, or fractions of the bounding-box diagonal where the true size is unknown."""

    metric: bool
    diagonal_mm: float

    @classmethod
    def of(cls, info: dict) -> Scale:
        """From a subject's ``subject.json``."""
        return cls(info["scale"] == "metric", float(info["diagonal_mm"]))

    @property
    def unit(self) -> str:
        """``mm`` or ``frac``."""
        return "mm" if self.metric else "frac"

    def length(self, value_mm: float) -> float:
        """A length in :attr:`unit`."""
        return value_mm if self.metric else value_mm / self.diagonal_mm

    def zones(self, config: Config) -> ZoneSettings:
        """Zones in nominal millimetres; a jump is the same part of the head either way."""
        if self.metric:
            return ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
        return ZoneSettings.for_diagonal(self.diagonal_mm, config.pairs.interior_px)


def test_samples(config: Config, limit: int = 0) -> list[Sample]:
    """Samples of stage 05 in the splits that are evaluated; none is an error."""
    samples = list_samples(config, 5, splits=tuple(config.evaluate.splits), limit=limit)
    if not samples:
        raise ValueError(f"{config.run_folder}: no sample in the splits {config.evaluate.splits}")
    return samples


def predicted_methods(config: Config) -> list[str]:
    """Methods with predictions, baselines in their configured order first; none is an error."""
    folder = predictions_folder(config)
    found = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not found:
        raise FileNotFoundError(f"{folder}: no predictions; run scripts/06_train_depth_sr.py first")
    baselines = [name for name in config.train.baselines if name in found]
    return baselines + [name for name in found if name not in baselines]


@dataclass(frozen=True)
class View:
    """One view with its targets and predictions, read once for all methods."""

    config: Config
    sample: Sample
    pair: Pair

    @classmethod
    def load(cls, config: Config, sample: Sample) -> View:
        """Read the pair; its 8-bit input (the first of ``pairs.lr_bits``) gives code, near and far."""
        return cls(config, sample, load_pair(config, sample, lr_bits=config.pairs.lr_bits[0]))

    @property
    def targets(self) -> dict[str, DepthMap]:
        """Those of ``evaluate.targets`` that this subject has."""
        return {name: target for name, target in self.pair.targets.items() if name in self.config.evaluate.targets}

    @cached_property
    def bilinear(self) -> np.ndarray:
        """Bilinear depth [H, W] float64 mm at every pixel, also beyond the input's mask."""
        lr = self.pair.lr
        prepared = prepare_input(lr)
        scale = self.pair.camera.width // lr.camera.width
        return prepared.near + upsample_depth(prepared.depth01, scale, "bilinear").astype(np.float64) * prepared.range

    @cached_property
    def code(self) -> np.ndarray:
        """Depth code [h, w] of the input."""
        return self.pair.lr.encoding.encode(self.pair.lr.depth, self.pair.lr.mask)

    def prediction(self, method: str) -> np.ndarray:
        """Predicted depth [H, W] mm, 0 = left empty; a missing file or another size is an error."""
        path = self.sample.prediction_path(self.config, method)
        depth = load_depth_png(path).depth
        expected = (self.pair.camera.height, self.pair.camera.width)
        if depth.shape != expected:
            raise ValueError(f"{path}: prediction of {depth.shape[1]}x{depth.shape[0]}, expected {expected[1]}x{expected[0]}")
        return depth

    def filled(self, method: str, mask: np.ndarray) -> np.ndarray:
        """The prediction on ``mask`` with bilinear's value where it is empty, 0 outside."""
        return fill_empty(self.prediction(method), self.bilinear, mask)


def variant_items(samples: list[Sample]) -> dict[str, list[Sample]]:
    """``<subject>/<variant>`` -> its samples: what one worker evaluates."""
    items: dict[str, list[Sample]] = {}
    for sample in samples:
        items.setdefault(f"{sample.subject}/{sample.variant}", []).append(sample)
    return items


def read_parts(stage_folder: Path, items: dict[str, list[Sample]]) -> Iterator[dict]:
    """Score records that the workers wrote, in the items' order."""
    for item in items:
        yield from json.loads((stage_folder / item / "scores.json").read_text())


def identity_of(config: Config, sample: Sample) -> str:
    """The person behind a sample: what splits and intervals count."""
    return subject_info(config, sample.subject)["identity"]
