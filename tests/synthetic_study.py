"""Made-up results of a whole study, in the shape of every published file. For tests of tables, figures and paper only."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from splathead.metrics.mesh import CURVE_MM
from splathead.results import ResultRow, write_results

POOLED = "anny+ict"
FITS, TARGETS = {"vanilla": 1.0, "regularised": 0.6}, ("surface", "render")
METHODS = {
    "raw_splat": ("C", 2.2), "nearest": ("A", 1.9), "bilinear": ("A", 1.6), "bicubic": ("A", 1.65),
    "bilinear_offset": ("A", 1.2), "variational": ("A", 1.1), "edsr": ("A", 0.9), "edsr_icnr": ("A", 0.88),
    "srresnet": ("A", 0.86), "srresnet_icnr": ("A", 0.85), "swinir_plain": ("A", 40.0), "swinir": ("A", 0.95),
    "sgnet": ("B", 0.6), "dornet_nyu": ("B", 1.7), "unet": ("A", 0.62), "unet_normals": ("A", 0.64),
    "splat_surface": ("C", 0.9), "unet_guided": ("B", 0.5), "splathead": ("A", 0.45), "splathead_guided": ("B", 0.4),
    "unet_shape": ("A", 0.6), "unet_guided_shape": ("B", 0.48), "splathead_depth": ("A", 0.44),
    "unet_long": ("A", 0.55), "unet_longest": ("A", 0.53), "unet_guided_longest": ("B", 0.46),
    "splathead_long": ("A", 0.38), "splathead_long_guided": ("B", 0.33),
    "splathead_longest": ("A", 0.35), "splathead_longest_guided": ("B", 0.29),
    "splathead_mix_longer": ("A", 0.36), "splathead_mix_longer_guided": ("B", 0.3),
    "splathead_around_tuned": ("A", 0.37), "splathead_around_tuned_guided": ("B", 0.3),
    "splathead_norgb_guided": ("B", 0.41), "splathead_bicubic_guided": ("B", 0.42), "splathead_code_range_guided": ("B", 0.43),
}  # fmt: skip
"""method -> (track, made-up RMSE in mm)"""
PARAMETERS = {
    "edsr": 1_515_265, "edsr_icnr": 1_515_265, "srresnet": 1_528_724, "srresnet_icnr": 1_528_724, "swinir": 228_832,
    "swinir_plain": 228_832, "sgnet": 9_215_821, "unet": 7_765_409, "unet_normals": 7_774_820,
    "unet_guided": 7_768_001, "splathead": 3_070_267, "splathead_guided": 3_070_267,
    "unet_shape": 7_765_409, "unet_guided_shape": 7_768_001, "splathead_depth": 3_035_131,
    "unet_long": 7_765_409, "unet_longest": 7_765_409, "unet_guided_longest": 7_768_001,
    "splathead_long": 3_070_267, "splathead_long_guided": 3_070_267,
    "splathead_longest": 3_070_267, "splathead_longest_guided": 3_070_267,
    "splathead_mix_longer": 3_070_267, "splathead_mix_longer_guided": 3_070_267,
    "splathead_around_tuned": 3_070_267, "splathead_around_tuned_guided": 3_070_267,
    "splathead_norgb_guided": 3_068_539, "splathead_bicubic_guided": 3_070_267, "splathead_code_range_guided": 3_070_267,
}  # fmt: skip
REFERENCES = (
    "bilinear", "bicubic", "bilinear_offset", "unet", "srresnet", "unet_guided", "unet_shape", "unet_guided_shape", "unet_long",
    "unet_longest", "unet_guided_longest", "splathead", "splathead_guided", "splathead_longest", "splathead_longest_guided",
    "splathead_mix_longer", "splathead_mix_longer_guided",
)  # fmt: skip
DEGRADATIONS = ("bicubic", "bicubic_noise", "bicubic_8bit", "16bit", "8bit", "bicubic_antialiased", "area")
BUDGET = (
    "splat_1024", "splat_1024_unbiased", "splat_normals", "splat_256_bilinear", "splat_256_8bit_bilinear",
    "truth_area_256_bilinear", "truth_8bit_1024", "truth_area_256_8bit_bilinear",
)  # fmt: skip
COMMON = {
    "raster_mode": "classic", "degradation_test": "render", "split": "test", "n": 24, "seed": 0, "device": "made-up",
    "config_hash": "0",
}  # fmt: skip
INTERIOR = {"dataset": POOLED, "views": "all", "zone": "interior", "track": "A"}


class _Maker:
    """Rows with a value near the one asked for and an interval around it, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rows: list[ResultRow] = []

    def add(self, metric: str, unit: str, value: float, **columns: object) -> None:
        high = 1.0 if unit == "frac" else np.inf
        value = float(np.clip(value * self.random.uniform(0.97, 1.03), -high, high))
        spread = 0.04 * abs(value)
        interval = {"ci_low": value - spread, "ci_high": min(value + spread, high)}
        self.rows.append(ResultRow(metric=metric, unit=unit, value=value, **interval, **{**COMMON, **columns}))

    def pixels(self, error: float, **key: object) -> None:
        """Every pixel measure of a method whose RMSE is ``error``."""
        for metric, factor in (("rmse", 1.0), ("mae", 0.7), ("bias", 0.5), ("phase_spread", 0.05)):
            self.add(metric, "mm", factor * error, **key)
        self.add("psnr", "dB", 45 - 8 * np.log10(error), **key)
        self.add("normal_error", "deg", min(10 * error, 80), **key)
        for metric, share in (("ssim", 0.95), ("coverage", 0.99), ("interval_violation", 0.3)):
            self.add(metric, "frac", share, **key)


