"""The benchmark of inference: rows of every network, ratios to the published one."""

from __future__ import annotations

import torch

from splathead.benchmarks import inference
from splathead.config import ModelConfig


def test_rows_and_ratios(monkeypatch):
    monkeypatch.setattr(inference, "SIZE", 64)
    small = {"unet": ModelConfig(base_ch=4), "ours": inference.NETWORKS["SplatHead"]}
    monkeypatch.setattr(inference, "NETWORKS", small)
    first, ours = inference.inference_rows(0.01, torch.device("cpu"))
    assert (first.method, ours.method, ours.phase, ours.workload) == ("unet", "ours", "inference", "16 to 64, a map")
    assert first.ratio is None and ours.ratio_to == "unet" and ours.ratio == first.seconds / ours.seconds
