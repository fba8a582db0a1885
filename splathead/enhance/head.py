"""From the user's input to Gaussians in the head frame: read, fitted to a capture, or made from a photo by FaceLift."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from splathead.config import Config, ReconstructConfig, SubjectsConfig
from splathead.enhance.flags import with_flags
from splathead.enhance.options import EnhanceOptions
from splathead.gaussians import Gaussians
from splathead.splat_files import read_splat_file
from splathead.splat_formats.builder import LoadOptions
from splathead.subjects.importer import report_lines, understand_frame, visible_extent
from splathead.wording import counted

MANY_GAUSSIANS = 500_000
"""Larger files are read without view-dependent colour: a quarter of the memory, and a mesh has one colour a point anyway."""
INVISIBLE_OPACITY = 1 / 255
MAX_BROKEN = 0.01
"""Share of Gaussians with NaN or infinity up to which a file is damaged but a head: diverged ones, which no viewer draws"""
CAPTURE_PX = 512
"""Longer side of the pictures of a capture in its fit"""
POOR_FIT_DB = 20.0
"""PSNR on held-out views below which a capture's Gaussians are no head"""
HEAD_HEIGHT_MM = (150.0, 450.0)
"""What a head with its neck, or its shoulders, can be high"""


@dataclass(frozen=True)
class Head:
    """Gaussians in mm, +Y up, +Z out of the face, and what was understood on the way there."""

    gaussians: Gaussians
    lines: list[str]
    scale: str
    """metric, or nominal where the size is a guess"""

    @property
    def diagonal_mm(self) -> float:
        """Of the box around the visible Gaussians."""
        low, high = visible_extent(self.gaussians)
        return float(np.linalg.norm(high - low))


def read_head(path: Path, options: EnhanceOptions) -> Head:
    """The head of a splat file. Errors: those of :func:`splathead.splat_files.load_splats`."""
    wanted = LoadOptions(ReconstructConfig().max_gaussians, INVISIBLE_OPACITY, max_broken=MAX_BROKEN)
    loaded = read_splat_file(path, wanted)
    if len(loaded.gaussians) > MANY_GAUSSIANS:
        loaded = read_splat_file(path, replace(wanted, max_sh_degree=0))
    settings = ReconstructConfig(import_up=options.up, import_front=options.front, import_mm_per_unit=options.scale_mm)
    frame, lines = understand_frame(loaded.gaussians, loaded.is_facelift, settings)
    metric = bool(options.scale_mm) or loaded.gaussians.unit == "mm"
    moved = frame.gaussians(loaded.gaussians)
    low, high = visible_extent(moved)
    size = "x".join(f"{side:.0f}" for side in high - low)
    lines = [
        f"{len(moved):,} Gaussians, harmonics of degree {moved.sh_degree}; format: {loaded.layout}", *loaded.notes,
        frame.describe(), *lines, f"size of most of what is visible: {size} mm ({'metric' if metric else 'nominal'} scale)",
    ]  # fmt: skip
    lines = [with_flags(line) for line in lines] + _oddities(high - low)
    return Head(moved, lines, "metric" if metric else "nominal")


def _oddities(size_mm: np.ndarray) -> list[str]:
    """Notes on what does not look like a head; such things are enhanced all the same."""
    low, high = HEAD_HEIGHT_MM
    notes = []
    if not low <= size_mm[1] <= high:
        notes.append(f"NOTE: {size_mm[1]:.0f} mm high, a head has {low:.0f} to {high:.0f}; set --scale_mm if that is wrong")
    if max(size_mm[0], size_mm[2]) > 2 * size_mm[1]:
        notes.append("NOTE: wider than a head: is --up right? Going on with it as it is")
    return notes


def fit_capture(path: Path, options: EnhanceOptions, work: Path) -> Head:
    """The head of a posed capture: its Gaussians are fitted first (stages 01 and 02 in ``work``). Prints its lines as it goes.

    Errors as :func:`splathead.subjects.capture.find_captures`; ValueError for a folder with several captures.
    """
    from splathead.ply import load_gaussians_ply
    from splathead.reconstruction import fit_subject, held_out_scores
    from splathead.samples import stage_folder
    from splathead.subjects.capture import capture_subject, find_captures

    found = find_captures(path)
    if len(found) > 1:
        raise ValueError(f"{path}: {len(found)} captures ({', '.join(list(found)[:3])} ...), expected the folder of one")
    name, folder = next(iter(found.items()))
    config = _capture_config(path, options, work)
    understood = [with_flags(line) for line in capture_subject(folder, stage_folder(config, 1) / name, config).lines]
    report_lines(understood)
    preset = config.reconstruct.fit.presets[0]
    target = stage_folder(config, 2) / name / preset
    target.mkdir(parents=True, exist_ok=True)
    report_lines([f"fitting Gaussians to {name}"])
    fit_subject(config, f"{name}/{preset}", target)
    scores = held_out_scores(config, name, target / "gaussians.ply", with_lpips=False)
    gaussians = load_gaussians_ply(target / "gaussians.ply")
    fitted = _fit_lines(len(gaussians), [view["psnr"] for view in scores.values()])
    report_lines(fitted)
    return Head(gaussians, [*understood, *fitted], "metric" if options.scale_mm else "nominal")


def _fit_lines(count: int, psnr: list[float]) -> list[str]:
    """How good a capture's fit is by its PSNR in dB on the held-out views, and a note where it is bad."""
    mean = float(np.mean(psnr))
    lines = [f"fitted: {count:,} Gaussians, {mean:.1f} dB on {counted(len(psnr), 'view')} that the fit did not see"]
    if mean < POOR_FIT_DB:
        what = "are the cameras right, and has every photo alpha or a mask, so that the background is left out?"
        lines.append(f"NOTE: the fit is bad (below {POOR_FIT_DB:.0f} dB), and so is all that follows: {what}")
    return lines


def _capture_config(path: Path, options: EnhanceOptions, work: Path) -> Config:
    config = Config(name="capture", runs_dir=str(work), seed=options.seed, device=options.device)
    config.subjects = SubjectsConfig(
        source="capture", path=str(path), image_size=CAPTURE_PX, init_points=15000, capture_up=options.up,
        capture_front=options.front, capture_mm_per_unit=options.scale_mm,
    )  # fmt: skip
    config.render.backend = options.backend
    fit = config.reconstruct.fit
    fit.presets, fit.iterations, fit.max_gaussians, fit.sh_degree = ["regularised"], 1500, 25000, 3
    return config


def head_from_photo(path: Path, options: EnhanceOptions, work: Path) -> Head:
    """The head of one photo, by an installed FaceLift. RuntimeError that says what to install where there is none. Prints its
    lines as it goes."""
    from splathead.images import write_png
    from splathead.photos import prepare_photo
    from splathead.subjects.facelift import locate_facelift, run_facelift

    settings = ReconstructConfig()
    locate_facelift(settings)  # before minutes of work
    prepared = prepare_photo(path)
    if prepared.cropped is None:
        raise ValueError(f"{path}: {prepared.refusal}")
    about_photo = [f"photo: {prepared.describe()}"]
    report_lines(about_photo)
    window = work / "photo.png"
    write_png(window, prepared.cropped.window)
    ply = run_facelift({"photo": window}, work / "facelift", settings)["photo"]
    head = read_head(ply, options)
    notes = ["NOTE: made from one photo: the sides and the back are FaceLift's guess"]
    if prepared.refusal:
        notes.append(f"NOTE: {prepared.refusal}")
    report_lines([*notes, *head.lines])
    return Head(head.gaussians, [*about_photo, *notes, *head.lines], head.scale)
