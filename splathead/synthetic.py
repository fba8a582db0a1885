"""Analytic depth pairs, made in milliseconds: for benchmarks, notebooks and tests of training. Never for results.

The *surface* is an ellipsoidal head with a nose, brows and band-limited relief. The *render* imitates splat
depth: 1.2 mm behind the surface plus smooth noise, which at low resolution is another draw than at high resolution.
"""

from __future__ import annotations

import cv2
import numpy as np

from splathead.cameras import Camera, orbit_camera
from splathead.config import Config
from splathead.images import DepthEncoding, DepthMap, save_depth_png, write_json
from splathead.samples import STAGE_NAMES, stage_folder

HEAD_AXES_MM = np.array([75.0, 110.0, 95.0])
SPLAT_OFFSET_MM = 1.2
SPLAT_NOISE_MM = 0.5
RELIEF_MM, WAVES = 0.4, 24
VARIANT = "regularised-classic"


def head_depth(camera: Camera, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """z-depth [H, W] float64 mm of an analytic head that differs by ``seed``, and its mask [H, W] bool."""
    rng = np.random.default_rng([seed, 1])
    axes = HEAD_AXES_MM * rng.uniform(0.9, 1.1, 3)
    directions, origin = camera.ray_directions() @ camera.rotation / axes, camera.position / axes
    a, b, c = (directions**2).sum(-1), directions @ origin, origin @ origin - 1
    discriminant = b**2 - a * c
    mask = discriminant > 0
    depth = (-b[mask] - np.sqrt(discriminant[mask])) / a[mask]
    x, y, z = points = (camera.position / axes + directions[mask] * depth[:, None]).T
    nose = 18 * np.exp(-((x / 0.16) ** 2) - ((y + 0.05) / rng.uniform(0.18, 0.26)) ** 2)
    brows = 5 * np.exp(-(((np.abs(x) - 0.32) / 0.2) ** 2) - ((y - 0.32) / 0.07) ** 2)
    waves = rng.normal(0, 14, (WAVES, 3))
    relief = RELIEF_MM * np.sqrt(2 / WAVES) * np.sin(waves @ points + rng.uniform(0, 6, (WAVES, 1))).sum(0)
    result = np.zeros(mask.shape)
    result[mask] = depth - np.clip(z, 0, 1) * (nose + brows) - relief
    return result, mask


def _smooth_noise(shape: tuple[int, int], rng: np.random.Generator, sigma_px: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigma_px)
    return noise / noise.std()


def synthetic_view(seed: int, yaw_deg: float = 0.0, size: int = 1024, scale: int = 4) -> dict[str, DepthMap]:
    """``surface`` and ``render`` at [size, size], ``lr_8bit`` and ``lr_16bit`` at [size / scale, size / scale]."""
    camera = orbit_camera(yaw_deg, 0.0, size)
    low_camera = camera.resized(size // scale)
    rng = np.random.default_rng([seed, 2, round(yaw_deg * 100) % 36000])
    sigma_px = 6.0 * size / 1024
    maps = {}

    def add(name: str, depth: np.ndarray, mask: np.ndarray, at: Camera, bits: int) -> None:
        depth = np.where(mask, depth, 0).astype(np.float32)
        encoding = DepthEncoding.from_depth(depth, mask, bits, "mm")
        decoded, _ = encoding.decode(encoding.encode(depth, mask))
        maps[name] = DepthMap(decoded, mask, encoding, at, f"synthetic head {seed}: {name}")

    surface, mask = head_depth(camera, seed)
    add("surface", surface, mask, camera, 16)
    splats = surface + SPLAT_OFFSET_MM + SPLAT_NOISE_MM * _smooth_noise(mask.shape, rng, sigma_px)
    add("render", splats, mask, camera, 16)
    low, low_mask = head_depth(low_camera, seed)
    low = low + SPLAT_OFFSET_MM + SPLAT_NOISE_MM * _smooth_noise(low.shape, rng, max(1.0, sigma_px / scale))
    for bits in (8, 16):
        add(f"lr_{bits}bit", low, low_mask, low_camera, bits)
    return maps


def write_synthetic_run(config: Config, splits: dict[str, int]) -> list[str]:
    """Write stages 01 and 05 of a run (marked as finished) with ``splits`` = number of heads per split; returns their names.

    Views are ``subjects.map_yaws`` at ``subjects.map_size``; what is there already is kept.
    """
    names = [(split, f"{split}_{index:02d}") for split, count in splits.items() for index in range(count)]
    for seed, (split, subject) in enumerate(names):
        info = stage_folder(config, 1) / subject / "subject.json"
        if info.is_file():
            continue
        for yaw in config.subjects.map_yaws:
            scale = config.subjects.map_size // config.render.lr_size
            maps = synthetic_view(seed, yaw, config.subjects.map_size, scale)
            folder = stage_folder(config, 5) / subject / VARIANT / maps["surface"].camera.name
            for name, depth_map in maps.items():
                save_depth_png(folder / (f"{name}.png" if name.startswith("lr_") else f"hr_{name}.png"), depth_map)
        write_json(info, {"name": subject, "split": split, "source": "synthetic"})
    for number in (1, 5):
        record = {"state": "done", "fingerprint": f"synthetic-{sorted(names)}", "stage": STAGE_NAMES[number], "seconds": 0.0}
        write_json(stage_folder(config, number) / "stage.json", {**record, "peak_memory_mib": 0.0, "inputs": {}})
    return [subject for _, subject in names]
