"""Where everything lies under ``runs/<config>/`` and how stages list what they work on.

A *subject* is one head (one folder of stage 01, or of stage 02 for imported Gaussians). A *variant* is
one reconstruction rendered in one mode, ``<fit>-<mode>`` (``regularised-classic``). A *view* is one map
camera. A *sample* is (subject, variant, view); its files lie at ``<stage>/<subject>/<variant>/<view>...``.

=====  =============================================================================================
stage  files
=====  =============================================================================================
01     ``<subject>/``: subject.json, mesh.ply, cameras_{fit,heldout,maps}.json, images/, truth/, points.npz
       (photos: ``<subject>/``: photo.json, photo.png, canvas.png, and photos.csv; subjects are then made by 02)
02     ``<subject>/<fit>/``: gaussians.ply, reconstruction.json (imports: also ``<subject>/subject.json``
       and ``cameras_maps.json`` beside it)
03     ``<subject>/<variant>/``: ``<view>_hr.npz``, ``<view>_lr.npz`` (``images.save_maps``), cameras.json
04     the same names, cleaned
05     ``<subject>/<variant>/<view>/``: hr_render.png, hr_surface.png, lr_8bit.png, lr_16bit.png + sidecars
06     ``<name>/`` of each training: model.safetensors, model_fp16.safetensors, model.json, log.csv, training.csv;
       ``predictions/<name>/<subject>/<variant>/<view>.png``. A name is the method's; in a study
       ``<method>-<target>[+seed<n>]``; ``<method>_interval`` is the method within its input's intervals
       (interval.json: how well these hold on the training heads), ``<method>_fused`` and ``<method>_multiview`` are of
       several views
07     depth.csv; views.csv (the same measures view by view), ``<subject>/<variant>/scores.json``; error_budget.csv,
       uncertainty.csv, interval_truth.csv
08     mesh.csv, views.csv and scores.json likewise; f_score_audit.csv
09     ``<training>/`` as in 06, scores_cross_degradation/, cross_degradation.csv
10     ``<training>/``, normal_targets/, scores_normals/, scores_bits/, normals.csv, bits.csv
11     ``<method>/<subject>/<variant>/mesh.*``, fused.csv
12     tables/, figures/, report.html
=====  =============================================================================================

All lengths are millimetres. Where the true size is unknown (captures, downloaded splats) the scene is
scaled to a nominal size and ``subject.json`` says ``"scale": "nominal"``: results are then reported in
fractions of the bounding-box diagonal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splathead.config import Config

STAGE_NAMES = {
    1: "01_collect_heads",
    2: "02_reconstruct_gaussians",
    3: "03_render_maps",
    4: "04_postprocess_maps",
    5: "05_make_pairs",
    6: "06_train_depth_sr",
    7: "07_evaluate_depth",
    8: "08_evaluate_mesh",
    9: "09_cross_degradation",
    10: "10_ablate_normals_and_bits",
    11: "11_fuse_meshes",
    12: "12_make_tables",
}


@dataclass(frozen=True)
class Sample:
    """One view of one reconstruction of one subject."""

    subject: str
    variant: str
    view: str

    @property
    def fit(self) -> str:
        """Name of the reconstruction: a preset of ``reconstruct.fit.presets``, import or facelift."""
        return self.variant.rsplit("-", 1)[0]

    @property
    def mode(self) -> str:
        """Rasterisation mode: classic or antialiased."""
        return self.variant.rsplit("-", 1)[1]

    def path(self, config: Config, stage: int, suffix: str = "") -> Path:
        """``runs/<config>/<stage>/<subject>/<variant>/<view><suffix>``."""
        return stage_folder(config, stage) / self.subject / self.variant / f"{self.view}{suffix}"

    def prediction_path(self, config: Config, method: str) -> Path:
        """Depth PNG that stage 06 writes for ``method``."""
        return predictions_folder(config) / method / self.subject / self.variant / f"{self.view}.png"


def stage_folder(config: Config, stage: int) -> Path:
    """Folder of a stage by number."""
    return config.run_folder / STAGE_NAMES[stage]


def input_stage(config: Config) -> int:
    """Stage that holds the inputs: 5 (pairs), or 4 for configurations that make no pairs (heads without truth)."""
    return 5 if 5 in config.stages else 4


def predictions_folder(config: Config) -> Path:
    """Where stage 06 writes predictions and 07, 08 and 11 read them."""
    return stage_folder(config, 6) / "predictions"


def subject_folder(config: Config, subject: str) -> Path:
    """Folder with the subject's ``subject.json``: stage 01, or 02 for imported Gaussians."""
    for stage in (1, 2):
        folder = stage_folder(config, stage) / subject
        if (folder / "subject.json").is_file():
            return folder
    missing = stage_folder(config, 1) / subject / "subject.json"
    raise FileNotFoundError(f"{missing}: no such subject; run stage 01 (or 02 for imports)")


def subject_info(config: Config, subject: str) -> dict:
    """The subject's ``subject.json``."""
    return json.loads((subject_folder(config, subject) / "subject.json").read_text())


def list_subjects(config: Config, *, splits: tuple[str, ...] = (), limit: int = 0) -> list[str]:
    """Sorted subject names of stage 01 (or 02 for imports), of the given splits (all when empty), the first ``limit``."""
    for stage in (1, 2):
        names = sorted(path.parent.name for path in stage_folder(config, stage).glob("*/subject.json"))
        if names:
            break
    else:
        raise FileNotFoundError(f"{config.run_folder}: no subjects; run scripts/{STAGE_NAMES[1]}.py first")
    if splits:
        names = [name for name in names if subject_info(config, name)["split"] in splits]
    return names[:limit] if limit else names


def list_samples(config: Config, stage: int, *, splits: tuple[str, ...] = (), limit: int = 0) -> list[Sample]:
    """Every sample that ``stage`` (3, 4 or 5) holds, in sorted order."""
    samples = []
    for subject in list_subjects(config, splits=splits, limit=limit):
        for folder in sorted(path for path in (stage_folder(config, stage) / subject).glob("*") if path.is_dir()):
            views = {path.name for path in folder.iterdir() if path.is_dir()}
            views |= {path.name.removesuffix("_hr.npz") for path in folder.glob("*_hr.npz")}
            samples += [Sample(subject, folder.name, view) for view in sorted(views)]
    return samples


def evaluated_samples(config: Config, splits: Sequence[str], limit: int = 0) -> list[Sample]:
    """Samples of the inputs of ``splits``, of ``evaluate.fits``; ``limit``: the first N subjects of each split."""
    stage = input_stage(config)
    samples = [sample for split in splits for sample in list_samples(config, stage, splits=(split,), limit=limit)]
    return of_fits(samples, config.evaluate.fits, "evaluate.fits")


def of_fits(samples: Sequence[Sample], fits: Sequence[str], key: str) -> list[Sample]:
    """Those of ``samples`` that are of one of ``fits``, all when it is empty; ValueError naming the configuration's ``key`` for
    a fit that none of them is of."""
    found = sorted({sample.fit for sample in samples})
    missing = [fit for fit in fits if fit not in found]
    if samples and missing:
        raise ValueError(f"{key}: no sample of fit {missing[0]!r}, there are samples of {', '.join(found)}")
    return [sample for sample in samples if not fits or sample.fit in fits]
