"""Stages 09 and 10 on tiny heads: which networks are trained, what they are applied to, the rows, the way to DSINE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from splathead import depth_sr
from splathead.ablations import cross_degradation, normals_and_bits
from splathead.ablations.networks import Ablation, train_networks, trained_by_stage_06, unet_job
from splathead.ablations.normal_targets import prepare_normal_targets
from splathead.cameras import orbit_camera, save_cameras
from splathead.config import (
    AblationsConfig,
    Config,
    CrossConfig,
    EvaluateConfig,
    ModelConfig,
    PairsConfig,
    RenderConfig,
    SubjectsConfig,
    TrainConfig,
)
from splathead.evaluation.depth import score_depth
from splathead.evaluation.views import View, predicted_methods
from splathead.images import load_depth_png, save_maps, write_json
from splathead.maps.bilateral import joint_bilateral_normals
from splathead.maps.low_resolution import load_low_resolution
from splathead.maps.normals import normals_from_depth
from splathead.maps.render_subject import pack_normals
from splathead.maps.view_maps import load_normal_target
from splathead.metrics.depth import DepthTruth, evaluate_depth
from splathead.metrics.zones import ZoneSettings
from splathead.normals_dsine import OPTIONS, WEIGHTS, dsine_normals, find_dsine, load_dsine
from splathead.prediction import load_network
from splathead.results import read_results
from splathead.samples import STAGE_NAMES, list_samples, stage_folder
from splathead.stages import finished_fingerprint
from splathead.synthetic import write_synthetic_run
from splathead.time_limit import DEADLINE, TimeLimitReached
from splathead.training import loading as training_loading

pytestmark = pytest.mark.usefixtures("single_thread")

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN = TrainConfig(
    model=ModelConfig(base_ch=2, base="bilinear", zero_init=True), epochs=1, batch_size=2, grad_accum=1, crop=32,
    learning_rate=5e-3, target="surface",
)  # fmt: skip


@pytest.fixture
def config(tmp_path) -> Config:
    made = Config(
        name="tiny", runs_dir=str(tmp_path), device="cpu", train=replace(TRAIN, model=replace(TRAIN.model)),
        subjects=SubjectsConfig(map_size=64, map_yaws=[-15.0, 40.0]), render=RenderConfig(lr_size=16),
        pairs=PairsConfig(interior_px=2), evaluate=EvaluateConfig(bootstrap=50),
        cross=CrossConfig(degradations=["bicubic", "area", "16bit", "8bit"]),
        ablations=AblationsConfig(normals=["splat", "splat_bilateral", "surface", "dsine"], bits=[6, 8, 16]),
    )  # fmt: skip
    write_synthetic_run(made, {"train": 2, "val": 1, "test": 2})
    for sample in list_samples(made, 5):
        _write_maps(made, sample)
    for path in stage_folder(made, 1).glob("*/subject.json"):
        info = json.loads(path.read_text())
        write_json(path, {**info, "identity": info["name"], "scale": "metric", "diagonal_mm": 330.0})
    write_json(stage_folder(made, 4) / "stage.json", {"state": "done", "fingerprint": "maps"})
    return made


def _write_maps(config: Config, sample) -> None:
    """Stage 04's map of a view and the true normals, from its pair."""
    folder = sample.path(config, 5)
    for name, path in (
        ("render", sample.path(config, 4, "_hr.npz")),
        ("surface", stage_folder(config, 1) / sample.subject / "truth" / f"{sample.view}.npz"),
    ):
        found = load_depth_png(folder / f"hr_{name}.png")
        normals, valid = normals_from_depth(found.depth, found.mask, found.camera, jump=4.0)
        colours = np.random.default_rng(0).integers(0, 255, (*found.mask.shape, 3)).astype(np.uint8) * found.mask[..., None]
        save_maps(path, {
            "alpha": found.mask.astype(np.float16), "mask": found.mask, "depth": found.depth, "rgb": colours,
            "normal": pack_normals(normals * valid[..., None]),
        })  # fmt: skip
    cameras = sample.path(config, 4).parent / "cameras.json"
    views = sorted(folder.parent.iterdir())
    save_cameras(cameras, [load_depth_png(view / "hr_render.png").camera for view in views])


def rows_of(config: Config, number: int, name: str):
    return read_results(stage_folder(config, number) / f"{name}.csv")


