"""What a training checkpoint holds, and how it is written and resumed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from splathead.checkpoints import load_checkpoint, load_weights, save_checkpoint
from splathead.config import TrainConfig
from splathead.images import atomic_path

RUNTIME_SETTINGS = (
    "apply", "only_apply", "weights", "dornet_weights", "baselines", "method", "max_seconds", "checkpoint_every",
    "max_gpu_memory_gb", "interval", "multiview",
)  # fmt: skip
"""Fields of TrainConfig that do not change what is trained"""


class TrainingError(RuntimeError):
    """Training cannot go on: loss or weights are not finite, or a checkpoint belongs to another training."""


def training_settings(settings: TrainConfig) -> dict:
    """The settings that determine the trained weights: TrainConfig without its runtime fields.

    ``fits`` and ``init_weights`` (as the SHA-256 of the weights, wherever they lie) are there only where they are not empty:
    trainings from before there was a choice stay finished.
    """
    found = {name: value for name, value in asdict(settings).items() if name not in RUNTIME_SETTINGS}
    if settings.init_weights:
        found["init_weights"] = load_weights(Path(settings.init_weights))[1]["sha256"]
    return {name: value for name, value in found.items() if value or name not in ("fits", "init_weights")}


@dataclass
class Progress:
    """Everything of a running training but tensors."""

    step: int = 0
    """optimiser steps done"""
    images: float = 0.0
    """frames seen; a crop counts by its pixels"""
    seconds: float = 0.0
    """wall clock of all sessions"""
    train_seconds: float = 0.0
    """of which in training steps"""
    peak_memory_mib: float = 0.0
    loss_sum: float = 0.0
    """of the running epoch"""
    loss_count: int = 0
    best_epoch: int = 0
    best_rmse_mm: float | None = None
    initial_rmse_mm: float | None = None
    """of the weights that training starts from, where these were given"""
    log: list[dict] = field(default_factory=list)
    """one row per finished epoch"""


@dataclass
class TrainingState:
    """The live objects of a training that a checkpoint captures.

    ``identity`` (JSON-ready: settings, data, seed) is what a checkpoint must agree on to be resumed.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    identity: dict
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    """weights that validated best so far, on the CPU"""

    def keep_as_best(self) -> None:
        """Copy the network's weights to ``best``."""
        self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.network.state_dict().items()}

    def check_finite(self) -> None:
        """Raise :class:`TrainingError` when a weight or a running statistic is NaN or infinite."""
        for name, tensor in self.network.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise TrainingError(
                    f"training diverged: {name} is not finite at optimiser step {self.progress.step}; the last checkpoint is "
                    "intact. Lower train.learning_rate, or train without --amp"
                )

    def save(self, path: Path) -> None:
        """Write the checkpoint, atomically; weights that are not finite are refused."""
        self.check_finite()
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors.update({f"best.{name}": tensor for name, tensor in self.best.items()})
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()})
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"progress": asdict(self.progress), "scaler": self.scaler.state_dict(), "identity": self.identity}
        save_checkpoint(path, tensors, state)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint; one of other settings, data or seed is a :class:`TrainingError`."""
        tensors, state = load_checkpoint(path)
        for name, value in self.identity.items():
            if state["identity"].get(name) != value:
                raise TrainingError(
                    f"{path}: checkpoint of another training ({_difference(name, state['identity'].get(name), value)}); "
                    "give another folder, or delete it to train from the start"
                )
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}, "rng": {}}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            groups[kind][rest] = tensor
        self.progress = Progress(**state["progress"])
        self.best = groups["best"]
        self.network.load_state_dict(groups["network"])
        self.scaler.load_state_dict(state["scaler"])
        self._load_moments(groups["optimizer"])
        torch.set_rng_state(groups["rng"]["cpu"])
        if "cuda" in groups["rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(groups["rng"]["cuda"], self.device)

    def _load_moments(self, tensors: dict[str, Tensor]) -> None:
        parameters = self.optimizer.param_groups[0]["params"]
        for name, tensor in tensors.items():
            index, key = name.split(".")
            parameter = parameters[int(index)]
            # moments take the weights' memory format (channels_last), which fused optimisers rely on
            like = parameter.detach() if tensor.shape == parameter.shape else tensor
            self.optimizer.state[parameter][key] = torch.empty_like(like, device=self.device).copy_(tensor)


def _difference(name: str, old: object, new: object) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [_difference(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        return ", ".join(parts)
    return f"{name} {str(old)[:20]} there, {str(new)[:20]} now"


def write_log(path: Path, rows: Sequence[dict]) -> None:
    """Write the training log as CSV, atomically; None, and what rows of an older version lack, becomes an empty cell."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[-1]) if rows else ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
