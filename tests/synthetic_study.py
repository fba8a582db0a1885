"""Made-up results of a whole study, in the shape of every published file. For tests of tables, figures and paper only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from splathead.metrics.mesh import CURVE_MM
from splathead.results import ResultRow, write_results

FITS, TARGETS = ("vanilla", "regularised"), ("surface", "render")
METHODS = {
    "raw_splat": ("C", 2.2),
    "nearest": ("A", 1.9),
    "bilinear": ("A", 1.6),
    "bicubic": ("A", 1.65),
    "bilinear_offset": ("A", 1.2),
    "variational": ("A", 1.1),
    "edsr": ("A", 0.9),
    "edsr_icnr": ("A", 0.88),
    "srresnet": ("A", 0.86),
    "srresnet_icnr": ("A", 0.85),
    "swinir_plain": ("A", 40.0),
    "swinir": ("A", 0.95),
    "sgnet": ("B", 0.6),
    "dornet_nyu": ("B", 1.7),
    "unet": ("A", 0.6),
    "unet_normals": ("A", 0.62),
}
"""method -> (track, made-up RMSE in mm)"""
NETWORKS = tuple(name for name in METHODS if name.startswith(("edsr", "srresnet", "swinir", "sgnet", "unet")))
REFERENCES = ("bilinear", "bicubic", "bilinear_offset", "unet")
DEGRADATIONS = ("bicubic", "bicubic_noise", "bicubic_8bit", "16bit", "8bit", "bicubic_antialiased", "area")
BUDGET = (
    "splat_1024",
    "splat_1024_unbiased",
    "splat_normals",
    "splat_256_bilinear",
    "splat_256_8bit_bilinear",
    "truth_area_256_bilinear",
    "truth_8bit_1024",
    "truth_area_256_8bit_bilinear",
)
COMMON = {
    "raster_mode": "classic",
    "degradation_test": "render",
    "split": "test",
    "n": 24,
    "seed": 0,
    "device": "made-up",
    "config_hash": "0",
}


class _Maker:
    """Rows with a value near the one asked for and an interval around it, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rows: list[ResultRow] = []

    def add(self, metric: str, unit: str, value: float, high: float = np.inf, **columns: object) -> None:
        value = float(np.clip(value * self.random.uniform(0.97, 1.03), -high, high))
        spread = 0.04 * abs(value)
        interval = {"ci_low": value - spread, "ci_high": min(value + spread, high)}
        self.rows.append(ResultRow(metric=metric, unit=unit, value=value, **interval, **{**COMMON, **columns}))


def write_study(folder: Path, seed: int = 0, leave_out: tuple[str, ...] = ()) -> None:
    """Write ``<folder>/paper_<kind>.csv`` of every kind but ``leave_out``, and splits.json."""
    makers = {
        "depth": _depth,
        "mesh": _mesh,
        "training": _training,
        "inference": _inference,
        "error_budget": _budget,
        "cross_degradation": _cross,
        "normals": _normals,
        "bits": _bits,
        "f_score_audit": _audit,
        "long_depth": _long,
        "scan_depth": _scan,
        "capture_fused": _capture,
        "lam_depth": _lam,
    }
    for kind, fill in makers.items():
        if kind not in leave_out:
            maker = _Maker(seed)
            fill(maker)
            write_results(folder / f"paper_{kind}.csv", maker.rows)
    names = {"train": 160, "val": 16, "test": 24}
    splits = {
        "paper": {split: [f"{split}_{i}" for i in range(count)] for split, count in names.items()} | {"test_mesh_sha256": {}}
    }
    (folder / "splits.json").write_text(json.dumps(splits))


def _places(target: str):
    for dataset in ("ict", "anny", "ict+anny"):
        for fit in FITS:
            for views in ("all", "near_frontal"):
                for zone, factor in (("interior", 1.0), ("silhouette", 3.0), ("full", 1.8)):
                    level = factor * (1.0 if fit == "vanilla" else 0.6) * (1.0 if target == "surface" else 0.8)
                    yield (
                        {"experiment": "main", "dataset": dataset, "fit": fit, "target": target, "views": views, "zone": zone},
                        level,
                    )


def _methods(target: str):
    for name, (track, error) in METHODS.items():
        if name != "raw_splat" or target == "surface":
            yield name, track, error


