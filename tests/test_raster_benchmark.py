"""The rasteriser's benchmark: its scenes are what they claim and its rows can be read."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from splathead.benchmarks import raster as benchmark
from splathead.raster import render


@pytest.mark.parametrize(("scene", "coverage"), [("head", 0.11), ("portrait", 0.44)])
def test_scenes_cover_the_stated_part_of_the_frame(scene, coverage):
    gaussians, camera = benchmark.head_scene(scene, 20_000, 256)
    with torch.no_grad():
        alpha = render(gaussians, camera, outputs=("rgb",), backend="cpu").alpha
    assert (alpha > 0.5).float().mean().item() == pytest.approx(coverage, abs=0.02)


def test_rows_without_the_peer_say_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mitsuba" else object())
    rows = benchmark.raster_rows(budget=0.01, workloads=(("head", 200, 32),))
    peers = [row for row in rows if row.method == "mitsuba"]
    ours = [row for row in rows if row.method != "mitsuba"]
    assert len(peers) == 2 and all(row.seconds is None and "not installed" in row.note for row in peers)
    assert len(ours) == 4 and all(row.seconds > 0 for row in ours)
    assert {row.phase for row in rows} == {"forward", "forward+backward"}
    assert all(row.ratio > 0 for row in ours if row.ratio_to)
