"""Training throughput: our loop, and the loop as the study published it, on the same synthetic pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from splathead.benchmarks import FLOAT32_LOOP
from splathead.benchmarks.raster import SpeedRow
from splathead.config import ModelConfig, TrainConfig
from splathead.models import architecture_for, create_network
from splathead.synthetic import synthetic_view
from splathead.training.data import Crop, PairSet
from splathead.training.device import create_accelerator, peak_memory_mib, resident_bytes, training_backend
from splathead.training.losses import depth_loss
from splathead.training.pairs import make_pair
from splathead.training.trainer import Trainer

PAIRS = 8


@dataclass(frozen=True)
class Throughput:
    """Speed of a training loop."""

    images_per_second: float
    peak_memory_mib: float
    """reserved by torch on a GPU, else of the process"""


def synthetic_pairs(device: torch.device, settings: TrainConfig, size: int = 1024, scale: int = 4) -> PairSet:
    """Pairs of analytic heads with the settings' target and input, placed as training places them."""
    views = [synthetic_view(seed, 15.0 * (seed % 5 - 2), size, scale) for seed in range(PAIRS)]
    pairs = [make_pair(f"head{i}", view[f"lr_{settings.lr_input}"], view[settings.target]) for i, view in enumerate(views)]
    return PairSet(pairs, device, resident_bytes(settings))


def training_throughput(
    settings: TrainConfig, *, device: str = "auto", size: int = 1024, scale: int = 4, seconds: float = 10.0
) -> Throughput:
    """Images per second of our loop (forward, backward, optimiser steps) and its peak memory.

    Args:
        settings: network, batch size, accumulation, crop, AMP, compilation, memory cap.
        device: ``auto``, ``cpu`` or ``cuda``.
        size: side of the high-resolution frames.
        scale: super-resolution factor.
        seconds: how long to measure, after a warm-up.
    """
    accelerator = create_accelerator(device)
    pairs = synthetic_pairs(accelerator.device, settings, size, scale)
    network = create_network(settings.model.name, architecture_for(settings.model, scale=scale, target=settings.target))
    with training_backend(settings, accelerator.device):
        # epochs only stretch the learning-rate schedule here; nothing is written
        trainer = Trainer(network, pairs, None, replace(settings, epochs=10**6), "", accelerator=accelerator)
        network.train()
        batches = trainer.plan(0)
        group = [batches[i % len(batches)] for i in range(settings.grad_accum)]
        return _measure(lambda: trainer.step(group), settings, accelerator.device, seconds)


def published_throughput(
    settings: TrainConfig, *, device: str = "auto", size: int = 1024, scale: int = 4, seconds: float = 10.0
) -> Throughput:
    """The same for the study's kind of loop: float frames in host memory, NCHW, eager, a loss read at every step."""
    accelerator = create_accelerator(device)
    target = accelerator.device
    pairs = synthetic_pairs(torch.device("cpu"), settings, size, scale)
    network = create_network(settings.model.name, architecture_for(settings.model, scale=scale, target=settings.target))
    network.memory_format = torch.contiguous_format
    network = network.to(target, memory_format=torch.contiguous_format).train()
    with training_backend(settings, target):
        torch.backends.cudnn.benchmark = False
        step = _published_step(network, pairs, settings, target)
        return _measure(step, settings, target, seconds)


def _published_step(network: nn.Module, pairs: PairSet, settings: TrainConfig, device: torch.device) -> Callable[[], None]:
    amp = settings.amp and device.type == "cuda"
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=amp)
    frames = [pairs.batch([Crop(index, 0, 0, flip=False)], 0) for index in range(len(pairs))]
    position = 0

    def step() -> None:
        nonlocal position
        for _ in range(settings.grad_accum):
            chosen = [frames[(position + i) % len(frames)] for i in range(settings.batch_size)]
            position += settings.batch_size
            parts = zip(*((frame.lr_depth01, frame.target01, frame.mask) for frame in chosen))
            lr, target, mask = (torch.cat(tensors).to(device) for tensors in parts)
            with torch.autocast(device.type, torch.float16, enabled=amp):
                loss = depth_loss(network(lr), target, mask, gradient_weight=settings.gradient_loss_weight)
            scaler.scale(loss / settings.grad_accum).backward()
            loss.item()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _measure(step: Callable[[], None], settings: TrainConfig, device: torch.device, seconds: float) -> Throughput:
    """Warm up (compilation, cuDNN's choice of algorithms), then step until ``seconds`` have passed."""

    def finish() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    for _ in range(3):
        step()
    steps, started = 0, finish()
    while True:
        for _ in range(5):  # without waiting for the device in between
            step()
        steps += 5
        elapsed = finish() - started
        if elapsed >= seconds:
            images = steps * settings.grad_accum * settings.batch_size
            return Throughput(images / elapsed, peak_memory_mib(device))


def training_rows(device: torch.device, seconds: float = 10.0) -> list[SpeedRow]:
    """The published training (UNet base 32, 1024x1024, batch 2 x 4, AMP): the study's kind of loop, ours, and on a GPU, where
    alone training compiles and has mixed precision, ours compiled, and the study's without mixed precision and memory cap."""
    settings, where = TrainConfig(model=ModelConfig(), target="render"), {"device": device.type, "seconds": seconds}
    loops = {
        "published loop": lambda: published_throughput(settings, **where),
        "eager": lambda: training_throughput(settings, **where),
    }
    if device.type == "cuda":
        loops["compiled"] = lambda: training_throughput(replace(settings, compile=True), **where)
        loops[FLOAT32_LOOP] = lambda: published_throughput(replace(settings, amp=False, max_gpu_memory_gb=0.0), **where)
    measured = {name: loop() for name, loop in loops.items()}
    published = measured["published loop"].images_per_second
    return [
        SpeedRow(
            "UNet training 1024", name, "an image", 1 / speed.images_per_second, speed.images_per_second / published,
            "published loop", f"{speed.images_per_second:.1f} images/s, {speed.peak_memory_mib:.0f} MiB",
            peak_mib=speed.peak_memory_mib,
        )
        for name, speed in measured.items()
    ]  # fmt: skip