def write_study(folder: Path, seed: int = 0, leave_out: tuple[str, ...] = ()) -> None:
    """Write ``<folder>/paper_<kind>.csv`` of every kind but ``leave_out``, and splits.json."""
    makers = {
        "depth": _depth, "mesh": _mesh, "training": _training, "error_budget": _budget, "cross_degradation": _cross,
        "uncertainty": _uncertainty, "normals": _normals, "bits": _bits, "f_score_audit": _audit, "long_depth": _long,
        "long_training": _long_training, "around_depth": _around, "scan_depth": _scan,
        "capture_depth": _capture, "capture_fused": _fused, "lam_depth": _lam,
    }  # fmt: skip
    for kind, fill in makers.items():
        if kind not in leave_out:
            maker = _Maker(seed)
            fill(maker)
            write_results(folder / f"paper_{kind}.csv", maker.rows)
    splits = {split: [f"{split}_{i}" for i in range(count)] for split, count in (("train", 160), ("val", 16), ("test", 24))}
    (folder / "splits.json").write_text(json.dumps({"paper": splits | {"test_mesh_sha256": {}}}))


def _places(target: str, datasets: tuple[str, ...] = ("ict", "anny", POOLED)) -> Iterator[tuple[dict, float]]:
    for dataset in datasets:
        for fit, factor in FITS.items():
            for views in ("all", "near_frontal"):
                for zone, worse in (("interior", 1.0), ("silhouette", 3.0), ("full", 1.8)):
                    place = {"dataset": dataset, "fit": fit, "target": target, "views": views, "zone": zone}
                    yield {"experiment": "main", **place}, factor * worse * (1.0 if target == "surface" else 0.8)


def _methods(target: str) -> Iterator[tuple[dict, float]]:
    for name, (track, error) in METHODS.items():
        if name not in ("raw_splat", "splat_surface") or target == "surface":
            yield {"method": name, "track": track}, error


def _depth(maker: _Maker) -> None:
    for target in TARGETS:
        for place, level in _places(target):
            for method, error in _methods(target):
                for seed in (0, 1, 2) if method["method"] == "unet" else (0,):
                    maker.pixels(level * error, **place, **method, seed=seed)
                for base in REFERENCES if method["method"] in PARAMETERS and place["zone"] == "interior" else ():
                    if base != method["method"]:
                        difference = level * (error - METHODS[base][1])
                        key = place | method | {"method_b": base}
                        maker.add("rmse", "mm", difference, **key)
                        maker.add("psnr", "dB", -3 * difference, **key)
                        maker.add("normal_error", "deg", 5 * difference, **key)


