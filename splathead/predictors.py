"""The methods of stage 06 as things that can be applied to samples: the network and its baselines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from splathead.checkpoints import load_weights
from splathead.config import Config
from splathead.devices import compute_device
from splathead.images import DepthMap, load_depth_png, save_depth_png, write_json
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models.interpolation import fit_offset
from splathead.prediction import interpolate_depth, load_input, load_network, load_raw_splat, scale_factor
from splathead.samples import Sample, input_stage, list_samples
from splathead.stages import Stage

WRITER_THREADS = 4
OFFSETS_NAME = "offsets.json"

Predict = Callable[[Sample], DepthMap]


@dataclass(frozen=True)
class Predictor:
    """One method. ``prepare(folder)`` loads or fits what it needs, leaving a record in ``folder``, and returns the function."""

    method: str
    settings: dict
    """everything its predictions depend on besides the inputs (JSON-ready)"""
    prepare: Callable[[Path], Predict]


def network_predictor(config: Config, method: str, weights: Path) -> Predictor:
    """The network with these weights (checked now; loaded when used)."""
    _, info = load_weights(weights)

    def prepare(_folder: Path) -> Predict:
        network = load_network(weights, compute_device(config.device))

        def predict(sample: Sample) -> DepthMap:
            lr = load_input(config, sample, info["lr_input"])
            scale = scale_factor(config, sample, lr)
            if scale != network.scale:
                raise ValueError(f"{weights}: network for scale factor {network.scale}, but {sample} needs {scale}")
            return network.predict(lr)

        return predict

    return Predictor(method, {"weights": info["sha256"], "lr_input": info["lr_input"], "target": info["target"]}, prepare)


def baseline_predictors(config: Config, limit: int = 0) -> tuple[list[Predictor], list[str]]:
    """``train.baselines`` as predictors, and a note on each that cannot be applied here.

    ``bilinear_offset`` needs training subjects with the target; captures and imported splats have none.
    """
    train, predictors, notes = config.train, [], []
    for method in config.train.baselines:
        settings = {"lr_input": train.lr_input}
        if method == "raw_splat":
            predictors.append(Predictor(method, {}, lambda _folder: functools.partial(load_raw_splat, config)))
        elif method == "bilinear_offset":
            samples = list_samples(config, 5, splits=("train",), limit=limit) if input_stage(config) == 5 else []
            if not samples:
                notes.append("bilinear_offset: left out, there are no training subjects to fit its offset on")
                continue
            settings |= {"target": train.target, "zone": [config.pairs.interior_px, config.pairs.jump_mm], "limit": limit}
            predictors.append(Predictor(method, settings, functools.partial(_prepare_offset, config, samples)))
        else:
            predictors.append(Predictor(method, settings, lambda _folder, mode=method: _interpolator(config, mode, {})))
    return predictors, notes


def _interpolator(config: Config, mode: str, offsets_mm: dict[str, float]) -> Predict:
    def predict(sample: Sample) -> DepthMap:
        if offsets_mm and sample.variant not in offsets_mm:
            raise ValueError(f"{sample}: no offset for this variant, training subjects have {sorted(offsets_mm)}")
        lr = load_input(config, sample, config.train.lr_input)
        return interpolate_depth(lr, scale_factor(config, sample, lr), mode, offsets_mm.get(sample.variant, 0.0))

    return predict


def _prepare_offset(config: Config, samples: Sequence[Sample], folder: Path) -> Predict:
    offsets = fit_offsets(config, samples)
    write_json(folder / OFFSETS_NAME, {"target": config.train.target, "unit": "mm", "offsets": offsets})
    return _interpolator(config, "bilinear", offsets)


def fit_offsets(config: Config, samples: Sequence[Sample]) -> dict[str, float]:
    """Per variant the constant in mm that bilinear interpolation lacks on ``samples``, over ``train.target``'s interior."""
    zones = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
    bilinear = _interpolator(config, "bilinear", {})

    def interior_errors(sample: Sample):
        target = load_depth_png(sample.path(config, 5) / f"hr_{config.train.target}.png")
        prediction = bilinear(sample)
        inside = compute_zones(target.depth, zones).interior & prediction.mask
        return target.depth[inside] - prediction.depth[inside]

    with ThreadPoolExecutor(WRITER_THREADS) as pool:
        errors = list(pool.map(interior_errors, samples))
    variants = sorted({sample.variant for sample in samples})
    return {v: fit_offset([error for sample, error in zip(samples, errors) if sample.variant == v]) for v in variants}


def write_predictions(stage: Stage, predictor: Predictor, samples: Sequence[Sample]) -> None:
    """Apply a method to samples, writing ``<subject>/<variant>/<view>.png`` with sidecars into the stage's folder."""
    predict = predictor.prepare(stage.folder)

    def write_subject(subject: str, folder: Path) -> None:
        chosen = [sample for sample in samples if sample.subject == subject]
        with ThreadPoolExecutor(WRITER_THREADS) as pool:
            writes = [pool.submit(save_depth_png, folder / s.variant / f"{s.view}.png", predict(s)) for s in chosen]
        for write in writes:
            write.result()

    stage.run_items(write_subject, sorted({sample.subject for sample in samples}), unit="head")
