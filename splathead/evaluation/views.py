"""What both evaluations share: which heads, views and methods, the unit of lengths, what a view's scores need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera
from splathead.config import Config
from splathead.images import DepthMap, load_depth_png
from splathead.maps.fill import extend_depth
from splathead.maps.pairs import Pair, load_pair
from splathead.method_names import base_method, single_view_method
from splathead.metrics.depth import fill_empty
from splathead.metrics.zones import HEAD_DIAGONAL_MM, ZoneSettings
from splathead.models import BASELINES, FROM_GAUSSIANS
from splathead.samples import Sample, evaluated_samples, predictions_folder, subject_folder, subject_info
from splathead.stages import read_record

REFERENCE_BITS = 8
RENDERED = "render"
"""Input that is rendered from the Gaussians at low resolution, not resampled"""
SCALES = ("metric", "nominal")
PREDICT_HINT = "run scripts/06_train_depth_sr.py --only_apply (it predicts evaluate.splits)"


@dataclass(frozen=True)
class Scale:
    """Lengths of a subject: millimetres, or fractions of the bounding-box diagonal where the true size is unknown."""

    metric: bool
    diagonal_mm: float

    @classmethod
    def of(cls, info: dict) -> Scale:
        """From a subject's ``subject.json``; a scale or diagonal that is missing or makes no sense is an error."""
        scale, diagonal = info.get("scale"), info.get("diagonal_mm")
        if scale not in SCALES or not isinstance(diagonal, (int, float)) or not 0 < diagonal < float("inf"):
            raise ValueError(
                f"subject {info.get('name')!r}: subject.json says scale {scale!r} and diagonal_mm {diagonal!r}, "
                f"expected one of {', '.join(SCALES)} and a length above 0"
            )
        return cls(scale == "metric", float(diagonal))

    @property
    def unit(self) -> str:
        """``mm`` or ``frac``."""
        return "mm" if self.metric else "frac"

    def length(self, value_mm: float) -> float:
        """A length in :attr:`unit`."""
        return value_mm if self.metric else value_mm / self.diagonal_mm

    def zones(self, config: Config) -> ZoneSettings:
        """Zones in (nominal) millimetres; without a known size, a jump is the same part of the head as on a typical one."""
        jump_mm = config.pairs.jump_mm * (1.0 if self.metric else self.diagonal_mm / HEAD_DIAGONAL_MM)
        return ZoneSettings(config.pairs.interior_px, jump_mm)


@dataclass(frozen=True)
class Method:
    """A method with finished predictions."""

    folder: str
    """below stage 06's predictions"""
    name: str
    """in results; several trainings of one method differ in target or seed"""
    lr_input: str
    """low-resolution input, "" for what is rendered from the Gaussians"""
    target: str = ""
    """the only target that it is scored against (one of a study's trainings); empty = every target"""
    seed: int | None = None
    guided: bool = False
    degradation_train: str = ""
    """input that it was trained on, where that is not the one of the run"""
    degradation_test: str = RENDERED
    """input that it is applied to"""

    @property
    def is_network(self) -> bool:
        """Trained, hence compared with the baselines."""
        return base_method(self.name) not in BASELINES

    def scored_on(self, target: str) -> bool:
        """Whether it is scored against ``target``: a study's trainings on their own only, what is rendered from the Gaussians
        on the true surface only."""
        from_gaussians = base_method(self.name) in FROM_GAUSSIANS
        return self.target in ("", target) and not (from_gaussians and target == "render")

    @property
    def track(self) -> str:
        """Input track: A = 8-bit low-resolution depth alone, B = also maps of the same view at high resolution, never its
        depth, C = anything rendered from the Gaussians; else unranked, as what several low-resolution views give."""
        if self.lr_input and (self.lr_input != "8bit" or single_view_method(self.name) != self.name):
            return ""
        return "B" if self.guided else "A" if self.lr_input else "C"


def predicted_methods(config: Config) -> list[Method]:
    """Methods whose predictions stage 06 finished: baselines in their usual order, then networks; none is an error."""
    folder, methods = predictions_folder(config), []
    for path in folder.glob("*/stage.json"):
        record = read_record(path.parent)
        if record is None or record["state"] != "done":
            raise RuntimeError(f"{path}: the predictions are not finished; {PREDICT_HINT}")
        methods.append(_method(path, path.parent.name, record["settings"]))
    if not methods:
        raise FileNotFoundError(f"{folder}: no predictions; {PREDICT_HINT}")
    order = {name: index for index, name in enumerate(BASELINES)}
    return sorted(methods, key=lambda method: (order.get(method.name, len(order)), method.folder))


def _method(path: Path, folder: str, settings: dict) -> Method:
    lr_input = "" if folder in FROM_GAUSSIANS else settings.get("lr_input")
    if lr_input is None:
        raise ValueError(f"{path}: settings without lr_input, expected 8bit or 16bit; {PREDICT_HINT}")
    name = settings.get("method", folder)
    target = settings["target"] if folder != name else ""
    return Method(folder, name, lr_input, target, settings.get("seed"), bool(settings.get("guides")))


