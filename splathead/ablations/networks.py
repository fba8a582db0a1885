"""UNets of the ablations: which trainings they are, and which of them stage 06 of the run has done already."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from splathead.config import Config
from splathead.samples import STAGE_NAMES, Sample, input_stage, list_samples, stage_folder
from splathead.stages import Stage, finished_fingerprint, record_group, safe_name
from splathead.training.jobs import (
    WEIGHTS_NAME,
    TrainingJob,
    finished_jobs,
    finished_part,
    left_out_line,
    make_job,
    train_jobs,
)

NO_NORMALS = "none"


@dataclass
class Ablation:
    """One run of stage 09 or 10: what its experiments have in common."""

    config: Config
    number: int
    jobs: int = 1
    force: bool = False
    limit: int = 0
    """the first N subjects of each split; 0 = all"""
    parts: list[Stage] = field(default_factory=list)
    """finished sub-stages"""
    missing: list[str] = field(default_factory=list)
    """trainings that ``finished_only`` goes without"""

    @property
    def folder(self) -> Path:
        """The stage's folder."""
        return stage_folder(self.config, self.number)

    @property
    def name(self) -> str:
        """The stage's name."""
        return STAGE_NAMES[self.number]

    def upstream(self) -> str:
        """Fingerprint of the pairs; RuntimeError when they are not finished, ValueError for a run without them."""
        if input_stage(self.config) != 5:
            raise ValueError(f"{self.name}: stages has no 5 (pairs), which ablations train and are scored on")
        return finished_fingerprint(self.config.run_folder, STAGE_NAMES[5])

    def training_samples(self) -> dict[str, list[Sample]]:
        """Samples of the splits train and val; ValueError when there is nothing to train on."""
        samples = {s: list_samples(self.config, 5, splits=(s,), limit=self.limit) for s in ("train", "val")}
        if not samples["train"]:
            raise ValueError(f"{self.config.run_folder}: no subject of split 'train', {self.name} has nothing to train on")
        return samples

    def record(self, *, done: bool) -> None:
        """Write the stage's ``stage.json`` over its sub-stages."""
        record_group(self.config.run_folder, self.name, self.parts, [STAGE_NAMES[5]], done=done, missing=self.missing)


def unet_job(config: Config, number: int, target: str, lr_input: str, normals: str = NO_NORMALS) -> TrainingJob:
    """The training of stage ``number`` that gives ``config.train``'s UNet this target, input and normals to learn."""
    head = normals != NO_NORMALS
    changes = {
        "method": f"unet_normals_{normals}" if head else "unet", "target": target, "lr_input": lr_input,
        "normal_target": normals if head else "", "model": {"name": "unet", "normal_head": head},
    }  # fmt: skip
    job = make_job(config, stage_folder(config, number), changes, STAGE_NAMES[number])
    return dataclasses.replace(job, name=safe_name(f"{job.method}-{target}-{lr_input}"))


def train_networks(ablation: Ablation, jobs: Sequence[TrainingJob]) -> dict[str, Path]:
    """Weights of every job by its name: of stage 06 where it trained exactly the same network, else trained here.

    With ``config.finished_only`` nothing is trained: weights of what is finished, and RuntimeError when nothing is. Raises
    TimeLimitReached when ``--time_limit`` ended it before all are trained.
    """
    upstream, samples = ablation.upstream(), ablation.training_samples()
    weights, missing = {}, {}
    for job in jobs:
        found = trained_by_stage_06(job, upstream, samples)
        if found is None:
            missing[job.name] = job
        else:
            print(f"{ablation.name}: {job.name} is {found.name} of {STAGE_NAMES[6]}")
            weights[job.name] = found / WEIGHTS_NAME
    if ablation.config.finished_only:
        found, parts = finished_jobs(list(missing.values()), upstream, samples)
        weights |= {job.name: job.folder / WEIGHTS_NAME for job in found}
        ablation.parts += parts
        ablation.missing += [job.name for job in jobs if job.name not in weights]
        if not weights:
            raise RuntimeError(f"--finished_only: none of the {len(jobs)} trainings of {ablation.name} is finished")
        return weights
    if missing:
        ablation.parts += train_jobs(list(missing.values()), upstream, samples, force=ablation.force)
    return weights | {name: job.folder / WEIGHTS_NAME for name, job in missing.items()}


def trained_by_stage_06(job: TrainingJob, upstream: str, samples: dict[str, list[Sample]]) -> Path | None:
    """Folder of the finished training of stage 06 with this job's settings, seed and data; None when there is none."""
    parent = stage_folder(job.config, 6)
    for path in sorted(parent.glob(f"*/{WEIGHTS_NAME}")):
        twin = dataclasses.replace(job, name=path.parent.name, parent=parent)
        if finished_part(twin, upstream, samples):
            return twin.folder
    return None


def training_lines(ablation: Ablation, weights: dict[str, Path]) -> list[str]:
    """One line for each network: parameters, time, error on val; and one for those that are left out."""
    lines = [left_out_line(ablation.name, ablation.missing)] if ablation.missing else []
    for name, path in weights.items():
        info = json.loads(path.with_suffix(".json").read_text())
        rmse = "" if info["val_rmse_mm"] is None else f", interior RMSE {info['val_rmse_mm']:.3f} mm on val"
        lines.append(f"{ablation.name}: {name} ({info['parameters']:,} parameters) in {info['seconds']:.0f} s{rmse}")
    return lines