def _mesh(maker: _Maker) -> None:
    for target in TARGETS:
        for place, level in _places(target, (POOLED,)):
            if place["zone"] != "interior":
                continue
            for method, error in _methods(target):
                key = place | method
                for threshold in CURVE_MM:
                    maker.add("f_score", "frac", 1 - np.exp(-threshold / (level * error)), threshold=f"{threshold:g}mm", **key)
                maker.add("f_score_auc", "frac", np.exp(-0.4 * level * error), threshold="2mm", **key)
                maker.add("chamfer_l1", "mm", 0.6 * level * error, **key)
                maker.add("hausdorff_95", "mm", 2 * level * error, **key)
                for base in REFERENCES[:3] if method["method"] in PARAMETERS else ():
                    maker.add("f_score", "frac", 0.1, threshold="0.5mm", method_b=base, **key)


def _training(maker: _Maker) -> None:
    fixed = {"dataset": "ict+anny", "degradation_train": "8bit", "degradation_test": "", "raster_mode": ""}
    for name, count in PARAMETERS.items():
        for target in TARGETS:
            key = fixed | {"experiment": "training", "method": name, "target": target, "split": "train"}
            maker.rows.append(ResultRow(metric="parameters", unit="count", value=count, **{**COMMON, **key}))
            maker.add("steps", "count", 480 if name == "sgnet" else 2000, **key)
            maker.add("seconds", "s", 900, **key)
            maker.add("throughput", "1/s", 60, **key)
            maker.add("peak_memory", "MiB", 5000, **key)
            apply = key | {"experiment": "inference", "split": "", "n": None}
            maker.add("seconds", "s", 1e-9 * count + 0.001, **apply)
            maker.add("peak_memory", "MiB", 500, **apply)


def _budget(maker: _Maker) -> None:
    for fit, level in (("vanilla", 2.0), ("regularised", 1.0)):
        for mode, factor in (("classic", 1.0), ("antialiased", 0.9)):
            key = INTERIOR | {"experiment": "error_budget", "fit": fit, "raster_mode": mode, "target": "surface", "track": ""}
            for index, name in enumerate(BUDGET):
                error = 0.25 if name.startswith("truth") else level * factor * (1.5 - 0.1 * index)
                for metric in ("rmse", "bias") if name != "splat_normals" else ():
                    maker.add(metric, "mm", error, **key, method=name)
                maker.add("normal_error", "deg", 10 * error, **key, method=name)
            maker.add("depth_std", "mm", 3 * level, **key, method="splat_1024")
            for name in ("splat_256", "splat_256_8bit"):
                maker.add("interval_violation", "frac", 0.4 * level, **(key | {"method": name, "target": "render"}))


def _cross(maker: _Maker) -> None:
    for fit in FITS:
        for tested in DEGRADATIONS:
            key = INTERIOR | {"experiment": "cross_degradation", "fit": fit, "target": "render", "views": "near_frontal"}
            key["degradation_test"] = tested
            maker.add("psnr", "dB", 42, method="bilinear", **key)
            for trained in DEGRADATIONS:
                drop = 2 + 3 * ("noise" in trained + tested) if trained != tested else 0
                maker.add("psnr", "dB", 48 - drop, method="unet", degradation_train=trained, **key)
            on_surface = key | {"target": "surface"}
            maker.add("psnr", "dB", 40, method="bilinear", **on_surface)
            maker.add("psnr", "dB", 44, method="splathead", degradation_train="8bit", **on_surface)
            maker.add("psnr", "dB", 43, method="splathead_mix", degradation_train="mixture", **on_surface)


def _uncertainty(maker: _Maker) -> None:
    for fit, zone in itertools.product(FITS, ("interior", "silhouette")):
        key = INTERIOR | {"experiment": "uncertainty", "fit": fit, "zone": zone, "target": "surface", "method": "splathead"}
        for level in (50, 80, 90, 95):
            maker.add(f"interval_coverage_{level}", "frac", level / 100, **key)
        for metric, unit in (("ause_rmse", "frac"), ("ause_mae", "frac"), ("nll", "nat")):
            maker.add(metric, unit, 0.3, **key)