def _depth(maker: _Maker) -> None:
    for target in TARGETS:
        for place, level in _places(target):
            for name, track, error in _methods(target):
                for seed in (0, 1, 2) if name == "unet" else (0,):
                    _pixels(maker, level * error, method=name, track=track, **(place | {"seed": seed}))
                for base in REFERENCES if name in NETWORKS else ():
                    if base != name and place["zone"] == "interior":
                        difference = level * (error - METHODS[base][1])
                        key = place | {"method": name, "track": track, "method_b": base}
                        maker.add("rmse", "mm", difference, **key)
                        maker.add("psnr", "dB", -3 * difference, **key)
                        maker.add("normal_error", "deg", 5 * difference, **key)


def _pixels(maker: _Maker, error: float, **key: object) -> None:
    maker.add("rmse", "mm", error, **key)
    maker.add("mae", "mm", 0.7 * error, **key)
    maker.add("bias", "mm", 0.5 * error, **key)
    maker.add("psnr", "dB", 45 - 8 * np.log10(error), **key)
    maker.add("normal_error", "deg", min(10 * error, 80), **key)
    maker.add("ssim", "frac", 0.95, 1.0, **key)
    maker.add("coverage", "frac", 0.99, 1.0, **key)
    maker.add("phase_spread", "mm", 0.05 * error, **key)
    maker.add("interval_violation", "frac", 0.3, 1.0, **key)


def _mesh(maker: _Maker) -> None:
    for target in TARGETS:
        for place, level in _places(target):
            for name, track, error in _methods(target):
                if place["zone"] != "interior" or place["dataset"] != "ict+anny":
                    continue
                key = place | {"method": name, "track": track}
                for threshold in CURVE_MM:
                    maker.add(
                        "f_score", "frac", 1 - np.exp(-threshold / (level * error)), 1.0, threshold=f"{threshold:g}mm", **key
                    )
                maker.add("f_score_auc", "frac", np.exp(-0.4 * level * error), 1.0, threshold="2mm", **key)
                maker.add("chamfer_l1", "mm", 0.6 * level * error, **key)
                maker.add("hausdorff_95", "mm", 2 * level * error, **key)
                if name in NETWORKS:
                    for base in REFERENCES[:3]:
                        maker.add("f_score", "frac", 0.1, 1.0, threshold="0.5mm", method_b=base, **key)


PARAMETERS = {
    "edsr": 1_515_265,
    "srresnet": 1_528_724,
    "unet": 7_765_409,
    "unet_normals": 7_774_820,
    "sgnet": 9_216_123,
    "swinir": 231_000,
}


def _training(maker: _Maker) -> None:
    for name in NETWORKS:
        base = name.removesuffix("_icnr").removesuffix("_plain")
        for target in TARGETS:
            key = {
                "experiment": "paper",
                "dataset": "ict+anny",
                "method": name,
                "target": target,
                "split": "train",
                "degradation_test": "",
                "raster_mode": "",
            }
            row = ResultRow(metric="parameters", unit="count", value=PARAMETERS[base], **{**COMMON, **key})
            maker.rows.append(row)
            maker.add("seconds", "s", 900, **key)
            maker.add("throughput", "1/s", 60, **key)
            maker.add("peak_memory", "MiB", 5000, **key)


def _inference(maker: _Maker) -> None:
    for index, name in enumerate(METHODS):
        key = {"experiment": "inference", "method": name, "degradation_test": "", "raster_mode": "", "split": ""}
        maker.add("seconds", "s", 0.0007 * (index + 1), **key)
        maker.add("peak_memory", "MiB", 200 * (index + 1), **key)


def _budget(maker: _Maker) -> None:
    for fit, level in (("vanilla", 2.0), ("regularised", 1.0)):
        for mode in ("classic", "antialiased"):
            for index, name in enumerate(BUDGET):
                key = {
                    "experiment": "error_budget",
                    "dataset": "ict+anny",
                    "fit": fit,
                    "raster_mode": mode,
                    "method": name,
                    "views": "all",
                    "zone": "interior",
                    "target": "surface",
                }
                error = (
                    0.25 if name.startswith("truth") else level * (1.5 - 0.1 * index) * (0.9 if mode == "antialiased" else 1)
                )
                if name != "splat_normals":
                    maker.add("rmse", "mm", error, **key)
                    maker.add("bias", "mm", 0.7 * error, **key)
                maker.add("normal_error", "deg", 10 * error, **key)
            maker.add("depth_std", "mm", 3 * level, **(key | {"method": "splat_1024"}))
            maker.add("interval_violation", "frac", 0.4 * level, 1.0, **(key | {"method": "splat_256", "target": ""}))


