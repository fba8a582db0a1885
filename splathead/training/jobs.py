"""Independent trainings, one after another on a CPU, several at a time on each GPU.

A *job* is a configuration whose ``train`` section is one training. Each becomes a sub-stage folder of its own
(model.safetensors, model_fp16.safetensors, model.json, training.csv, log.csv), written as soon as it is done.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from splathead.checkpoints import save_weights
from splathead.config import Config, TrainConfig, build_section
from splathead.guides import beside_input
from splathead.maps.view_maps import NORMAL_TARGETS_FOLDER, PREPARED_NORMALS
from splathead.models import architecture_for, architecture_to_dict, create_network, network_guides, parameter_count
from splathead.results import ResultRow, device_name, git_state, write_results
from splathead.samples import Sample, of_fits, stage_folder
from splathead.stages import Stage, finished_fingerprint, read_record, safe_name, stage_fingerprint
from splathead.time_limit import DEADLINE, TimeLimitReached
from splathead.training.data import Crop
from splathead.training.device import create_accelerator, inference_cost
from splathead.training.initial import initial_weights
from splathead.training.loading import DataKey, pair_set, share_pairs
from splathead.training.spread import gpu_slots, spread
from splathead.training.state import TrainingError, training_settings
from splathead.training.trainer import Trainer, TrainingReport

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)
_FULL_FRAME = Crop(0, 0, 0, flip=False)
WEIGHTS_NAME, HALF_WEIGHTS_NAME, MODEL_NAME = "model.safetensors", "model_fp16.safetensors", "model.json"


@dataclass(frozen=True)
class TrainingJob:
    """One training: ``config.train`` says what, ``config.seed`` its seed; results go to ``parent/name``."""

    name: str
    method: str
    config: Config
    parent: Path

    @property
    def folder(self) -> Path:
        """Where the trained network lies."""
        return self.parent / self.name


def job_name(method: str, target: str, seed: int) -> str:
    """Folder of one training of a study: ``unet-surface``, ``unet-surface+seed1``."""
    return safe_name(f"{method}-{target}" + (f"+seed{seed}" if seed else ""))


def make_job(config: Config, parent: Path, changes: dict, where: str) -> TrainingJob:
    """The training that ``config.train`` with ``changes`` (and ``seed``) describes; errors name ``where``."""
    changes = dict(changes)
    one = copy.copy(config)
    one.seed = int(changes.pop("seed", 0)) + config.seed
    one.train = build_section(TrainConfig, changes, where, base=config.train)
    method = one.train.method or one.train.model.name
    return TrainingJob(job_name(method, one.train.target, one.seed - config.seed), method, one, parent)


def study_jobs(config: Config, parent: Path) -> list[TrainingJob]:
    """Jobs of ``config.trainings`` in their order; two of the same name are an error."""
    jobs = [make_job(config, parent, entry, f"trainings[{i}]") for i, entry in enumerate(config.trainings)]
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"trainings: {twice[0]!r} occurs twice; give one another method, target or seed")
    return jobs


def job_part(job: TrainingJob, upstream: str, samples: dict[str, list[Sample]], *, force: bool = False) -> Stage:
    """Open a job's folder as a sub-stage; finished work is kept when nothing it depends on changed."""
    settings, extra = training_settings(job.config.train), training_inputs(job.config, upstream, samples)
    part = Stage.open(job.parent, job.name, settings, extra=extra, force=force, seed=job.config.seed)
    part.record["inputs"] = {"pairs": upstream}
    return part


