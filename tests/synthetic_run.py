"""A run folder as stages 01 to 08 leave it, made in a second from an analytic head. For tests of fusion and report."""

from __future__ import annotations

import cv2
import numpy as np
import trimesh

from splathead.cameras import orbit_camera, save_cameras
from splathead.config import Config
from splathead.images import DepthEncoding, DepthMap, load_depth_png, save_depth_png, save_maps, write_json
from splathead.maps.pairs import make_subject_pairs
from splathead.raycast import Lighting, RayCaster, shaded_rgba
from splathead.results import ResultRow, write_results
from splathead.samples import STAGE_NAMES, list_samples, predictions_folder, stage_folder
from splathead.subjects.base import HeadMesh

METHODS = {"raw_splat": (1.3, 0.45), "bilinear": (1.4, 0.6), "bilinear_offset": (0.05, 0.6), "unet": (0.05, 0.2)}
"""method -> (bias, smooth error) in mm"""


def analytic_head(seed: int, subdivisions: int = 6) -> HeadMesh:
    """An ellipsoid with a nose, eyes, lips and bumps: enough of a head to look at."""
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    x, y, z = ball.vertices.T
    radius = 1 + 0.05 * np.cos(3 * y + rng.uniform(-0.3, 0.3))
    radius = radius + 0.22 * np.exp(-((x / 0.13) ** 2) - ((y + 0.05) / 0.22) ** 2) * (z > 0)
    for side in (-1, 1):
        radius -= 0.08 * np.exp(-(((x - 0.33 * side) / 0.16) ** 2) - ((y - 0.2) / 0.11) ** 2) * (z > 0)
    lips = np.exp(-((x / 0.28) ** 2) - ((y + 0.45) / 0.06) ** 2) * (z > 0)
    waves = rng.normal(0, 1, (40, 3)) * 12
    bumps = np.sin(ball.vertices @ waves.T + rng.uniform(0, 6, 40)).mean(1)
    vertices = ball.vertices * (radius + 0.06 * lips + 0.01 * bumps)[:, None] * [78.0, 112.0, 92.0]
    skin = np.array([0.80, 0.58, 0.47]) + 0.08 * bumps[:, None]
    colours = np.where((lips > 0.3)[:, None], [0.72, 0.33, 0.33], np.where((y > 0.62)[:, None], [0.25, 0.17, 0.12], skin))
    return HeadMesh(vertices, ball.faces, np.clip(colours, 0, 1))


def smooth_noise(shape: tuple[int, int], rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigma)
    return noise / noise.std()


def make_run(config: Config, *, subjects: int = 2, subdivisions: int = 6) -> None:
    """Write stages 01 to 06 (and records that say so); the last two thirds of the subjects are test subjects."""
    for index in range(subjects):
        head = analytic_head(index, subdivisions)
        _write_subject(config, f"head_{index:03d}", "test" if index >= subjects // 3 else "train", head, index)
    for number in range(1, 9):
        folder = stage_folder(config, number)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"state": "done", "fingerprint": f"synthetic{number}", "stage": STAGE_NAMES[number], "inputs": {}}
        write_json(folder / "stage.json", {**record, "seconds": 1.5 * number, "peak_memory_mib": 100.0 * number})
    for method in METHODS:
        settings = {} if method == "raw_splat" else {"lr_input": "8bit"}
        write_json(predictions_folder(config) / method / "stage.json", {"state": "done", "inputs": {}, "settings": settings})