def evaluated_items(config: Config, methods: list[Method], limit: int = 0) -> dict[str, list[Sample]]:
    """``<subject>/<variant>`` -> its samples in ``evaluate.splits``, of ``evaluate.fits``: what one worker scores.

    No sample, or a missing prediction, is an error; ``limit``: the first N subjects of each split.
    """
    splits = config.evaluate.splits
    samples = evaluated_samples(config, splits, limit)
    if not samples:
        raise ValueError(f"{config.run_folder}: no sample in evaluate.splits {splits}, there is nothing to evaluate")
    items: dict[str, list[Sample]] = {}
    for sample in samples:
        items.setdefault(f"{sample.subject}/{sample.variant}", []).append(sample)
        for method in methods:
            path = sample.prediction_path(config, method.folder)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no prediction of this view; {PREDICT_HINT}")
    return items


def load_prediction(config: Config, sample: Sample, method: Method, camera: Camera | None = None) -> DepthMap:
    """Predicted depth in mm, 0 = left empty; checked to be of ``camera`` where one is given."""
    path = sample.prediction_path(config, method.folder)
    prediction = load_depth_png(path)
    if prediction.encoding.unit != "mm":
        raise ValueError(f"{path}: depth in unit {prediction.encoding.unit!r}, expected mm")
    if camera is not None:
        views = [[c.width, c.height, *c.K.ravel(), *c.world_to_cam.ravel()] for c in (prediction.camera, camera)]
        if not np.allclose(*views, rtol=1e-6, atol=1e-6):
            size = f"{prediction.camera.width}x{prediction.camera.height}"
            raise ValueError(f"{path}: another camera ({size}) than its target's, expected {camera.width}x{camera.height}")
    return prediction


def enlarged(depth: np.ndarray, mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Depth [h, w] extended beyond its mask and interpolated bilinearly to ``shape`` = [H, W], float64, filled everywhere."""
    offset = float(depth[mask].mean())  # deviations keep float32's digits
    extended = extend_depth(np.where(mask, depth - offset, 0).astype(np.float32), mask).astype(np.float64)
    return offset + cv2.resize(extended, shape[::-1], interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class View:
    """One sample of stage 05 with what its scores need; predictions are read one at a time."""

    config: Config
    sample: Sample
    pair: Pair

    @classmethod
    def load(cls, config: Config, sample: Sample) -> View:
        """Read the pair. Its low-resolution input (``train.lr_input``, or the 8-bit one where that is not a map of stage 05)
        gives code, near, far and the bilinear map."""
        bits = config.train.lr_input.removesuffix("bit")
        bits = int(bits) if bits.isdecimal() and int(bits) in config.pairs.lr_bits else REFERENCE_BITS
        return cls(config, sample, load_pair(config, sample, lr_bits=bits, targets=tuple(config.evaluate.targets)))

    @property
    def targets(self) -> dict[str, DepthMap]:
        """Those of ``evaluate.targets`` that this subject has."""
        return {name: target for name, target in self.pair.targets.items() if name in self.config.evaluate.targets}

    @cached_property
    def bilinear(self) -> np.ndarray:
        """Bilinear depth [H, W] float32 mm at every pixel, also beyond the input's mask.

        By OpenCV, whose half-pixel bilinear interpolation is that of ``models.interpolation`` (a test compares
        them): importing torch would cost each worker more than its scores.
        """
        camera = self.pair.camera
        return enlarged(self.pair.lr.depth, self.pair.lr.mask, (camera.height, camera.width)).astype(np.float32)

    @cached_property
    def code(self) -> np.ndarray:
        """Depth code [h, w] of the input, 0 = no surface."""
        return self.pair.lr.encoding.encode(self.pair.lr.depth, self.pair.lr.mask)

    def prediction(self, method: Method) -> np.ndarray:
        """Predicted depth [H, W] float32 mm, 0 = left empty."""
        return load_prediction(self.config, self.sample, method, self.pair.camera).depth

    def filled(self, depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """A prediction on ``mask`` with bilinear's value where it is empty, 0 outside."""
        return fill_empty(depth, self.bilinear, mask)


def spread_views(yaws_deg: list[float], count: int) -> list[int]:
    """Indices of ``count`` views (0 = all): the most frontal one, then always the one farthest in yaw from those chosen."""
    left = sorted(range(len(yaws_deg)), key=lambda i: (abs(yaws_deg[i]), yaws_deg[i]))
    chosen = [left.pop(0)]
    while left and (count == 0 or len(chosen) < count):
        gaps = [min(abs((yaws_deg[i] - yaws_deg[j] + 180) % 360 - 180) for j in chosen) for i in left]
        chosen.append(left.pop(int(np.argmax(gaps))))
    return chosen


def head_info(config: Config, sample: Sample) -> dict:
    """A subject's ``subject.json`` with the keys that scores need; a missing one is an error naming the file."""
    info = subject_info(config, sample.subject)
    missing = [key for key in ("identity", "source", "split", "scale", "diagonal_mm") if key not in info]
    if missing:
        raise ValueError(f"{subject_folder(config, sample.subject) / 'subject.json'}: no {', '.join(missing)}")
    return info
