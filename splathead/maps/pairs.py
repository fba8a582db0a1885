"""Stage 05: pairs of low-resolution input and high-resolution targets as depth PNGs, and how to load them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead.cameras import Camera, camera_yaw_elevation, load_cameras
from splathead.config import Config
from splathead.images import DepthEncoding, DepthMap, atomic_path, load_depth_png, load_maps, save_depth_png
from splathead.samples import Sample, list_samples, stage_folder, subject_folder, subject_info

TARGETS = ("render", "surface")
"""``render``: the Gaussians' own high-resolution depth; ``surface``: the true geometry, where it is known."""

TARGET_BITS = 16
MANIFEST_COLUMNS = (
    "subject", "split", "fit", "mode", "view", "yaw_deg", "elevation_deg", "targets", "lr_near_mm", "lr_far_mm", "lr_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One sample's input and targets."""

    sample: Sample
    lr: DepthMap  # decoded from the code of the asked-for bit depth
    targets: dict[str, DepthMap]  # "render" and, where truth exists, "surface"
    yaw_deg: float
    elevation_deg: float

    @property
    def camera(self) -> Camera:
        """High-resolution camera; the low-resolution one is ``lr.camera``."""
        return self.targets["render"].camera


def make_subject_pairs(config: Config, subject: str, out_dir: Path) -> None:
    """Write ``<variant>/<view>/{hr_render, hr_surface, lr_<n>bit}.png`` with sidecars for one subject.

    Variants rendered in ``pairs.lr_mode`` are used. Every PNG has its own near and far: minimum and maximum of its
    own valid depth. ``hr_surface.png`` is written where the subject has true depth.
    """
    source = stage_folder(config, 4) / subject
    variants = sorted(path.parent for path in source.glob(f"*-{config.pairs.lr_mode}/cameras.json"))
    if not variants:
        raise FileNotFoundError(f"{source}: no maps in mode {config.pairs.lr_mode}; run scripts/04_postprocess_maps.py first")
    for variant in variants:
        for camera in load_cameras(variant / "cameras.json"):
            folder, source_text = out_dir / variant.name / camera.name, f"{subject}/{variant.name}/{camera.name}"
            high = load_maps(variant / f"{camera.name}_hr.npz", ("depth", "mask"))
            low = load_maps(variant / f"{camera.name}_lr.npz", ("depth", "mask"))
            low_camera = camera.resized(low["depth"].shape[1])
            save_encoded(folder / "hr_render.png", high, camera, TARGET_BITS, f"{source_text}: splat depth")
            for bits in config.pairs.lr_bits:
                save_encoded(folder / f"lr_{bits}bit.png", low, low_camera, bits, f"{source_text}: splat depth, low resolution")
            truth = load_truth(config, subject, camera)
            if truth is not None:
                save_encoded(folder / "hr_surface.png", truth, camera, TARGET_BITS, f"{source_text}: true surface")


def save_encoded(path: Path, maps: dict[str, np.ndarray], camera: Camera, bits: int, source: str) -> None:
    """Write ``maps["depth"]`` [H, W] mm on ``maps["mask"]`` as a depth PNG with near/far from the map itself."""
    depth, mask = maps["depth"], maps["mask"].astype(bool)
    try:
        encoding = DepthEncoding.from_depth(depth, mask, bits, "mm")
        save_depth_png(path, DepthMap(depth, mask, encoding, camera, source))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def load_truth(config: Config, subject: str, camera: Camera) -> dict[str, np.ndarray] | None:
    """True ``depth`` [H, W] float32 mm and ``mask`` [H, W] bool of a map view; None for a subject without true geometry.

    A subject that has a ``truth`` folder must have every view in it, at the camera's size.
    """
    folder = subject_folder(config, subject) / "truth"
    if not folder.is_dir():
        return None
    path = folder / f"{camera.name}.npz"
    maps = load_maps(path, ("depth", "mask"))
    if maps["depth"].shape != (camera.height, camera.width):
        raise ValueError(f"{path}: true depth of shape {maps['depth'].shape}, expected {(camera.height, camera.width)}")
    return {"depth": maps["depth"], "mask": maps["mask"].astype(bool)}


def load_pair(config: Config, sample: Sample, *, lr_bits: int = 8, targets: tuple[str, ...] = TARGETS) -> Pair:
    """Read one sample of stage 05: the ``lr_bits`` input and those of ``targets`` that exist (``render`` always)."""
    folder = sample.path(config, 5)
    if lr_bits not in config.pairs.lr_bits:
        raise ValueError(f"{folder}: no {lr_bits}-bit input, pairs.lr_bits is {config.pairs.lr_bits}")
    paths = {target: folder / f"hr_{target}.png" for target in TARGETS if target in targets or target == "render"}
    found = {target: load_depth_png(path) for target, path in paths.items() if target == "render" or path.is_file()}
    lr = load_depth_png(folder / f"lr_{lr_bits}bit.png")
    return Pair(sample, lr, found, *camera_yaw_elevation(found["render"].camera))


def write_manifest(config: Config) -> Path:
    """Write ``manifest.csv`` of all samples in stage 05 from their sidecars; returns its path."""
    path = stage_folder(config, 5) / "manifest.csv"
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, MANIFEST_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for sample in list_samples(config, 5):
            writer.writerow(_manifest_row(config, sample))
    return path


def _manifest_row(config: Config, sample: Sample) -> dict[str, object]:
    folder = sample.path(config, 5)
    lr = load_depth_png(folder / f"lr_{config.pairs.lr_bits[0]}bit.png")
    yaw, elevation = camera_yaw_elevation(lr.camera)
    return {
        "subject": sample.subject, "split": subject_info(config, sample.subject)["split"], "fit": sample.fit,
        "mode": sample.mode, "view": sample.view, "yaw_deg": f"{yaw:.3f}", "elevation_deg": f"{elevation:.3f}",
        "targets": " ".join(target for target in TARGETS if (folder / f"hr_{target}.png").is_file()),
        "lr_near_mm": repr(lr.encoding.near), "lr_far_mm": repr(lr.encoding.far), "lr_pixels": int(lr.mask.sum()),
    }  # fmt: skip