def _write_subject(config: Config, subject: str, split: str, head: HeadMesh, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = stage_folder(config, 1) / subject
    folder.mkdir(parents=True)
    diagonal = float(np.linalg.norm(head.extent_mm))
    info = {"name": subject, "identity": subject, "split": split, "scale": "metric", "source": "synthetic"}
    write_json(folder / "subject.json", {**info, "diagonal_mm": diagonal})
    trimesh.Trimesh(head.vertices, head.faces, vertex_colors=head.colours, process=False).export(folder / "mesh.ply")
    cameras = [orbit_camera(yaw, 0, config.subjects.map_size) for yaw in config.subjects.map_yaws]
    maps = stage_folder(config, 4) / subject / f"regularised-{config.pairs.lr_mode}"
    maps.mkdir(parents=True)
    save_cameras(maps / "cameras.json", cameras)
    caster, lighting = RayCaster(head), Lighting.sample(seed)
    truths = {}
    for camera in cameras:
        hits = caster.cast(camera)
        depth, mask = hits.depth_map, hits.mask
        truths[camera.name] = depth
        maps_of_truth = {"alpha": mask.astype(np.float16), "mask": mask, "depth": depth, "normal": hits.normal_map()}
        save_maps(folder / "truth" / f"{camera.name}.npz", maps_of_truth)
        rgba = shaded_rgba(caster, camera, lighting)
        splat = np.where(mask, depth + 1.3 + 0.45 * smooth_noise(depth.shape, rng, camera.width / 200), 0).astype(np.float32)
        for suffix, size in (("hr", camera.width), ("lr", config.render.lr_size)):
            step = camera.width // size
            view = {
                "alpha": (rgba[::step, ::step, 3] / 255).astype(np.float16), "mask": mask[::step, ::step],
                "rgb": (rgba[::step, ::step, :3] * (rgba[::step, ::step, 3:] / 255.0)).astype(np.uint8),
                "depth": splat[::step, ::step],
            }  # fmt: skip
            view["mask"] &= view["alpha"] > 0.5
            save_maps(maps / f"{camera.name}_{suffix}.npz", view)
    make_subject_pairs(config, subject, stage_folder(config, 5) / subject)
    for sample in [s for s in list_samples(config, 5) if s.subject == subject]:
        _write_predictions(config, sample, truths[sample.view], rng)


def _write_predictions(config: Config, sample, truth: np.ndarray, rng: np.random.Generator) -> None:
    render = load_depth_png(sample.path(config, 5) / "hr_render.png")
    mask = (truth > 0) & render.mask
    for method, (bias, error) in METHODS.items():
        noise = smooth_noise(truth.shape, rng, truth.shape[0] / (60 if "bilinear" in method else 200))
        depth = np.where(mask, truth + bias + error * noise, 0).astype(np.float32)
        encoding = DepthEncoding.from_depth(depth, mask, 16, "mm")
        depth_map = DepthMap(depth, mask, encoding, render.camera, f"synthetic {method}")
        save_depth_png(sample.prediction_path(config, method), depth_map)


TABLE_METHODS = ("raw_splat", "nearest", "bilinear", "bicubic", "bilinear_offset", "unet")


def result_rows(methods: tuple[str, ...] = TABLE_METHODS) -> list[ResultRow]:
    """Made-up rows of stages 02, 07, 08 and 11 with every table's columns."""
    rng = np.random.default_rng(0)
    common = {"dataset": "synthetic", "raster_mode": "classic", "split": "test", "n": 6, "seed": 0, "config_hash": "made-up"}
    rows: list[ResultRow] = []

    def add(low: float, high: float, metric: str, unit: str, **columns) -> None:
        value = float(rng.uniform(low, high))
        spread = 0.08 * (high - low)
        interval = {"ci_low": value - spread, "ci_high": value + spread}
        rows.append(ResultRow(metric=metric, unit=unit, value=value, **interval, **{**common, **columns}))

    for fit in ("vanilla", "regularised"):
        heldout = (("psnr", "dB", 33, 38), ("ssim", "frac", 0.9, 0.97), ("depth_std", "mm", 1, 3), ("seconds", "s", 5, 9))
        for metric, unit, low, high in heldout:
            views = "held_out" if metric in ("psnr", "ssim") else ""
            add(low, high, metric, unit, experiment="reconstruction", fit=fit, views=views, method="3dgs")
        for target in ("surface", "render"):
            for views in ("all", "near_frontal"):
                for index, method in enumerate(methods):
                    _method_rows(add, 1.6 - 0.2 * index, experiment="main", fit=fit, target=target, views=views, method=method)
        for method in ("raw_splat", "bilinear", "unet"):
            key = {"experiment": "fused", "fit": fit, "target": "surface", "method": method}
            add(0.3, 1.2, "chamfer_l1", "mm", **key)
            add(1.0, 3.0, "hausdorff_95", "mm", **key)
            add(0.9, 0.98, "normal_consistency", "frac", **key)
            for threshold in ("0.25mm", "0.5mm", "1mm"):
                add(0.4, 0.9, "f_score", "frac", threshold=threshold, **key)
    return rows


def _method_rows(add, level: float, **key) -> None:
    track = {} if key["method"] == "raw_splat" else {"track": "A"}
    for zone, factor in (("interior", 1.0), ("silhouette", 3.0), ("full", 1.8)):
        for metric, unit, low, high in (
            ("rmse", "mm", level * factor, level * factor * 1.2), ("mae", "mm", 0.7 * level, 0.8 * level),
            ("bias", "mm", -0.2, level), ("psnr", "dB", 40, 50), ("normal_error", "deg", 5 * level, 12 * level),
            ("ssim", "frac", 0.9, 0.99), ("coverage", "frac", 0.97, 0.99), ("interval_violation", "frac", 0.1, 0.3),
            ("phase_spread", "mm", 0.01, 0.1), ("chamfer_l1", "mm", 0.2, 1.0), ("hausdorff_95", "mm", 1, 3),
            ("normal_consistency", "frac", 0.9, 0.98),
        ):  # fmt: skip
            add(low, high, metric, unit, zone=zone, **track, **key)
        for step in range(1, 41):
            threshold = 0.05 * step
            centre = 1 - np.exp(-threshold / level)
            for metric in ("f_score", "precision", "recall"):
                add(0.95 * centre, centre, metric, "frac", zone=zone, threshold=f"{threshold:.6g}mm", **track, **key)
    if key["method"] == "unet":
        for other in ("bilinear", "bilinear_offset"):
            for metric, unit in (("rmse", "mm"), ("mae", "mm"), ("bias", "mm"), ("psnr", "dB"), ("normal_error", "deg")):
                add(-0.6, -0.1, metric, unit, zone="interior", method_b=other, **track, **key)


def write_result_files(config: Config) -> None:
    """Write the made-up rows where stages 02, 07, 08 and 11 would."""
    rows = result_rows()
    mesh_metrics = ("f_score", "precision", "recall", "chamfer_l1", "hausdorff_95", "normal_consistency")
    write_results(stage_folder(config, 2) / "heldout.csv", [row for row in rows if row.experiment == "reconstruction"])
    main = [row for row in rows if row.experiment == "main"]
    write_results(stage_folder(config, 7) / "depth.csv", [row for row in main if row.metric not in mesh_metrics])
    write_results(stage_folder(config, 8) / "mesh.csv", [row for row in main if row.metric in mesh_metrics])
    write_results(stage_folder(config, 11) / "fused.csv", [row for row in rows if row.experiment == "fused"])