def job_samples(config: Config, samples: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Those of ``samples`` (by split) that a training uses: of ``train.fits``. ValueError for a fit that a split lacks."""
    return {split: of_fits(found, config.train.fits, "train.fits") for split, found in samples.items()}


def training_inputs(config: Config, upstream: str, samples: dict[str, list[Sample]]) -> dict:
    """What a training depends on beside its settings: the pairs, and normals that stage 10 prepared."""
    names = {split: [dataclasses.astuple(sample) for sample in found] for split, found in job_samples(config, samples).items()}
    extra = {"upstream": upstream, "samples": names}
    normals = _prepared_normals(config)
    if normals:
        extra["normals"] = finished_fingerprint(normals.parent, normals.name)
    return extra


def _prepared_normals(config: Config) -> Path | None:
    """Folder of the normals that stage 10 prepares for this training; None for one that needs none."""
    kind = config.train.normal_target if config.train.model.normal_head else ""
    return stage_folder(config, 10) / NORMAL_TARGETS_FOLDER / kind if kind in PREPARED_NORMALS else None


def is_trained(job: TrainingJob) -> bool:
    """True when the job's folder holds a finished network and no larger time limit asks for more."""
    if (read_record(job.folder) or {}).get("state") != "done":
        return False
    path = job.folder / MODEL_NAME
    info = json.loads(path.read_text()) if path.is_file() else {"complete": True}
    limit = job.config.train.max_seconds
    return info["complete"] or not (limit == 0 or limit > info["seconds"])


def finished_part(job: TrainingJob, upstream: str, samples: dict[str, list[Sample]]) -> Stage | None:
    """The sub-stage of a job that was trained on these data with these settings, None without; nothing is touched.

    Unlike :func:`job_part`, which clears what was trained on others.
    """
    record, normals = read_record(job.folder), _prepared_normals(job.config)
    if record is None or not is_trained(job):
        return None
    if normals and (read_record(normals) or {}).get("state") != "done":  # so nothing was trained with them
        return None
    extra = training_inputs(job.config, upstream, samples)
    digest = stage_fingerprint(job.name, training_settings(job.config.train), {}, extra, job.config.seed)
    return Stage(job.folder, job.name, record) if record["fingerprint"] == digest else None


def finished_jobs(
    jobs: Sequence[TrainingJob], upstream: str, samples: dict[str, list[Sample]]
) -> tuple[list[TrainingJob], list[Stage]]:
    """Those of ``jobs`` that are trained, with their sub-stages. Nothing is trained."""
    found = [(job, part) for job in jobs if (part := finished_part(job, upstream, samples))]
    return [job for job, _ in found], [part for _, part in found]


def left_out_line(stage: str, missing: Sequence[str]) -> str:
    """What a run with ``--finished_only`` goes without."""
    what = f"{len(missing)} training{'s that are' if len(missing) > 1 else ' that is'} not finished"
    return f"{stage}: without {what} ({', '.join(missing)}); a later run trains {'them' if len(missing) > 1 else 'it'}"


def train_jobs(
    jobs: Sequence[TrainingJob], upstream: str, samples: dict[str, list[Sample]], *, force: bool = False
) -> list[Stage]:
    """Train what is not trained, in the jobs' order; returns their sub-stages.

    With GPUs several train on each at a time (:mod:`splathead.training.spread`), else one after another in this process. A
    training that fails there, or diverges here, stops none of the others; afterwards TrainingError names it. Raises
    TimeLimitReached when time is up before all are done.
    """
    for job in jobs:
        job_samples(job.config, samples)  # before hours of training: these may fail
        initial_weights(job.config.train)
    wanted = [job for job in jobs if force or not finished_part(job, upstream, samples)]
    for job in wanted:
        job_part(job, upstream, samples, force=force)  # clears what was trained from other inputs, also when time is up
    run = functools.partial(_run_job, upstream=upstream, samples=samples)
    slots = gpu_slots(wanted) if len(wanted) > 1 else []
    if slots:
        kinds = [_kind_of_data(job, samples) for job in wanted]
        failures = spread(wanted, kinds, functools.partial(_load_data, samples=samples), run, slots)
    else:
        failures = [failure for job in wanted if (failure := run(job))]
    if failures:
        raise TrainingError("; ".join(failures) + ". --finished_only goes on without")
    left = [job.name for job in jobs if not is_trained(job)]
    if left:
        some = ", ".join(left[:4]) + (" ..." if len(left) > 4 else "")
        raise TimeLimitReached(
            f"time limit reached with {len(left)} of {len(jobs)} trainings left ({some}); run again to go on, or with "
            "--finished_only for the results of those that are finished"
        )
    return [Stage(job.folder, job.name, read_record(job.folder)) for job in jobs]


def _run_job(job: TrainingJob, *, upstream: str, samples: dict[str, list[Sample]]) -> str:
    """Train one job; returns what is wrong where it diverges, else nothing."""
    if DEADLINE.passed:
        return ""
    try:
        train_job(job, job_part(job, upstream, samples), samples, create_accelerator(job.config.device))
    except TimeLimitReached:
        return ""
    except TrainingError as error:
        log.error("%s: %s", job.name, error)
        return f"{job.name}: {error}"
    return ""


def _data_key(job: TrainingJob) -> DataKey:
    return DataKey(job.config, network_guides(job.config.train.model))


def _kind_of_data(job: TrainingJob, samples: dict[str, list[Sample]]) -> tuple:
    """Equal for jobs that train and validate on the same pairs."""
    return _data_key(job), *(tuple(found) for found in job_samples(job.config, samples).values())


def _load_data(job: TrainingJob, *, samples: dict[str, list[Sample]]) -> None:
    """Load a job's pairs to be shared with other processes."""
    share_pairs(_data_key(job), job_samples(job.config, samples))


def train_job(job: TrainingJob, part: Stage | None, samples: dict[str, list[Sample]], accelerator: Accelerator) -> None:
    """Train one job; the main process (which has ``part``) exports the result and closes the sub-stage."""
    config, settings = job.config, job.config.train
    name = settings.model.name
    key, samples = _data_key(job), job_samples(config, samples)
    train, val = (pair_set(key, samples[split], split, accelerator.device) for split in ("train", "val"))
    architecture = architecture_for(settings.model, scale=train.scale, target=settings.target)
    torch.manual_seed(config.seed)
    network = create_network(name, architecture)
    if initial := initial_weights(settings, train.scale):
        network.load_state_dict(initial)
    trainer = Trainer(network, train, val, settings, job.folder, accelerator=accelerator, seed=config.seed)
    report = trainer.run()
    if part:
        export_training(job, part, trainer, report)
        part.close()


def export_training(job: TrainingJob, part: Stage, trainer: Trainer, report: TrainingReport) -> None:
    """Write the weights (also rounded to half precision) with their description, and the cost as results rows."""
    config, settings, network = job.config, job.config.train, trainer.network
    device, (commit, dirty) = device_name(str(trainer.device)), git_state()
    summary = {key: value for key, value in dataclasses.asdict(report).items() if key != "log"}
    info = {
        "architecture": architecture_to_dict(settings.model.name, network.architecture), "parameters": parameter_count(network),
        "method": job.method, "target": settings.target, "lr_input": settings.lr_input, "seed": config.seed,
        "settings": training_settings(settings), "data_fingerprint": trainer.train.fingerprint, **summary,
        "device": device, "commit": commit, "dirty": dirty, "versions": part.record["versions"],
    }  # fmt: skip
    weights = network.state_dict()
    save_weights(part.folder / WEIGHTS_NAME, weights, info)
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_weights(part.folder / HALF_WEIGHTS_NAME, half, info)
    track = "B" if beside_input(trainer.train.pairs[0].guides) else "A"
    row = ResultRow(
        experiment="training", dataset=config.subjects.source, track=track,
        degradation_train=settings.lr_input, target=settings.target, split="train", method=job.method, metric="seconds",
        unit="s", value=report.seconds, n=len(trainer.train), seed=config.seed, device=device, commit=commit, dirty=dirty,
        config_hash=part.record["fingerprint"],
    )  # fmt: skip
    cost = inference_cost(network, trainer.train.batch([_FULL_FRAME], 0), settings.amp)
    inference = {"experiment": "inference", "split": "", "n": None}
    rows = [
        row,
        dataclasses.replace(row, metric="throughput", unit="1/s", value=report.images_per_second),
        dataclasses.replace(row, metric="peak_memory", unit="MiB", value=report.peak_memory_mib),
        dataclasses.replace(row, metric="parameters", unit="count", value=info["parameters"]),
        dataclasses.replace(row, metric="steps", unit="count", value=report.steps_done),
        dataclasses.replace(row, **inference, value=cost.seconds),
        dataclasses.replace(row, **inference, metric="peak_memory", unit="MiB", value=cost.peak_mib),
    ]
    if report.val_rmse_mm is not None:
        views = min(settings.val_views or len(trainer.val), len(trainer.val))
        validation = {"experiment": "validation", "split": "val", "zone": "interior", "metric": "rmse", "unit": "mm"}
        rows.append(dataclasses.replace(row, **validation, value=report.val_rmse_mm, n=views))
    write_results(part.folder / "training.csv", rows)
