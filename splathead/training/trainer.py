"""The one training loop: resumable, never waiting for the GPU inside an epoch, capped in GPU memory.

What a step sees depends on (seed, epoch) alone and checkpoints hold everything else, so a killed run resumes
to the bit on the CPU; on a GPU with ``deterministic: true``. Accelerate provides the device and, under
``accelerate launch``, the processes; mixed precision is torch's own fp16 autocast and GradScaler.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from splathead.config import TrainConfig
from splathead.time_limit import DEADLINE, TimeLimitReached
from splathead.training.data import Batch, Crop, PairSet, check_crop, epoch_plan
from splathead.training.device import maybe_compile, peak_memory_mib, training_backend
from splathead.training.divergence import LossWatch
from splathead.training.memory import MemoryWatch
from splathead.training.objective import cosine_rate, forward_loss, validation_rmse_mm
from splathead.training.state import Progress, TrainingState, training_settings, write_log

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT_NAME = "checkpoint.safetensors"
CHECK_EVERY = 20
"""Optimiser steps between looks at the loss on a GPU: each look waits for the GPU"""

log = logging.getLogger(__name__)

Group = Sequence[Sequence[Crop]]
"""Crops of the batches that one optimiser step accumulates"""


@dataclass(frozen=True)
class TrainingReport:
    """Outcome of :meth:`Trainer.run`."""

    complete: bool
    """False when the time limit ended it"""
    epochs_done: int
    steps_done: int
    steps: int
    """optimiser steps of the whole training"""
    best_epoch: int
    val_rmse_mm: float | None
    """interior RMSE of the kept weights on the validation views; None without validation views"""
    initial_rmse_mm: float | None
    """that of given weights that training started from"""
    seconds: float
    images_per_second: float
    peak_memory_mib: float
    """reserved by torch on a GPU, else of the process"""
    log: list[dict]


class Trainer:
    """Trains ``network`` on ``train`` pairs, keeping the weights that are best on ``val`` pairs.

    ``folder`` receives ``checkpoint.safetensors`` and ``log.csv``; a checkpoint found there is resumed, and one of
    other settings, data or seed is an error.
    """

    def __init__(
        self,
        network: nn.Module,
        train: PairSet,
        val: PairSet | None,
        settings: TrainConfig,
        folder: Path,
        *,
        accelerator: Accelerator,
        seed: int = 0,
    ) -> None:
        check_crop(train, settings.crop)
        self.train, self.val, self.settings, self.folder, self.seed = train, val, settings, Path(folder), seed
        self.accelerator, self.device = accelerator, accelerator.device
        self.network = network.to(self.device)
        self.amp = settings.amp and self.device.type == "cuda"
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        identity = {"settings": training_settings(settings), "data": train.fingerprint, "seed": seed}
        self.state = TrainingState(self.network, optimizer, scaler, self.device, identity)
        self.model = accelerator.prepare(self.network) if accelerator.num_processes > 1 else self.network
        self.loss_of = maybe_compile(forward_loss, settings, self.device)
        self.steps_per_epoch = math.ceil(settings.steps / settings.epochs)
        if not settings.steps:
            self.steps_per_epoch = math.ceil(len(self.plan(0)) // accelerator.num_processes / settings.grad_accum)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self._lap_start, self._deadline_hit = time.perf_counter(), False
        self.losses = LossWatch(self.state, train, settings, amp=self.amp)

    @property
    def progress(self) -> Progress:
        """What has been done so far."""
        return self.state.progress

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / CHECKPOINT_NAME

    def run(self) -> TrainingReport:
        """Train to the end, or to the time limit; afterwards ``network`` holds the best weights, in eval mode."""
        with training_backend(self.settings, self.device):
            if self.checkpoint_path.is_file():
                self.state.load(self.checkpoint_path)
                log.info("resumed %s at optimiser step %d of %d", self.checkpoint_path, self.progress.step, self.total_steps)
            else:
                torch.manual_seed(self.seed)
                if self.settings.init_weights:  # which are kept where training makes them worse
                    self.progress.initial_rmse_mm = self._validate()
            self.memory = MemoryWatch(self.settings, self.device, [pairs for pairs in (self.train, self.val) if pairs])
            self._lap_start, self._session_steps = time.perf_counter(), 0
            in_time = not self._time_is_up()
            while in_time and self.progress.step < self.total_steps:
                in_time = self._run_epoch()
            if self._deadline_hit and self.progress.step < self.total_steps:
                raise TimeLimitReached(f"training: time limit reached at step {self.progress.step} of {self.total_steps}")
            if not self.state.best or self.progress.step < self.total_steps:  # ended by its limit, steps after a validation
                self.state.check_finite()
                self._validate()
            self.network.load_state_dict(self.state.best)
            self.network.eval()
            return self._report()

    def plan(self, epoch: int) -> list[list[Crop]]:
        """Batches of an epoch, of all processes."""
        s, processes = self.settings, self.accelerator.num_processes
        batch_size, crop = self._batch_shape(epoch)
        return epoch_plan(
            self.train, epoch=epoch, seed=self.seed, batch_size=batch_size, crop=crop, crops_per_view=s.crops_per_view,
            processes=processes, batches=self.steps_per_epoch * s.grad_accum * processes if s.steps else 0,
        )  # fmt: skip

    def _batch_shape(self, epoch: int) -> tuple[int, int]:
        """Batch size and side of the crops (0 = full frames): the last epochs may see full frames, as many pixels a step."""
        s = self.settings
        if not s.crop or epoch < s.epochs - round(s.full_frame_share * s.epochs):
            return s.batch_size, s.crop
        height, width = self.train.pairs[0].code.shape
        return max(1, s.batch_size * s.crop**2 // (height * width)), 0

    def _run_epoch(self) -> bool:
        """Train to the end of the current epoch; False when the time limit ended the training."""
        epoch, position = divmod(self.progress.step, self.steps_per_epoch)
        processes, accum = self.accelerator.num_processes, self.settings.grad_accum
        batches = self.plan(epoch)[self.accelerator.process_index :: processes]
        groups = [batches[start : start + accum] for start in range(0, len(batches), accum)]
        self.network.train()
        for group, made in self._batches_ahead(groups[position:]):
            self.step(group, made)
            self.progress.step += 1
            self.progress.images += self._frames(group) * processes
            self._watch_memory()
            if self.progress.step % CHECK_EVERY == 0:
                self.losses.collect(group)
            if self.progress.step % self.steps_per_epoch and self._time_is_up():
                self.losses.collect(group)
                self._lap(training=True)
                self._save_checkpoint()
                return False
        self.losses.collect(groups[-1])
        self._end_epoch()
        return not self._time_is_up()

    def _watch_memory(self) -> None:
        self._session_steps += 1
        if self._session_steps == 1:
            self.memory.settle()
        elif self._session_steps == CHECK_EVERY:
            self.memory.keep_headroom()

    def _make_batches(self, group: Group, crop: int) -> list[Batch]:
        return [self.train.batch(crops, crop) for crops in group]

    def _batches_ahead(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Batch]]]:
        """Every group of an epoch with its batches, which a second thread makes while the step before runs: cutting crops out
        of host memory takes as long as a small network's step on a GPU."""
        crop = self._batch_shape(self.progress.step // self.steps_per_epoch)[1]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._make_batches, groups[0], crop)
            for index, group in enumerate(groups):
                made = coming.result()
                if index + 1 < len(groups):
                    coming = pool.submit(self._make_batches, groups[index + 1], crop)
                yield group, made

    def step(self, group: Group, made: Sequence[Batch] | None = None) -> None:
        """One optimiser step over a group of accumulated batches; ``made``: these batches, where they are there already."""
        s = self.settings
        if made is None:
            made = self._make_batches(group, self._batch_shape(self.progress.step // self.steps_per_epoch)[1])
        optimizer, scaler = self.state.optimizer, self.state.scaler
        for parameters in optimizer.param_groups:
            parameters["lr"] = self._rate(self.progress.step)
        for index, (crops, batch) in enumerate(zip(group, made)):
            last = index == len(group) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
                    loss = self.loss_of(self.model, batch, s, getattr(self.network, "predicts_scale", False))
                scaler.scale(loss / len(group)).backward()
            self.losses.count(loss.detach(), crops)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _rate(self, step: int) -> float:
        return cosine_rate(self.settings.learning_rate, step, self.total_steps, self.settings.warmup_steps)

    def _frames(self, group: Group) -> float:
        """Pixels of a step, in whole frames."""
        crop, (height, width) = self._batch_shape(self.progress.step // self.steps_per_epoch)[1], self.train.pairs[0].code.shape
        return sum(map(len, group)) * (crop**2 / (height * width) if crop else 1.0)

    def _time_is_up(self) -> bool:
        """Whether this training's own limit or the process's deadline has passed, for any of the processes."""
        limit = self.settings.max_seconds
        over = bool(limit) and self.progress.seconds + time.perf_counter() - self._lap_start > limit
        flags = torch.tensor([float(over), float(DEADLINE.passed)])
        if self.accelerator.num_processes > 1 and (limit or DEADLINE.is_set):
            flags = self.accelerator.reduce(flags.to(self.device)).cpu()
        self._deadline_hit = bool(flags[1])
        return bool(flags.any())

    def _lap(self, *, training: bool) -> None:
        """Add the time since the last lap to the totals."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.progress.seconds += now - self._lap_start
        self.progress.train_seconds += (now - self._lap_start) * training
        self._lap_start = now

    def _end_epoch(self) -> None:
        """Validate where due, log the epoch, write the checkpoint where due."""
        progress, s = self.progress, self.settings
        self._lap(training=True)
        self.state.check_finite()
        epoch, last = progress.step // self.steps_per_epoch, progress.step == self.total_steps
        rmse = self._validate() if last or epoch % s.validate_every == 0 else None
        self._lap(training=False)
        progress.peak_memory_mib = max(progress.peak_memory_mib, peak_memory_mib(self.device))
        progress.log.append({
            "epoch": epoch, "step": progress.step,
            "learning_rate": self._rate(progress.step - 1),
            "train_loss": progress.loss_sum / max(progress.loss_count, 1), "val_rmse_mm": rmse,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.images / progress.train_seconds, 2),
            "peak_memory_mib": round(progress.peak_memory_mib, 1), "alloc_retries": self.memory.end_epoch(self.steps_per_epoch),
        })  # fmt: skip
        progress.loss_sum, progress.loss_count = 0.0, 0
        if last or epoch % s.checkpoint_every == 0 or self._time_is_up():
            self._save_checkpoint()

    def _validate(self) -> float | None:
        """Interior RMSE on the validation views; keeps the weights when they are the best so far (the latest without views)."""
        rmse = validation_rmse_mm(self.network, self.val, self.settings.val_views) if self.val else None
        best = self.progress.best_rmse_mm
        if rmse is None or best is None or rmse < best:
            self.progress.best_rmse_mm, self.progress.best_epoch = rmse, self.progress.step // self.steps_per_epoch
            self.state.keep_as_best()
        return rmse

    def _save_checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            self.state.save(self.checkpoint_path)
            write_log(self.folder / "log.csv", self.progress.log)
        self._lap(training=False)

    def _report(self) -> TrainingReport:
        self._lap(training=False)  # more than the limit that ended it, or it would not count as trained
        p = self.progress
        rate = p.images / p.train_seconds if p.train_seconds else 0.0
        peak = max(p.peak_memory_mib, peak_memory_mib(self.device))
        done, complete = p.step // self.steps_per_epoch, p.step >= self.total_steps
        return TrainingReport(
            complete, done, p.step, self.total_steps, p.best_epoch, p.best_rmse_mm, p.initial_rmse_mm, p.seconds, rate, peak,
            p.log,
        )
