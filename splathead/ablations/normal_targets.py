"""Normals to learn that take long to make: smoothed splat normals and DSINE's, made once for all training views.

They lie in stage 10's folder, ``normal_targets/<source>/<subject>/<variant>/<view>.npz`` (``normal`` [H, W, 3] int8, times 127,
our camera axes, 0 = unknown); :func:`splathead.maps.view_maps.load_normal_target` reads them there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from splathead.ablations.networks import Ablation
from splathead.cameras import Camera, load_cameras
from splathead.config import Config
from splathead.devices import compute_device, gpu_count, network_jobs
from splathead.images import load_maps, save_maps
from splathead.maps.bilateral import joint_bilateral_normals
from splathead.maps.render_subject import NORMAL_SCALE, pack_normals
from splathead.maps.view_maps import NORMAL_TARGETS_FOLDER
from splathead.normals_dsine import dsine_fingerprint, dsine_normals, find_dsine, load_dsine
from splathead.samples import STAGE_NAMES, Sample
from splathead.stages import Stage, finished_fingerprint

MakeNormals = Callable[[Mapping[str, np.ndarray], Camera], np.ndarray]
MAP_NAMES = ("normal", "rgb", "mask")


def prepare_normal_targets(ablation: Ablation, sources: Sequence[str]) -> None:
    """Make the normals of every training view for those of ``sources`` that need it; finished heads are skipped, and with
    ``config.finished_only`` everything that is not made yet.

    Raises RuntimeError when stage 04 is not finished, TimeLimitReached when ``--time_limit`` ended it.
    """
    config, gpus = ablation.config, gpu_count(ablation.config.device)
    gpu_workers = network_jobs(config.device, ablation.jobs) if gpus else 1
    if "splat_bilateral" in sources:
        _prepare(ablation, "splat_bilateral", {}, functools.partial(_bilateral, config), ablation.jobs, 0)
    if "dsine" in sources:
        checkout = find_dsine(config.ablations.dsine_dir)
        work = functools.partial(_dsine, config, checkout)
        _prepare(ablation, "dsine", {"weights": dsine_fingerprint(checkout)}, work, gpu_workers, gpus)


def _prepare(ablation: Ablation, source: str, settings: dict, work: Callable, jobs: int, gpus: int) -> None:
    config = ablation.config
    items: dict[str, list[Sample]] = {}
    for sample in ablation.training_samples()["train"]:
        items.setdefault(f"{sample.subject}/{sample.variant}", []).append(sample)
    views = {item: sorted(sample.view for sample in samples) for item, samples in items.items()}
    extra = {"upstream": finished_fingerprint(config.run_folder, STAGE_NAMES[4]), "items": views}
    parent = ablation.folder / NORMAL_TARGETS_FOLDER
    part = Stage.open(parent, source, settings, extra=extra, force=ablation.force)
    part.record["inputs"] = {STAGE_NAMES[4]: extra["upstream"]}
    if not part.finished:
        if config.finished_only:  # what learns them is not trained either
            return
        part.run_items(functools.partial(work, items), items, jobs=jobs, unit="head", gpus=gpus)
        part.close()
    ablation.parts.append(part)


def _bilateral(config: Config, items: Mapping[str, Sequence[Sample]], item: str, out_dir: Path) -> None:
    _write(config, items[item], out_dir, lambda maps, _camera: bilateral_normals(maps))


def _dsine(config: Config, checkout: Path, items: Mapping[str, Sequence[Sample]], item: str, out_dir: Path) -> None:
    device = compute_device(config.device)
    network = load_dsine(checkout, device)
    _write(config, items[item], out_dir, lambda maps, camera: dsine_normals(network, maps["rgb"], camera, device))


def _write(config: Config, samples: Sequence[Sample], out_dir: Path, make: MakeNormals) -> None:
    cameras = {camera.name: camera for camera in load_cameras(samples[0].path(config, 4).parent / "cameras.json")}
    for sample in samples:
        maps = load_maps(sample.path(config, 4, "_hr.npz"), MAP_NAMES)
        mask = maps["mask"].astype(bool)
        normals = pack_normals(make(maps, cameras[sample.view]) * mask[..., None])
        save_maps(out_dir / f"{sample.view}.npz", {"alpha": mask.astype(np.float16), "normal": normals})


def bilateral_normals(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Splat normals [H, W, 3] float32 of a view of stage 04, smoothed within its mask as in the published study."""
    mask = maps["mask"].astype(bool)
    box = np.ix_(mask.any(1), mask.any(0))
    normals = maps["normal"][box] / np.float32(NORMAL_SCALE)
    known = np.any(normals != 0, axis=2) & mask[box]
    smooth = np.zeros((*mask.shape, 3), np.float32)
    smooth[box] = joint_bilateral_normals(normals, known, maps["rgb"][box])
    return smooth
