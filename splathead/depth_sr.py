"""Stage 06: train the configured networks, then write every method's predictions.

The stage's folder holds one sub-stage per training (``<name>/``: model, log, checkpoint) and one per method's
predictions (``predictions/<name>/``), each with its own fingerprint: another target or epoch count redoes what depends
on it and nothing else. ``stage.json`` sums them up for the stages that follow. One training's name is its method's; a
study's (``trainings``) are ``<method>-<target>[+seed<n>]``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from splathead.config import Config
from splathead.interval_predictors import KEY as INTERVAL_KEY
from splathead.interval_predictors import interval_predictors
from splathead.method_names import INTERVAL
from splathead.models import NO_NETWORK
from splathead.multiview import KEY as MULTIVIEW_KEY
from splathead.multiview import multiview_predictors
from splathead.predictors import (
    Predictor,
    baseline_predictors,
    check_methods,
    folder_as,
    methods_of,
    network_predictors,
    write_predictions,
)
from splathead.samples import STAGE_NAMES, evaluated_samples, input_stage, list_samples, predictions_folder, stage_folder
from splathead.stages import Stage, finished_fingerprint, read_record, record_group, safe_name
from splathead.training.device import create_accelerator
from splathead.training.jobs import (
    MODEL_NAME,
    WEIGHTS_NAME,
    TrainingJob,
    finished_jobs,
    is_trained,
    job_part,
    left_out_line,
    study_jobs,
    train_job,
    train_jobs,
)

STAGE = STAGE_NAMES[6]
NOT_TRAINABLE = "so no network can be trained; give --weights FILE, or set train.model.name: none (baselines only)"


def method_name(config: Config) -> str:
    """Name of the network's results: ``train.method``, or the network's name."""
    name = safe_name(config.train.method or config.train.model.name)
    if name in (*config.train.baselines, "predictions"):
        raise ValueError(f"train.method: {name!r} is the name of a baseline or a folder of stage 06, choose another")
    return name


def run_stage(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Train where needed and write predictions; returns lines that say what was made.

    Args:
        config: ``config.train`` says what, or ``config.trainings``; see their fields.
        jobs: processes that write predictions with a study's methods (a single network's are quicker in one process).
        force: train and predict again what is finished (with ``config.finished_only`` predict only).
        limit: use the first N subjects of each split only; 0 = all.

    Raises RuntimeError when an earlier stage is not finished or ``config.finished_only`` finds no training, FileNotFoundError
    for missing weights, ValueError when there is nothing to train on, TimeLimitReached when ``--time_limit`` ended it.
    """
    settings = config.train
    source = STAGE_NAMES[input_stage(config)]
    run = _Run(config, finished_fingerprint(config.run_folder, source), force, limit)
    lines, weights, of_study = [], {}, bool(config.trainings)
    predicts = settings.apply or settings.only_apply or bool(settings.weights)
    baselines, notes = baseline_predictors(config, limit) if predicts else ([], [])  # before hours of training: it may fail
    if settings.weights:
        weights, of_study = given_weights(config), Path(settings.weights).is_dir()
    elif settings.model.name != NO_NETWORK:
        trainings = run.trainings()
        if predicts:
            _check_derived(config, [*(baseline.names for baseline in baselines), *trained_methods(trainings)])
        if config.finished_only:
            trainings = run.keep_finished(trainings)
        elif not (settings.only_apply or _train(run, trainings)):
            return []
        if not settings.only_apply:
            lines += [_training_line(job) for job in trainings]
        lines += [left_out_line(STAGE, run.missing)] if run.missing else []
        weights = {job.name: job.folder / WEIGHTS_NAME for job in trainings}
    if predicts:
        networks = [network_predictors(config, name, path, of_study=of_study) for name, path in weights.items()]
        predictors = [*(predictor for made in networks for predictor in made), *baselines]
        projected, left_out = interval_predictors(config, predictors, limit)
        predictors += projected  # after the predictions that they read
        predictors += multiview_predictors(config, predictors)  # after the predictions that they read
        for predictor in predictors:
            run.parts.append(_prediction_part(run, predictor, jobs if of_study else 1))
        names = ", ".join(predictor.method for predictor in predictors)
        lines += [*notes, *left_out, f"{STAGE}: predictions of {names} in {predictions_folder(config)}"]
    parts = [*run.parts, *run.other_parts()]
    record_group(config.run_folder, STAGE, parts, [source], done=True, missing=run.missing)
    return lines


def _check_derived(config: Config, known: list[tuple[str, str]]) -> None:
    """Before hours of training: methods that are to be made of others' predictions need these others.

    ``known``: :attr:`Predictor.names` of every method that is not made of another's predictions.
    """
    wanted = config.train.interval.methods
    check_methods(INTERVAL_KEY, wanted, known)
    within = [
        (method + INTERVAL, folder_as(folder, method, method + INTERVAL))
        for method, folder in known
        if method in wanted or folder in wanted
    ]
    check_methods(MULTIVIEW_KEY, config.train.multiview, [*known, *within])


def trained_methods(trainings: Sequence[TrainingJob]) -> list[tuple[str, str]]:
    """:attr:`Predictor.names` of the methods that trainings become; one that works with and without its guides is two."""
    return [
        (method, folder_as(job.name, job.method, method))
        for job in trainings
        for method, _ in methods_of(job.method, job.config.train.model)
    ]


