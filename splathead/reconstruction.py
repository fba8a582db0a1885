"""Stage 02: every subject's Gaussians, fitted, imported or made by FaceLift, and how well they show held-out views."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from splathead.config import Config, ReconstructConfig
from splathead.devices import gpu_count, gpu_jobs, mps_advice
from splathead.images import write_json
from splathead.metrics.statistics import Estimate, bootstrap_mean
from splathead.ply import load_gaussians_ply, save_gaussians_ply
from splathead.results import ResultRow, device_name, git_state, write_results
from splathead.samples import STAGE_NAMES, list_subjects, stage_folder
from splathead.stages import Stage, fingerprint, fingerprint_path

log = logging.getLogger(__name__)

HELD_OUT_NAME = "heldout.json"
FIT_NAME = "reconstruction.json"
SUMMARY_UNITS = {"psnr": "dB", "ssim": "frac", "lpips": "frac", "gaussians": "count", "seconds": "s"}


def reconstruct(config: Config, *, jobs: int, force: bool = False, limit: int = 0) -> list[str]:
    """Run stage 02 as ``config.reconstruct.source`` says; returns lines that say what was made."""
    make = {"fit": _fit_all, "import": _import_all, "facelift": _facelift_all}[config.reconstruct.source]
    stage, count = make(config, jobs, force, limit)
    lines = [f"{stage.name}: {count} reconstructions in {stage.folder}"]
    if config.reconstruct.source == "fit":
        lines += write_held_out(config, limit)
    stage.close()
    return lines


def fit_settings(settings: ReconstructConfig) -> dict:
    """What the fits depend on: ``settings`` without the field of a preset (of its name) that is not made. Fits without it, from
    before there was such a preset, stay finished."""
    found = asdict(settings)
    for preset in ("few_views", "few_gaussians"):
        if preset not in settings.fit.presets:
            del found["fit"][preset]
    return found


def _fit_all(config: Config, jobs: int, force: bool, limit: int) -> tuple[Stage, int]:
    items = [f"{name}/{preset}" for name in list_subjects(config, limit=limit) for preset in config.reconstruct.fit.presets]
    given, extra = [_given_fit(config, item) for item in items], config.render.backend
    if config.reconstruct.fits:
        if not any(given):
            raise ValueError(f"reconstruct.fits: {config.reconstruct.fits}: no {items[0]}/gaussians.ply nor any other fit")
        extra = [extra, *(fingerprint_path(fit / name) for fit in given if fit for name in (FIT_NAME, "gaussians.ply"))]
    settings, inputs = fit_settings(config.reconstruct), [STAGE_NAMES[1]]
    stage = Stage.open(config.run_folder, STAGE_NAMES[2], settings, inputs, extra=extra, force=force, seed=config.seed)
    work, jobs = functools.partial(_fit_item, config), gpu_jobs(config.device, jobs)
    if len(items) > jobs and (advice := mps_advice(config.device, jobs)):
        print(advice, flush=True)
    stage.run_items(work, items, jobs=jobs, unit="fit", gpus=gpu_count(config.device))
    return stage, len(items)


def _import_all(config: Config, jobs: int, force: bool, limit: int) -> tuple[Stage, int]:
    from splathead.subjects.importer import find_splats, import_subject

    if not config.reconstruct.import_path:
        raise ValueError("reconstruct.import_path is empty, expected a splat file (PLY, .splat, .spz) or a folder of them")
    path = Path(config.reconstruct.import_path)
    files = dict(list(find_splats(path).items())[: limit or None])
    stage = _open_without_subjects(config, path, force)
    stage.run_items(functools.partial(_import_item, import_subject, files, config), files, jobs=jobs, unit="file")
    return stage, len(files)


def _import_item(import_subject: object, files: dict[str, Path], config: Config, name: str, out_dir: Path) -> None:
    import_subject(files[name], out_dir, config, name=name)


def _facelift_all(config: Config, jobs: int, force: bool, limit: int) -> tuple[Stage, int]:
    from splathead.photos.collect import kept_photos
    from splathead.subjects.facelift import facelift_subject, find_photos, run_facelift

    if config.subjects.source == "photos":
        photos = kept_photos(config)
        extra = [config.subjects.map_yaws, config.subjects.map_size]
        settings, inputs = fit_settings(config.reconstruct), [STAGE_NAMES[1]]
        stage = Stage.open(config.run_folder, STAGE_NAMES[2], settings, inputs, extra=extra, force=force, seed=config.seed)
    elif not config.subjects.path:
        raise ValueError("subjects.path is empty, expected a photo or a folder of photos")
    else:
        path = Path(config.subjects.path)
        photos, stage = find_photos(path), _open_without_subjects(config, path, force)
    photos = dict(list(photos.items())[: limit or None])
    results = run_facelift(photos, stage.folder / ".facelift", config.reconstruct)
    for name in photos:  # one after another: FaceLift did the work
        make = functools.partial(_facelift_item, facelift_subject, photos[name], results[name], config)
        stage.run_items(make, [name], unit="photo")
    return stage, len(photos)


def _facelift_item(facelift_subject: object, photo: Path, ply: Path, config: Config, name: str, out_dir: Path) -> None:
    facelift_subject(photo, ply, out_dir, config, name=name)


def _open_without_subjects(config: Config, path: Path, force: bool) -> Stage:
    """Stage 02 where it makes the subjects itself, from the user's files at ``path``."""
    extra = [fingerprint_path(path), config.subjects.map_yaws, config.subjects.map_size]
    settings = fit_settings(config.reconstruct)
    return Stage.open(config.run_folder, STAGE_NAMES[2], settings, extra=extra, force=force, seed=config.seed)