def one(rows, **wanted):
    found = [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


INTERIOR = {"metric": "rmse", "zone": "interior", "views": "all", "method_b": ""}


def test_every_network_meets_every_degradation_and_bilinear_on_the_same_input(config):
    lines = cross_degradation.run_stage(config)
    rows = rows_of(config, 9, "cross_degradation")
    assert {row.experiment for row in rows} == {"cross_degradation"} and {row.target for row in rows} == {"render"}
    names = config.cross.degradations
    for tested in names:
        for trained in names:
            row = one(rows, **INTERIOR, method="unet", degradation_train=trained, degradation_test=tested)
            assert row.n == 2 and row.ci_low <= row.value <= row.ci_high and row.seed == 0
            paired = one(rows, **(INTERIOR | {"method_b": "bilinear"}), degradation_train=trained, degradation_test=tested)
            plain = one(rows, **INTERIOR, method="bilinear", degradation_test=tested)
            assert plain.degradation_train == "" and paired.value == pytest.approx(row.value - plain.value, abs=2e-5)
    assert {row.views for row in rows} == {"all", "near_frontal"} and "interval_violation" not in {row.metric for row in rows}
    assert any("interior PSNR in dB, against render" in line for line in lines)
    folder = stage_folder(config, 9)
    assert sorted(path.parent.name for path in folder.glob("*/training.csv")) == sorted(f"unet-render-{n}" for n in names)
    assert json.loads((folder / "stage.json").read_text())["state"] == "done"
    assert not list(folder.rglob("*.png"))


def test_scores_are_those_of_the_network_applied_by_hand(config):
    """A slow reference: zones, peak and fallback of the real 8-bit pair whatever the input."""
    config.cross.degradations, config.evaluate.splits = ["bicubic_noise", "16bit"], ["test"]
    cross_degradation.run_stage(config)
    rows = rows_of(config, 9, "cross_degradation")
    network = load_network(stage_folder(config, 9) / "unet-render-16bit" / "model.safetensors")
    values = {}
    for sample in list_samples(config, 5, splits=("test",)):
        view = View.load(config, sample)
        lr = load_low_resolution(sample.path(config, 5), "bicubic_noise", config.seed)
        target, zones = view.pair.targets["render"], ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
        truth = DepthTruth.build(target.depth, view.pair.camera, view.bilinear, view.code, view.pair.lr.encoding, zones)
        values.setdefault(sample.subject, []).append(evaluate_depth(network.predict(lr).depth, truth)["interior"].psnr)
    expected = np.mean([np.mean(found) for found in values.values()])
    wanted = INTERIOR | {"metric": "psnr"}
    row = one(rows, **wanted, method="unet", degradation_train="16bit", degradation_test="bicubic_noise")
    assert row.value == pytest.approx(expected, abs=1e-3)


def test_networks_of_stage_06_with_the_same_training_are_used(config, capsys):
    depth_sr.run_stage(config)
    job = unet_job(config, 10, "surface", "8bit")
    ablation = Ablation(config, 10)
    upstream, samples = ablation.upstream(), ablation.training_samples()
    assert trained_by_stage_06(job, upstream, samples) == stage_folder(config, 6) / "unet"
    for other in (
        unet_job(config, 10, "render", "8bit"), unet_job(config, 10, "surface", "16bit"),
        unet_job(config, 10, "surface", "8bit", "surface"), unet_job(replace(config, seed=1), 10, "surface", "8bit"),
        unet_job(replace(config, train=replace(config.train, epochs=2)), 10, "surface", "8bit"),
        unet_job(replace(config, train=replace(config.train, fits=["regularised"])), 10, "surface", "8bit"),
    ):  # fmt: skip
        assert trained_by_stage_06(other, upstream, samples) is None
    assert trained_by_stage_06(job, "other pairs", samples) is None
    fewer = {**samples, "train": samples["train"][:2]}
    assert trained_by_stage_06(job, upstream, fewer) is None

    config.cross.targets, config.cross.degradations = ["surface"], ["8bit", "area"]
    cross_degradation.run_stage(config)
    assert "unet-surface-8bit is unet of 06_train_depth_sr" in capsys.readouterr().out
    assert not (stage_folder(config, 9) / "unet-surface-8bit").exists()
    wanted = INTERIOR | {"degradation_train": "8bit", "degradation_test": "8bit", "method": "unet"}
    ours = one(rows_of(config, 9, "cross_degradation"), **wanted)
    (unet,) = [method for method in predicted_methods(config) if method.name == "unet"]
    sheets = [score_depth(config, [unet], [s]) for s in list_samples(config, 5, splits=("test",))]
    values = [row.values[sheet.keys.index(sheet.key("rmse", "interior"))] for sheet in sheets for row in sheet.rows
              if row.target == "surface"]  # fmt: skip
    assert ours.value == pytest.approx(np.mean(values), abs=2e-3)  # predictions of stage 06 went through 16 bits


def test_own_networks_see_the_fits_of_the_configuration(config, monkeypatch):
    for number in (1, 4, 5):  # another fit of every head
        for folder in stage_folder(config, number).glob("*/regularised-classic"):
            shutil.copytree(folder, folder.with_name("vanilla-classic"))
    config.train.fits = ["regularised"]
    found, real = [], training_loading.load_pairs
    monkeypatch.setattr(
        training_loading, "load_pairs", lambda config, samples, **other: found.append(samples) or real(config, samples, **other)
    )
    ablation, job = Ablation(config, 9), unet_job(config, 9, "surface", "8bit")
    assert {sample.fit for sample in ablation.training_samples()["train"]} == {"regularised", "vanilla"}
    train_networks(ablation, [job])
    assert [len(samples) for samples in found] == [4, 2]  # of train and val
    assert {sample.fit for samples in found for sample in samples} == {"regularised"}


def test_finished_work_is_kept_and_a_time_limit_resumes(config, monkeypatch):
    config.cross.degradations = ["area", "8bit"]
    monkeypatch.setattr(DEADLINE, "_end", time.monotonic() - 1)
    with pytest.raises(TimeLimitReached):
        cross_degradation.run_stage(config)
    folder = stage_folder(config, 9)
    assert json.loads((folder / "stage.json").read_text())["state"] == "running"
    with pytest.raises(RuntimeError, match="has not finished"):
        finished_fingerprint(config.run_folder, STAGE_NAMES[9])
    monkeypatch.setattr(DEADLINE, "_end", None)
    cross_degradation.run_stage(config)
    files = [folder / "unet-render-area" / "model.safetensors", folder / "cross_degradation.csv"]
    before = [file.stat().st_mtime_ns for file in files]
    scores = (folder / "scores_cross_degradation" / "test_00" / "regularised-classic" / "scores.json").stat().st_mtime_ns
    cross_degradation.run_stage(config)
    assert before == [file.stat().st_mtime_ns for file in files]
    config.cross.degradations = ["area", "8bit", "16bit"]
    cross_degradation.run_stage(config)
    assert before[0] == files[0].stat().st_mtime_ns and before[1] != files[1].stat().st_mtime_ns
    path = folder / "scores_cross_degradation" / "test_00" / "regularised-classic" / "scores.json"
    assert scores != path.stat().st_mtime_ns


def test_ablations_go_on_with_what_is_finished(config, monkeypatch):
    monkeypatch.delenv("DSINE_DIR", raising=False)
    partial = replace(config, finished_only=True)
    for stage in (cross_degradation, normals_and_bits):
        with pytest.raises(RuntimeError, match="--finished_only: none of the"):
            stage.run_stage(partial)
    first = replace(config, cross=CrossConfig(degradations=["area", "8bit"]))
    cross_degradation.run_stage(first)
    lines = cross_degradation.run_stage(partial)
    assert any("without 2 trainings that are not finished (unet-render-bicubic, unet-render-16bit)" in line for line in lines)
    rows = rows_of(config, 9, "cross_degradation")
    assert {row.degradation_train for row in rows if row.method == "unet"} == {"area", "8bit"}
    assert {row.degradation_test for row in rows} == set(config.cross.degradations)
    record = json.loads((stage_folder(config, 9) / "stage.json").read_text())
    assert record["state"] == "done" and record["missing"] == ["unet-render-bicubic", "unet-render-16bit"]

    depth_sr.run_stage(config)
    normals_and_bits.run_stage(partial)  # what stage 06 trained
    assert {row.method for row in rows_of(config, 10, "normals")} == {"bilinear", "unet_normals_none"}
    bits = replace(config, ablations=AblationsConfig(normals=["surface"], bits=[6]))
    normals_and_bits.run_stage(bits)
    lines = normals_and_bits.run_stage(partial)
    assert not (stage_folder(config, 10) / "normal_targets" / "splat_bilateral" / "train_00").exists()  # nothing learns them
    assert any("unet_normals_splat_bilateral-surface-8bit" in line and "not finished" in line for line in lines)
    assert {row.method for row in rows_of(config, 10, "normals")} == {"bilinear", "unet_normals_none", "unet_normals_surface"}
    trained = {row.degradation_train for row in rows_of(config, 10, "bits") if row.method == "unet"}
    assert trained == {"6bit", "8bit"}  # at 8 bits it is the network without normals

    cross_degradation.run_stage(config)
    rows = rows_of(config, 9, "cross_degradation")
    assert {row.degradation_train for row in rows if row.method == "unet"} == set(config.cross.degradations)
    later = json.loads((stage_folder(config, 9) / "stage.json").read_text())
    assert later["missing"] == [] and later["fingerprint"] != record["fingerprint"]


def test_normals_and_bits_without_dsine(config, monkeypatch):
    monkeypatch.delenv("DSINE_DIR", raising=False)
    lines = normals_and_bits.run_stage(config, jobs=1)
    rows = rows_of(config, 10, "normals")
    names = {row.method for row in rows}
    assert names == {"bilinear", *(f"unet_normals_{k}" for k in ("none", "splat", "splat_bilateral", "surface"))}
    assert {row.experiment for row in rows} == {"normals"}
    published = {row.method for row in rows if row.target == "render"}
    assert published == {"bilinear", "unet_normals_none", "unet_normals_splat"}
    assert {row.degradation_test for row in rows} == {"render"}
    for target in ("surface", "render"):
        assert one(rows, **(INTERIOR | {"method_b": "bilinear"}), method="unet_normals_splat", target=target).n == 2
    note = stage_folder(config, 10) / "dsine_not_available.txt"
    assert "weights not available" in note.read_text() and any("weights not available" in line for line in lines)

    rows = rows_of(config, 10, "bits")
    for name in ("6bit", "8bit", "16bit"):
        for target in ("surface", "render") if name != "6bit" else ("surface",):
            where = {"degradation_test": name, "target": target}
            row = one(rows, **INTERIOR, method="unet", degradation_train=name, **where)
            plain = one(rows, **INTERIOR, method="bilinear", **where)
            paired = one(rows, **(INTERIOR | {"method_b": "bilinear"}), **where)
            assert paired.value == pytest.approx(row.value - plain.value, abs=2e-5)
    assert one(rows, **INTERIOR, method="bilinear", degradation_test="6bit", target="surface").value > 0
    # the network without normals is the one of the bits at 8: trained once
    assert len(list(stage_folder(config, 10).glob("unet-surface-8bit*"))) == 1


def test_smoothed_normals_are_made_by_stage_10_and_read_from_there(config):
    sample = list_samples(config, 5, splits=("train",))[0]
    with pytest.raises(FileNotFoundError, match=r"no normals of splat_bilateral; run scripts/10_ablate"):
        load_normal_target(config, sample, "splat_bilateral")
    prepare_normal_targets(Ablation(config, 10), ["splat_bilateral"])
    found = load_normal_target(config, sample, "splat_bilateral")
    raw = load_normal_target(config, sample, "splat")
    archive = np.load(sample.path(config, 4, "_hr.npz"))
    y0, y1, x0, x1 = archive["_box"]
    normals = archive["normal"] / np.float32(127)
    expected = joint_bilateral_normals(normals, np.any(normals != 0, axis=2), archive["rgb"])
    np.testing.assert_allclose(found[y0:y1, x0:x1] / 127, expected, atol=0.5 / 127 + 1e-6)
    assert found.dtype == np.int8 and np.any(found != raw)
    with pytest.raises(ValueError, match=r"normal target 'depth', expected surface, splat, splat_bilateral or dsine"):
        load_normal_target(config, sample, "depth")


STAND_IN = """
import torch
class DSINE_v02(torch.nn.Module):
    def __init__(self, args):
        super().__init__()
        assert args.NNET_encoder_B == 5 and args.NRN_ray_relu is True and args.NNET_decoder_BN is False
        self.gain = torch.nn.Parameter(torch.zeros(1))
    def forward(self, img, intrins=None):
        h, w = img.shape[-2:]
        assert (h, w) == (480, 480)
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        x = (x - intrins[0, 0, 2] - 0.5) / intrins[0, 0, 0]  # as DSINE: the principal point counts from 0
        y = (y - intrins[0, 1, 2] - 0.5) / intrins[0, 1, 1]
        ray = torch.stack([x, y, torch.ones_like(x)])[None] * self.gain
        return [None, torch.nn.functional.normalize(ray, dim=1)]
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A stand-in for DSINE: every surface faces the camera's centre, in DSINE's conventions."""
    folder = tmp_path / "DSINE"
    for name, text in (
        ("models/dsine/v02.py", STAND_IN),
        (str(OPTIONS), "--exp_name x\n--NNET_architecture v02\n--NNET_encoder_B 5\n\n--NRN_ray_relu\n--gpus 0\n"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / WEIGHTS).parent.mkdir(parents=True)
    torch.save({"model": {"module.gain": torch.ones(1)}, "iter": 1}, folder / WEIGHTS)
    for name in ("models", "models.dsine", "models.dsine.v02"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    load_dsine.cache_clear()
    monkeypatch.setenv("DSINE_DIR", str(folder))
    return folder


def test_dsine_gets_our_intrinsics_and_its_normals_come_in_our_axes(checkout):
    camera = orbit_camera(20.0, 0.0, 128)
    camera = replace(camera, cx=camera.cx + 9.0)  # an off-centre principal point must arrive as well
    assert find_dsine() == checkout.resolve()
    network = load_dsine(find_dsine(), torch.device("cpu"))
    found = dsine_normals(network, np.zeros((128, 128, 3), np.uint8), camera, torch.device("cpu"))
    rays = camera.ray_directions()
    expected = -rays / np.linalg.norm(rays, axis=2, keepdims=True)
    np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-4)
    assert (found[..., 2] < 0).all()
    with pytest.raises(ValueError, match=r"image of shape \(64, 64, 3\)"):
        dsine_normals(network, np.zeros((64, 64, 3), np.uint8), camera, torch.device("cpu"))
    assert str(checkout) not in sys.path


def test_a_checkout_that_is_not_whole_or_not_dsine_is_refused(checkout):
    path = checkout / WEIGHTS
    torch.save({"model": {"other": torch.ones(1)}}, path)
    with pytest.raises(ValueError, match=r"dsine\.pt: not the weights of DSINE v02"):
        load_dsine(checkout, torch.device("cpu"))
    torch.save({"weights": 1}, path)
    with pytest.raises(ValueError, match="no entry 'model'"):
        load_dsine(checkout, torch.device("cpu"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"dsine\.pt: no such file, expected a DSINE checkout"):
        find_dsine()
    (checkout / OPTIONS).write_text("--NNET_architecture v00\n")
    with pytest.raises(ValueError, match="NNET_architecture 'v00', expected v02"):
        load_dsine(checkout, torch.device("cpu"))


def test_normals_of_dsine_are_trained_on(config, checkout):
    config.ablations = AblationsConfig(normals=["dsine"], bits=[8])
    note = stage_folder(config, 10) / "dsine_not_available.txt"
    note.parent.mkdir(parents=True)
    note.write_text("from a run without weights")
    normals_and_bits.run_stage(config)
    rows = rows_of(config, 10, "normals")
    assert one(rows, **INTERIOR, method="unet_normals_dsine", target="surface").n == 2 and not note.exists()
    sample = list_samples(config, 5, splits=("train",))[0]
    found = load_normal_target(config, sample, "dsine") / 127
    camera = load_depth_png(sample.path(config, 5) / "hr_render.png").camera
    rays = camera.ray_directions()
    mask = load_depth_png(sample.path(config, 5) / "hr_render.png").mask
    mask = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))).astype(bool)
    expected = -rays / np.linalg.norm(rays, axis=2, keepdims=True)
    np.testing.assert_allclose(found[mask], expected[mask], atol=0.5 / 127 + 1e-3)


@pytest.mark.slow
def test_the_scripts_run_and_a_time_limit_has_its_exit_code(config, tmp_path):
    config.cross.degradations = ["area", "8bit"]
    config.ablations = AblationsConfig(normals=["surface"], bits=[8])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(asdict(config)))

    def script(name: str, *flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(REPOSITORY / "scripts" / f"{name}.py"), "--config", str(path), *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})

    stopped = script(STAGE_NAMES[9], "--time_limit", "0.001")
    assert stopped.returncode == 75 and "2 of 2 trainings left" in stopped.stderr, stopped.stderr
    for number, name in ((9, "cross_degradation"), (10, "bits")):
        done = script(STAGE_NAMES[number], "--jobs", "2")
        assert done.returncode == 0, done.stderr[-2000:]
        assert rows_of(config, number, name)