def _normals(maker: _Maker) -> None:
    sources = {"none": 0.6, "splat": 0.7, "splat_bilateral": 0.65, "surface": 0.55}
    for target, names in (("surface", tuple(sources)), ("render", ("none", "splat"))):
        for fit, views in itertools.product(FITS, ("all", "near_frontal")):
            key = INTERIOR | {"experiment": "normals", "fit": fit, "target": target, "views": views}
            for name in names:
                maker.pixels(sources[name], **key, method=f"unet_normals_{name}")
            maker.add("mae", "mm", 0.07, **key, method="unet_normals_splat", method_b="unet_normals_none")


def _bits(maker: _Maker) -> None:
    for target, depths in (("surface", (6, 7, 8, 9, 10, 16)), ("render", (8, 16))):
        for fit, level in FITS.items():
            for bits, views in itertools.product(depths, ("all", "near_frontal")):
                key = INTERIOR | {"experiment": "bits", "fit": fit, "target": target, "views": views}
                key |= {"degradation_test": f"{bits}bit"}
                error = level * (1 + 2.0 ** (6 - bits))
                maker.pixels(1.5 * error, **key, method="bilinear")
                maker.pixels(0.6 * error, **key, method="unet", degradation_train=f"{bits}bit")


def _audit(maker: _Maker) -> None:
    for fit in FITS:
        for method, error in _methods("render"):
            for setting, thresholds in (("a", (0.01, 0.005)), ("b", (0.001, 0.0005))):
                key = {**method, "dataset": POOLED, "fit": fit, "target": "render", "views": "near_frontal", "zone": "full"}
                for value in thresholds:
                    share = 1 - np.exp(-value * 1000 / error)
                    maker.add(
                        "f_score", "frac", share, **key, experiment=f"f_score_audit_{setting}", threshold=f"{value:g}frac"
                    )


def _long(maker: _Maker) -> None:
    for fit in FITS:
        maker.pixels(0.5, **INTERIOR, experiment="main", fit=fit, target="render", method="unet_epochs")


def _around(maker: _Maker) -> None:
    for fit in FITS:
        for method, error in _methods("surface"):
            maker.pixels(1.5 * error, **INTERIOR | method, experiment="main", fit=fit, target="surface")
        pair = {"method": "splathead_around_tuned_guided", "track": "B", "method_b": "splathead_mix_longer_guided"}
        maker.add("psnr", "dB", 2.0, **INTERIOR | pair, experiment="main", fit=fit, target="surface")


def _long_training(maker: _Maker) -> None:
    key = {"dataset": "ict+anny", "degradation_train": "8bit", "degradation_test": "", "raster_mode": "", "split": "train"}
    maker.add("steps", "count", 14_000, **key, experiment="training", method="unet_epochs", target="render")


def _scan(maker: _Maker) -> None:
    for fit in FITS:
        for target in TARGETS:
            key = {
                "experiment": "main",
                "dataset": "scan",
                "fit": fit,
                "target": target,
                "views": "all",
                "zone": "interior",
                "n": 1,
            }
            for method, error in _methods(target):
                maker.add("rmse", "frac", 0.003 * error, **key, **method)
                for threshold in ("0.1%diag", "0.5%diag"):
                    maker.add("f_score", "frac", 0.5, **key, **method, threshold=threshold)


def _consistency(maker: _Maker, **columns: object) -> None:
    for name in ("raw_splat", "bilinear", "unet"):
        target = "surface" if name == "unet" and columns["experiment"] == "main" else ""  # as networks have
        key = {"views": "all", "method": name, "track": METHODS[name][0], "target": target, "n": 1, **columns}
        maker.add("consistency", "frac", 0.002, **key)
        maker.add("consistency_conflict", "frac", 0.01, **key)


def _capture(maker: _Maker) -> None:
    for fit in FITS:
        _consistency(maker, experiment="main", dataset="capture", fit=fit)


def _fused(maker: _Maker) -> None:
    _consistency(maker, experiment="fused", dataset="capture", fit="regularised")


def _lam(maker: _Maker) -> None:
    _consistency(maker, experiment="main", dataset="import")