def _fit_item(config: Config, item: str, out_dir: Path) -> None:
    """Fit, or take the fit that is given; then score on the held-out views."""
    given = _given_fit(config, item)
    if given:
        _take_fit(given, config.reconstruct.fit.iterations, out_dir)
    else:
        fit_subject(config, item, out_dir)
    write_json(out_dir / HELD_OUT_NAME, held_out_scores(config, item.split("/")[0], out_dir / "gaussians.ply"))


def _given_fit(config: Config, item: str) -> Path | None:
    """Folder of another run's fit of ``<subject>/<preset>``, where ``reconstruct.fits`` has one."""
    folder = Path(config.reconstruct.fits) / item
    return folder if config.reconstruct.fits and (folder / "gaussians.ply").is_file() else None


def _take_fit(folder: Path, iterations: int, out_dir: Path) -> None:
    """Copy another run's fit, but for its time, which may be another machine's; ValueError for one of another preset or length
    than its place and this run's settings say."""
    record, wanted = json.loads((folder / FIT_NAME).read_text()), {"fit": folder.name, "iterations": iterations}
    found = {key: record.get(key) for key in wanted}
    if found != wanted:
        raise ValueError(f"{folder / FIT_NAME}: {found}, expected {wanted}")
    shutil.copy(folder / "gaussians.ply", out_dir / "gaussians.ply")
    write_json(out_dir / FIT_NAME, {key: value for key, value in record.items() if key != "seconds"})


