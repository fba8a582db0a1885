"""A tiny run with everything that guided networks need: analytic heads, their pairs, and stage 04's maps of every view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from splathead.config import Config, ModelConfig, PairsConfig, RenderConfig, SubjectsConfig, TrainConfig
from splathead.images import load_depth_png, save_maps, write_json
from splathead.maps.normals import normals_from_depth
from splathead.maps.render_subject import pack_normals
from splathead.samples import list_samples, stage_folder
from splathead.synthetic import write_synthetic_run


def write_guided_run(folder: Path) -> Config:
    """Configuration of a run of three analytic heads below ``folder``, finished up to stage 05."""
    made = Config(
        name="tiny", runs_dir=str(folder), device="cpu", subjects=SubjectsConfig(map_size=64, map_yaws=[-15.0, 15.0]),
        train=TrainConfig(ModelConfig(base_ch=2), epochs=1, batch_size=1, grad_accum=1, crop=32, loss_scale="lsb",
                          baselines=["bilinear"]),
        render=RenderConfig(lr_size=16), pairs=PairsConfig(interior_px=2),
    )  # fmt: skip
    write_synthetic_run(made, {"train": 1, "val": 1, "test": 1})
    for sample in list_samples(made, 5):
        high = load_depth_png(sample.path(made, 5) / "hr_render.png")
        normals, valid = normals_from_depth(high.depth, high.mask, high.camera, jump=np.inf)
        maps = {
            "alpha": high.mask.astype(np.float16), "depth": high.depth, "mask": high.mask,
            "depth_variance": np.where(high.mask, 4.0, 0).astype(np.float32),
            "normal": pack_normals(np.where(valid[..., None], normals, 0)),
            "rgb": np.repeat(high.mask[..., None] * np.uint8(150), 3, axis=2),
        }  # fmt: skip
        save_maps(sample.path(made, 4, "_hr.npz"), maps)
    for path in stage_folder(made, 1).glob("*/subject.json"):
        info = json.loads(path.read_text())
        write_json(path, info | {"identity": path.parent.name, "scale": "metric", "diagonal_mm": 400.0})
    return made