def given_weights(config: Config) -> dict[str, Path]:
    """``train.weights`` by method name: one file, or every network of another run's stage 06."""
    path = Path(config.train.weights)
    if not path.is_dir():
        return {method_name(config): path}
    found = {file.parent.name: file for file in sorted(path.glob(f"*/{WEIGHTS_NAME}"))}
    if not found:
        raise FileNotFoundError(f"{path}: no <name>/{WEIGHTS_NAME} in this folder")
    return found


@dataclasses.dataclass
class _Run:
    """One run of the stage: what its parts have in common."""

    config: Config
    upstream: str
    force: bool
    limit: int
    parts: list[Stage] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    """trainings that ``finished_only`` goes without"""

    def trainings(self) -> list[TrainingJob]:
        """The trainings that the configuration asks for."""
        parent = stage_folder(self.config, 6)
        if self.config.trainings:
            return study_jobs(self.config, parent)
        name = method_name(self.config)
        return [TrainingJob(name, name, self.config, parent)]

    def samples(self) -> dict[str, list]:
        """Samples to train and to validate on."""
        return {split: list_samples(self.config, 5, splits=(split,), limit=self.limit) for split in ("train", "val")}

    def keep_finished(self, trainings: list[TrainingJob]) -> list[TrainingJob]:
        """Those that are finished; predictions by earlier trainings of the others are removed. RuntimeError when none is."""
        found, parts = finished_jobs(trainings, self.upstream, self.samples())
        if not found:
            raise RuntimeError(f"--finished_only: none of the {len(trainings)} trainings of {STAGE} is finished")
        self.missing = [job.name for job in trainings if job not in found]
        for name in self.missing:
            if (predictions_folder(self.config) / name).is_dir():
                self.mark_unfinished()
                shutil.rmtree(predictions_folder(self.config) / name)
        self.parts += parts
        return found

    def open_part(self, parent: Path, name: str, settings: object, samples: list) -> Stage:
        """Open a sub-stage; one that has work to do marks the whole stage as not finished."""
        extra = {"upstream": self.upstream, "samples": samples}
        part = Stage.open(parent, name, settings, extra=extra, force=self.force, seed=self.config.seed)
        part.record["inputs"] = {STAGE_NAMES[input_stage(self.config)]: self.upstream}
        if not part.finished:
            self.mark_unfinished()
        return part

    def mark_unfinished(self) -> None:
        """Make later stages refuse the stage until it is finished again."""
        record_group(self.config.run_folder, STAGE, self.parts, done=False)

    def other_parts(self) -> list[Stage]:
        """Finished sub-stages of other methods; predictions from other inputs, or left unfinished, are removed."""
        mine = {part.folder for part in self.parts}
        root, parts = stage_folder(self.config, 6), []
        for folder in sorted(path.parent for path in [*root.glob("*/stage.json"), *root.glob("predictions/*/stage.json")]):
            record = read_record(folder)
            if folder in mine or record is None:
                continue
            if record["state"] == "done" and self.upstream in record["inputs"].values():
                parts.append(Stage(folder, folder.name, record))
            elif folder.parent.name == "predictions":  # 07, 08 and 11 would read them; a training may still be resumed
                shutil.rmtree(folder)
        return parts


def _train(run: _Run, jobs: list[TrainingJob]) -> bool:
    """Train what is not trained yet; False in the helper processes of a training on several GPUs."""
    config = run.config
    if input_stage(config) != 5:
        raise ValueError(f"stages: no 5 (pairs), {NOT_TRAINABLE}")
    samples = run.samples()
    if not samples["train"]:
        raise ValueError(f"{config.run_folder}: no subject of split 'train', {NOT_TRAINABLE}")
    if len(jobs) > 1:
        run.mark_unfinished()
        run.parts += train_jobs(jobs, run.upstream, samples, force=run.force)
        return True
    accelerator, part = create_accelerator(config.device), None
    if accelerator.is_main_process:
        part = job_part(jobs[0], run.upstream, samples, force=run.force)
    accelerator.wait_for_everyone()
    if not is_trained(jobs[0]):
        if part:
            run.mark_unfinished()
        train_job(jobs[0], part, samples, accelerator)
        accelerator.wait_for_everyone()
    run.parts += [part] if part else []
    return part is not None


def _prediction_part(run: _Run, predictor: Predictor, jobs: int) -> Stage:
    """Write one method's predictions, unless they are there."""
    config = run.config
    splits = tuple(dict.fromkeys(("val", *config.evaluate.splits))) if not config.trainings else tuple(config.evaluate.splits)
    samples = evaluated_samples(config, splits, run.limit)
    names = [dataclasses.astuple(sample) for sample in samples]
    part = run.open_part(predictions_folder(config), predictor.method, predictor.settings, names)
    if not part.finished:
        write_predictions(part, predictor, samples, config, jobs)
        part.close()
    return part


def _training_line(job: TrainingJob) -> str:
    info = json.loads((job.folder / MODEL_NAME).read_text())
    line = f"{STAGE}: {job.name} ({info['parameters']:,} parameters, target {info['target']}, {info['lr_input']} input): "
    initial = info["settings"].get("init_weights", "")
    line += f"from weights {initial[:16]}, " if initial else ""
    line += f"{info['epochs_done']} epochs in {info['seconds']:.0f} s"
    line += "" if info["complete"] else f" (ended by train.max_seconds after {info['steps_done']} of {info['steps']} steps)"
    if info["val_rmse_mm"] is not None:
        line += f", interior RMSE {info['val_rmse_mm']:.3f} mm on val (epoch {info['best_epoch']})"
        line += f", {info['initial_rmse_mm']:.3f} before" if initial else ""
    return f"{line}; weights in {job.folder / WEIGHTS_NAME}"