def fit_subject(config: Config, item: str, out_dir: Path) -> None:
    """Fit one ``<subject>/<preset>`` to the preset's fit views: gaussians.ply and reconstruction.json.

    Reads images, cameras and points.npz, never the true mesh and never a held-out image.
    """
    from splathead.devices import raster_device
    from splathead.fitting.optimise import fit_views, preset_cameras, preset_config
    from splathead.subjects.writer import load_subject

    name, preset = item.split("/")
    subject = load_subject(stage_folder(config, 1) / name)
    cameras = preset_cameras(subject.cameras.fit, config.reconstruct.fit, preset)
    points, colours = subject.initial_cloud()
    device = raster_device(config.device, config.render.backend)
    started = time.perf_counter()
    gaussians = fit_views(
        [subject.image(camera.name) for camera in cameras], cameras, points, colours,
        preset_config(config.reconstruct.fit, preset), device, backend=config.render.backend, seed=config.seed,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    save_gaussians_ply(out_dir / "gaussians.ply", gaussians)
    record = {
        "fit": preset, "gaussians": len(gaussians), "sh_degree": gaussians.sh_degree, "fit_views": len(cameras),
        "iterations": config.reconstruct.fit.iterations, "seconds": round(seconds, 3),
    }  # fmt: skip
    write_json(out_dir / FIT_NAME, record)


@functools.lru_cache(maxsize=1)
def _lpips(weights: str) -> Callable | None:
    from splathead.metrics.image import lpips_model

    return lpips_model(Path(weights) if weights else None)


def held_out_scores(config: Config, name: str, ply: Path, *, with_lpips: bool = True) -> dict[str, dict[str, float]]:
    """PSNR, SSIM and (``with_lpips``, where its weights can be had) LPIPS over black of every held-out view of subject
    ``name``: view -> metric -> value. ``ply``: its Gaussians."""
    from splathead.devices import raster_device
    from splathead.metrics.image import psnr, ssim
    from splathead.raster import render
    from splathead.subjects.writer import load_subject

    subject = load_subject(stage_folder(config, 1) / name)
    gaussians = load_gaussians_ply(ply).to(raster_device(config.device, config.render.backend))
    lpips, scores = _lpips(config.evaluate.lpips_weights) if with_lpips else None, {}
    for camera in subject.cameras.heldout:
        image = render(gaussians, camera, outputs=("rgb",), backend=config.render.backend).rgb
        image = image.clamp(0, 1).permute(1, 2, 0).cpu().numpy().astype(np.float64)
        photo = subject.image(camera.name) / 255.0
        reference = photo[..., :3] * photo[..., 3:]
        scores[camera.name] = {"psnr": float(psnr(image, reference)), "ssim": float(ssim(image, reference))}
        if lpips is not None:
            scores[camera.name]["lpips"] = float(lpips(image, reference))
    return scores


def write_held_out(config: Config, limit: int = 0) -> list[str]:
    """Write ``heldout.csv`` from every fit's scores on its held-out views; returns one line per preset for the terminal.

    Values are means over views, then over identities with a bootstrap interval.
    """
    names, presets = list_subjects(config, limit=limit), config.reconstruct.fit.presets
    lpips_known = _lpips(config.evaluate.lpips_weights) is not None
    rows, lines = [], []
    for preset in presets:
        values: dict[str, list[tuple[str, float]]] = {metric: [] for metric in SUMMARY_UNITS}
        for name in names:
            folder = stage_folder(config, 2) / name / preset
            record = json.loads((folder / FIT_NAME).read_text())
            if lpips_known and '"lpips"' not in (folder / HELD_OUT_NAME).read_text():  # its weights came later
                write_json(folder / HELD_OUT_NAME, held_out_scores(config, name, folder / "gaussians.ply"))
            for scores in json.loads((folder / HELD_OUT_NAME).read_text()).values():
                for metric, value in scores.items():
                    values[metric].append((name, value))
            values["gaussians"].append((name, record["gaussians"]))
            values["seconds"] += [(name, record["seconds"])] if "seconds" in record else []
        estimates = {metric: _estimate(config, pairs) for metric, pairs in values.items() if pairs}
        rows += [_row(config, preset, metric, estimate) for metric, estimate in estimates.items()]
        shown = [
            f"{metric} {estimates[metric].value:.4g} {unit}" if metric in estimates else f"{metric} not measured"
            for metric, unit in SUMMARY_UNITS.items()
        ]
        lines.append(f"{preset}: held-out {', '.join(shown)}")
    write_results(stage_folder(config, 2) / "heldout.csv", rows)
    return lines


def _estimate(config: Config, pairs: list[tuple[str, float]]) -> Estimate:
    names, numbers = zip(*pairs)
    return bootstrap_mean(numbers, names, resamples=config.evaluate.bootstrap, seed=config.seed)


def _row(config: Config, preset: str, metric: str, estimate: Estimate) -> ResultRow:
    from splathead.devices import raster_device

    commit, dirty = git_state()
    device = str(raster_device(config.device, config.render.backend))  # where the fit ran
    return ResultRow(
        experiment="reconstruction", dataset=config.subjects.source, fit=preset, method="3dgs",
        views="held_out" if metric in ("psnr", "ssim", "lpips") else "", metric=metric, unit=SUMMARY_UNITS[metric],
        value=estimate.value, ci_low=estimate.ci_low, ci_high=estimate.ci_high, n=estimate.n, seed=config.seed,
        device=device_name(device), commit=commit, dirty=dirty, config_hash=fingerprint(fit_settings(config.reconstruct)),
    )  # fmt: skip