def _cross(maker: _Maker) -> None:
    for fit in FITS:
        for trained in DEGRADATIONS:
            for tested in DEGRADATIONS:
                key = {
                    "experiment": "cross_degradation",
                    "dataset": "ict+anny",
                    "fit": fit,
                    "target": "render",
                    "views": "near_frontal",
                    "zone": "interior",
                    "degradation_test": tested,
                    "track": "A",
                }
                drop = (
                    0
                    if trained == tested
                    else 2 + 3 * ("noise" in trained + tested) + 2 * ((trained[-3:] == "bit") != (tested[-3:] == "bit"))
                )
                maker.add("psnr", "dB", 48 - drop, method="unet", degradation_train=trained, **key)
                maker.add("rmse", "mm", 0.5 + 0.1 * drop, method="unet", degradation_train=trained, **key)
        for tested in DEGRADATIONS:
            maker.add("psnr", "dB", 42, method="bilinear", **(key | {"degradation_test": tested}))


def _normals(maker: _Maker) -> None:
    for target in TARGETS:
        for fit in FITS:
            for source, error in (("none", 0.6), ("splat", 0.7), ("splat_bilateral", 0.65), ("surface", 0.55)):
                _pixels(
                    maker,
                    error,
                    experiment="normals",
                    dataset="ict+anny",
                    fit=fit,
                    target=target,
                    views="all",
                    zone="interior",
                    track="A",
                    method=f"unet_normals_{source}",
                )


def _bits(maker: _Maker) -> None:
    for fit, level in (("vanilla", 1.0), ("regularised", 0.6)):
        for bits in (6, 7, 8, 9, 10, 16):
            for method, factor in (("unet", 0.6), ("bilinear", 1.5)):
                _pixels(
                    maker,
                    level * factor * (1 + 2.0 ** (6 - bits)),
                    experiment="bits",
                    dataset="ict+anny",
                    fit=fit,
                    target="surface",
                    views="all",
                    zone="interior",
                    method=method,
                    track="A",
                    degradation_test=f"{bits}bit",
                    degradation_train=f"{bits}bit" if method == "unet" else "",
                )


def _audit(maker: _Maker) -> None:
    for fit in FITS:
        for name, _, error in _methods("render"):
            for setting, thresholds in (("a", (0.01, 0.005)), ("b", (0.001, 0.0005))):
                for threshold in thresholds:
                    value = 1 - np.exp(-threshold * 1000 / error)
                    maker.add(
                        "f_score",
                        "frac",
                        value,
                        1.0,
                        experiment=f"f_score_audit_{setting}",
                        dataset="ict+anny",
                        fit=fit,
                        target="render",
                        method=name,
                        threshold=f"{threshold:g}frac",
                        views="near_frontal",
                    )


def _long(maker: _Maker) -> None:
    for fit in FITS:
        _pixels(
            maker,
            0.5,
            experiment="main",
            dataset="ict+anny",
            fit=fit,
            target="render",
            views="all",
            zone="interior",
            method="unet",
            track="A",
        )


def _scan(maker: _Maker) -> None:
    for fit in FITS:
        for target in TARGETS:
            for name, track, error in _methods(target):
                key = {
                    "experiment": "main",
                    "dataset": "scan",
                    "fit": fit,
                    "target": target,
                    "views": "all",
                    "zone": "interior",
                    "n": 1,
                }
                maker.add("rmse", "mm", error, method=name, track=track, **key)
                maker.add("f_score", "frac", 0.5, 1.0, method=name, track=track, threshold="0.5mm", **key)


def _capture(maker: _Maker) -> None:
    for name in ("raw_splat", "bilinear", "unet"):
        key = {"experiment": "fused", "dataset": "capture", "fit": "regularised", "views": "all", "method": name, "n": 1}
        maker.add("consistency", "frac", 0.002, **key)
        maker.add("consistency_conflict", "frac", 0.01, 1.0, **key)


def _lam(maker: _Maker) -> None:
    for name in ("raw_splat", "bilinear", "unet"):
        key = {"experiment": "main", "dataset": "import", "fit": "", "views": "all", "method": name, "n": 2}
        maker.add("consistency", "frac", 0.002, **key)
        maker.add("consistency_conflict", "frac", 0.01, 1.0, **key)
