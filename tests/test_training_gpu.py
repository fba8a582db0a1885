"""Training on a CUDA device: mixed precision, the memory cap, resident data, and resuming to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splathead.benchmarks.training import training_throughput
from splathead.config import ModelConfig, TrainConfig
from splathead.metrics.zones import ZoneSettings
from splathead.models import architecture_for, create_network
from splathead.synthetic import synthetic_view
from splathead.training.data import PairSet
from splathead.training.device import create_accelerator
from splathead.training.objective import validation_rmse_mm
from splathead.training.pairs import make_pair
from splathead.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SETTINGS = TrainConfig(
    model=ModelConfig(base_ch=8, base="bilinear", zero_init=True), epochs=6, batch_size=2, grad_accum=2, crop=128,
    learning_rate=3e-3, loss_scale="lsb",
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
    zones = ZoneSettings(band_px=4, jump=16.0)
    views = [synthetic_view(seed, 10.0 * seed, 256) for seed in range(4)]
    return [make_pair(f"head{i}", view["lr_8bit"], view["surface"], zones) for i, view in enumerate(views)]


def trainer(folder, pairs, settings=SETTINGS, resident: int = 2**30) -> Trainer:
    accelerator = create_accelerator("cuda")
    torch.manual_seed(0)
    network = create_network("unet", architecture_for(settings.model, scale=4, target=settings.target))
    train, val = (PairSet(part, accelerator.device, resident) for part in (pairs[:3], pairs[3:]))
    return Trainer(network, train, val, settings, folder, accelerator=accelerator)


def test_fp16_training_learns_and_stays_finite(tmp_path, pairs):
    run = trainer(tmp_path, pairs, replace(SETTINGS, epochs=20))
    before = validation_rmse_mm(run.network, run.val)
    report = run.run()
    assert run.amp and report.val_rmse_mm < 0.9 * before
    assert 0 < report.peak_memory_mib < SETTINGS.max_gpu_memory_gb * 1024


def test_data_on_the_device_and_in_pinned_memory_give_the_same_batches(pairs):
    on_device, pinned = (PairSet(pairs, torch.device("cuda"), resident) for resident in (2**30, 0))
    assert on_device.on_device and not pinned.on_device
    run_plan = [(0, 3, 5, True), (2, 10, 8, False)]
    from splathead.training.data import Crop

    crops = [Crop(*entry) for entry in run_plan]
    first = vars(on_device.batch(crops, 128))
    on_device.move_to_host()
    assert not on_device.on_device
    for other in (pinned, on_device):
        for a, b in zip(first.values(), vars(other.batch(crops, 128)).values()):
            assert a is b is None or torch.equal(a, b)


def test_deterministic_training_resumes_to_the_bit(tmp_path, pairs):
    settings = replace(SETTINGS, deterministic=True)
    whole = trainer(tmp_path / "whole", pairs, settings)
    whole.run()
    broken = trainer(tmp_path / "pieces", pairs, settings)
    step, calls = broken.step, []

    def limited(group):
        calls.append(group)
        if len(calls) > broken.total_steps // 2:
            raise KeyboardInterrupt
        return step(group)

    broken.step = limited
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = trainer(tmp_path / "pieces", pairs, settings)
    resumed.run()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_more_memory_than_the_cap_is_refused(tmp_path, pairs):
    run = trainer(tmp_path, pairs, replace(SETTINGS, model=ModelConfig(base_ch=64), max_gpu_memory_gb=0.05))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run.run()


def test_a_training_leaves_the_cpu_one_thread(tmp_path, pairs):
    threads, run, seen = torch.get_num_threads(), trainer(tmp_path, pairs), []
    step = run.step
    run.step = lambda group: (seen.append(torch.get_num_threads()), step(group))
    run.run()
    assert set(seen) == {1} and torch.get_num_threads() == threads


def test_throughput_is_measured(pairs):
    measured = training_throughput(replace(SETTINGS, crop=0), device="cuda", size=256, seconds=0.5)
    assert measured.images_per_second > 0 and measured.peak_memory_mib > 0
