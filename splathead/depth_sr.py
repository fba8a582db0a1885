"""Stage 06: train the configured network, then write every method's predictions.

The stage's folder holds one sub-stage per trained method (``<method>/``: model, log, checkpoint) and one per
method's predictions (``predictions/<method>/``), each with its own fingerprint: another target or epoch count
redoes what depends on it and nothing else. ``stage.json`` sums them up for the stages that follow.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from splathead.checkpoints import save_weights
from splathead.config import Config
from splathead.metrics.zones import ZoneSettings
from splathead.models import NO_NETWORK, architecture_for, architecture_to_dict, create_network, parameter_count
from splathead.predictors import Predictor, baseline_predictors, network_predictor, write_predictions
from splathead.results import ResultRow, device_name, git_state, write_results
from splathead.samples import STAGE_NAMES, Sample, input_stage, list_samples, predictions_folder, stage_folder
from splathead.stages import Stage, finished_fingerprint, read_record, record_group, safe_name
from splathead.training import Trainer, TrainingReport
from splathead.training_data import PairSet, load_pairs
from splathead.training_device import create_accelerator, resident_bytes
from splathead.training_state import training_settings

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGE = STAGE_NAMES[6]
WEIGHTS_NAME, MODEL_NAME = "model.safetensors", "model.json"
PREDICTED_SPLITS = ("val", "test")
NOT_TRAINABLE = "so no network can be trained; give --weights FILE, or set train.model.name: none (baselines only)"


def method_name(config: Config) -> str:
    """Name of the network's results: ``train.method``, or the network's name."""
    name = safe_name(config.train.method or config.train.model.name)
    if name in (*config.train.baselines, "predictions"):
        raise ValueError(f"train.method: {name!r} is the name of a baseline or a folder of stage 06, choose another")
    return name


def run_stage(config: Config, *, force: bool = False, limit: int = 0) -> list[str]:
    """Train where needed and write predictions; returns lines that say what was made.

    Args:
        config: ``config.train`` says what; see its fields.
        force: train and predict again what is finished.
        limit: use the first N subjects of each split only; 0 = all.

    Raises RuntimeError when an earlier stage is not finished, FileNotFoundError for missing weights, ValueError when
    there is nothing to train on.
    """
    settings = config.train
    source = STAGE_NAMES[input_stage(config)]
    run = _Run(config, finished_fingerprint(config.run_folder, source), force, limit)
    lines, weights = [], None
    if settings.weights:
        weights = Path(settings.weights)
    elif settings.only_apply and settings.model.name != NO_NETWORK:
        weights = run.method_folder / WEIGHTS_NAME
    elif settings.model.name != NO_NETWORK:
        accelerator = create_accelerator(config.device)
        run.parts.append(_train_part(run, accelerator))
        if not accelerator.is_main_process:
            return []
        weights = run.method_folder / WEIGHTS_NAME
        lines.append(_training_line(run.method_folder))
    if settings.apply or settings.only_apply or settings.weights:
        predictors, notes = baseline_predictors(config, limit)
        if weights:
            predictors.insert(0, network_predictor(config, method_name(config), weights))
        for predictor in predictors:
            run.parts.append(_prediction_part(run, predictor))
        names = ", ".join(predictor.method for predictor in predictors)
        lines += [*notes, f"{STAGE}: predictions of {names} in {predictions_folder(config)}"]
    record_group(config.run_folder, STAGE, [*run.parts, *run.other_parts()], [source], done=True)
    return lines


@dataclasses.dataclass
class _Run:
    """One run of the stage: what its parts have in common."""

    config: Config
    upstream: str
    force: bool
    limit: int
    parts: list[Stage] = dataclasses.field(default_factory=list)

    @property
    def method_folder(self) -> Path:
        return stage_folder(self.config, 6) / method_name(self.config)

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


def _train_part(run: _Run, accelerator: Accelerator) -> Stage:
    """Train the configured network unless that is done; its folder ends with model.safetensors, model.json, training.csv."""
    config, folder = run.config, run.method_folder
    if input_stage(config) != 5:
        raise ValueError(f"stages: no 5 (pairs), {NOT_TRAINABLE}")
    samples = {split: list_samples(config, 5, splits=(split,), limit=run.limit) for split in ("train", "val")}
    if not samples["train"]:
        raise ValueError(f"{config.run_folder}: no subject of split 'train', {NOT_TRAINABLE}")
    part = None
    if accelerator.is_main_process:
        names = {split: [dataclasses.astuple(sample) for sample in found] for split, found in samples.items()}
        part = run.open_part(folder.parent, folder.name, training_settings(config.train), names)
    accelerator.wait_for_everyone()
    if (read_record(folder) or {}).get("state") != "done" or _more_time_given(config, folder):
        report = _train(config, samples, folder, accelerator)
        if part:
            run.mark_unfinished()
            _export(config, part, *report)
            part.close()
        accelerator.wait_for_everyone()
    return part or Stage(folder, folder.name)


def _more_time_given(config: Config, folder: Path) -> bool:
    """True for a training that a time limit ended when the limit is larger now."""
    path = folder / MODEL_NAME
    info = json.loads(path.read_text()) if path.is_file() else {"complete": True}
    limit = config.train.max_seconds
    return not info["complete"] and (limit == 0 or limit > info["seconds"])


def _train(
    config: Config, samples: dict[str, list[Sample]], folder: Path, accelerator: Accelerator
) -> tuple[Trainer, TrainingReport]:
    """Load the pairs and train."""
    settings = config.train
    zones = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
    sets = {}
    for split, found in samples.items():
        folders = [sample.path(config, 5) for sample in found]
        pairs = load_pairs(folders, lr_input=settings.lr_input, target=settings.target, zones=zones if split == "val" else None)
        sets[split] = PairSet(pairs, accelerator.device, resident_bytes(settings)) if pairs else None
    architecture = architecture_for(settings.model, scale=sets["train"].scale, target=settings.target)
    torch.manual_seed(config.seed)
    network = create_network(settings.model.name, architecture)
    trainer = Trainer(network, sets["train"], sets["val"], settings, folder, accelerator=accelerator, seed=config.seed)
    return trainer, trainer.run()


def _export(config: Config, part: Stage, trainer: Trainer, report: TrainingReport) -> None:
    """Write the weights with their description, and the training's cost as results rows."""
    settings, network = config.train, trainer.network
    device = device_name(str(trainer.device))
    commit, dirty = git_state()
    summary = {key: value for key, value in dataclasses.asdict(report).items() if key != "log"}
    info = {
        "architecture": architecture_to_dict(settings.model.name, network.architecture), "parameters": parameter_count(network),
        "target": settings.target, "lr_input": settings.lr_input, "seed": config.seed, "settings": training_settings(settings),
        "data_fingerprint": trainer.train.fingerprint(), **summary,
        "device": device, "commit": commit, "dirty": dirty, "versions": part.record["versions"],
    }  # fmt: skip
    save_weights(part.folder / WEIGHTS_NAME, network.state_dict(), info)
    row = ResultRow(
        experiment=config.name, dataset=config.subjects.source, track="A", target=settings.target, split="train",
        method=part.folder.name, metric="seconds", unit="s", value=report.seconds, n=len(trainer.train), seed=config.seed,
        device=device, commit=commit, dirty=dirty, config_hash=part.record["fingerprint"],
    )  # fmt: skip
    others = {"throughput": ("1/s", report.images_per_second), "peak_memory": ("MiB", report.peak_memory_mib),
              "parameters": ("count", info["parameters"])}  # fmt: skip
    rows = [dataclasses.replace(row, metric=metric, unit=unit, value=value) for metric, (unit, value) in others.items()]
    write_results(part.folder / "training.csv", [row, *rows])


def _prediction_part(run: _Run, predictor: Predictor) -> Stage:
    """Write one method's predictions, unless they are there."""
    config = run.config
    stage = input_stage(config)
    samples = [sample for split in PREDICTED_SPLITS for sample in list_samples(config, stage, splits=(split,), limit=run.limit)]
    names = [dataclasses.astuple(sample) for sample in samples]
    part = run.open_part(predictions_folder(config), predictor.method, predictor.settings, names)
    if not part.finished:
        write_predictions(part, predictor, samples)
        part.close()
    return part


def _training_line(folder: Path) -> str:
    info = json.loads((folder / MODEL_NAME).read_text())
    line = f"{STAGE}: {folder.name} ({info['parameters']:,} parameters, target {info['target']}, {info['lr_input']} input): "
    line += f"{info['epochs_done']} epochs in {info['seconds']:.0f} s{'' if info['complete'] else ' (time limit)'}"
    if info["val_rmse_mm"] is not None:
        line += f", interior RMSE {info['val_rmse_mm']:.3f} mm on val (epoch {info['best_epoch']})"
    return f"{line}; weights in {folder / WEIGHTS_NAME}"
