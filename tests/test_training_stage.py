"""Stage 06 as a whole: training, predictions, what is redone when, and a training that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from splathead import depth_sr
from splathead.config import Config, ModelConfig, PairsConfig, RenderConfig, SubjectsConfig, TrainConfig
from splathead.images import load_depth_png, save_maps, write_json
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.prediction import load_input, load_network
from splathead.predictors import OFFSETS_NAME
from splathead.results import read_results
from splathead.samples import STAGE_NAMES, Sample, list_samples, predictions_folder, stage_folder
from splathead.stages import finished_fingerprint
from splathead.synthetic import VARIANT, write_synthetic_run

pytestmark = pytest.mark.usefixtures("single_thread")

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN = TrainConfig(
    model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), epochs=2, batch_size=2, grad_accum=1, crop=32,
    learning_rate=5e-3, loss_scale="lsb",
)  # fmt: skip


@pytest.fixture
def config(tmp_path) -> Config:
    made = Config(
        name="tiny", runs_dir=str(tmp_path), device="cpu", train=replace(TRAIN, model=replace(TRAIN.model)),
        subjects=SubjectsConfig(map_size=64, map_yaws=[-15.0, 15.0]), render=RenderConfig(lr_size=16),
        pairs=PairsConfig(interior_px=2),
    )  # fmt: skip
    write_synthetic_run(made, {"train": 2, "val": 1, "test": 1})
    return made


def prediction(config: Config, method: str, subject: str = "test_00"):
    sample = next(s for s in list_samples(config, 5) if s.subject == subject)
    return sample, load_depth_png(sample.prediction_path(config, method))


def stamp(config: Config, method: str, part: str = "predictions") -> int:
    folder = predictions_folder(config) / method / "test_00" if part == "predictions" else stage_folder(config, 6) / method
    return (folder if part == "predictions" else folder / "model.safetensors").stat().st_mtime_ns


def test_predictions_of_every_method_with_sidecars(config):
    lines = depth_sr.run_stage(config)
    assert "unet" in lines[0] and "predictions of unet, nearest, bilinear, bicubic, bilinear_offset, raw_splat" in lines[-1]
    for method in ("unet", *config.train.baselines):
        for subject in ("val_00", "test_00"):
            sample, found = prediction(config, method, subject)
            folder = sample.path(config, 5)
            target = load_depth_png(folder / "hr_surface.png")
            assert found.camera.to_dict() == target.camera.to_dict() and found.encoding.bits == 16
            assert (found.mask == target.mask).mean() > 0.97
            inside = compute_zones(target.depth, ZoneSettings(2)).interior
            assert np.abs(found.depth - target.depth)[inside].mean() < 5
        assert not (predictions_folder(config) / method / "train_00").exists()
    sample, raw = prediction(config, "raw_splat")
    np.testing.assert_array_equal(raw.depth, load_depth_png(sample.path(config, 5) / "hr_render.png").depth)
    info = json.loads((stage_folder(config, 6) / "unet" / "model.json").read_text())
    assert info["architecture"] == {
        "name": "unet", "scale": 4, "base_ch": 4, "base": "bilinear", "zero_init": True, "output_margin": 0.5,
        "normal_head": False, "guides": [],
    }  # fmt: skip
    assert info["target"] == "surface" and info["complete"] and info["epochs_done"] == 2 and info["seconds"] > 0
    assert prediction(config, "unet")[1].source.endswith(f"target surface from 8bit input, weights {info['sha256'][:16]}")
    rows = {row.metric: row for row in read_results(stage_folder(config, 6) / "unet" / "training.csv")}
    assert set(rows) == {"seconds", "throughput", "peak_memory", "parameters", "steps", "rmse"}
    validated = rows["rmse"]
    assert (validated.experiment, validated.split, validated.zone, validated.unit) == ("validation", "val", "interior", "mm")
    assert validated.value == pytest.approx(info["val_rmse_mm"], rel=1e-5) and validated.n > 0  # CSVs hold six digits
    assert rows["steps"].value == info["steps_done"] == info["steps"] > 0
    assert rows["parameters"].value == info["parameters"] and rows["seconds"].method == "unet"


def test_network_predictions_are_the_networks_output(config):
    depth_sr.run_stage(config)
    network = load_network(stage_folder(config, 6) / "unet" / "model.safetensors")
    sample, found = prediction(config, "unet")
    expected = network.predict(load_input(config, sample, "8bit"))
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.depth, expected.depth, atol=0.51 * expected.encoding.lsb + 1e-4)


def test_offset_is_fitted_on_train_and_added(config):
    depth_sr.run_stage(config)
    data = json.loads((predictions_folder(config) / "bilinear_offset" / OFFSETS_NAME).read_text())
    assert data["target"] == "surface" and set(data["offsets"]) == {VARIANT}
    offset = data["offsets"][VARIANT]
    assert -2.5 < offset < -0.5  # splats lie 1.2 mm behind
    (_, plain), (_, moved) = prediction(config, "bilinear"), prediction(config, "bilinear_offset")
    np.testing.assert_allclose((moved.depth - plain.depth)[plain.mask], offset, atol=0.01)


def test_finished_work_is_skipped_and_changes_redo_what_depends_on_them(config):
    depth_sr.run_stage(config)
    before = finished_fingerprint(config.run_folder, STAGE_NAMES[6])
    model, network, bilinear, fitted = (
        stamp(config, "unet", "model"), stamp(config, "unet"), stamp(config, "bilinear"), stamp(config, "bilinear_offset"),
    )  # fmt: skip
    config.train.max_seconds, config.train.checkpoint_every = 1e6, 5  # how it runs, not what comes out
    depth_sr.run_stage(config)
    assert finished_fingerprint(config.run_folder, STAGE_NAMES[6]) == before
    assert (model, network) == (stamp(config, "unet", "model"), stamp(config, "unet"))
    config.train.epochs = 3
    depth_sr.run_stage(config)
    assert model != stamp(config, "unet", "model") and network != stamp(config, "unet")
    assert (bilinear, fitted) == (stamp(config, "bilinear"), stamp(config, "bilinear_offset"))
    assert finished_fingerprint(config.run_folder, STAGE_NAMES[6]) != before
    config.train.target = "render"
    depth_sr.run_stage(config)
    assert bilinear == stamp(config, "bilinear") and fitted != stamp(config, "bilinear_offset")
    assert "target render" in prediction(config, "unet")[1].source
    depth_sr.run_stage(config, force=True)
    assert bilinear != stamp(config, "bilinear")


def test_methods_live_side_by_side_and_new_inputs_clear_them(config):
    depth_sr.run_stage(config)
    config.train.method, config.train.target, config.train.baselines = "unet_render", "render", []
    depth_sr.run_stage(config)
    record = json.loads((stage_folder(config, 6) / "stage.json").read_text())
    assert {"unet", "unet_render", "bilinear"} <= {part["name"] for part in record["parts"]}
    assert (predictions_folder(config) / "unet").is_dir()
    upstream = stage_folder(config, 5) / "stage.json"
    write_json(upstream, {**json.loads(upstream.read_text()), "fingerprint": "changed"})
    depth_sr.run_stage(config)
    assert not (predictions_folder(config) / "unet").exists() and (predictions_folder(config) / "unet_render").is_dir()


def test_given_weights_are_applied_without_training(config):
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "unet" / "model.safetensors"
    _, expected = prediction(config, "unet")
    config.train.method, config.train.weights = "given", str(weights)
    depth_sr.run_stage(config)
    np.testing.assert_array_equal(prediction(config, "given")[1].depth, expected.depth)
    assert not (stage_folder(config, 6) / "given").exists()
    config.train.weights = str(weights.with_name("none.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"none.safetensors: no such file"):
        depth_sr.run_stage(config)


def test_only_apply_needs_a_training_and_does_not_train(config):
    config.train.only_apply = True
    with pytest.raises(FileNotFoundError, match=r"model.safetensors: no such file"):
        depth_sr.run_stage(config)
    config.train.only_apply = False
    config.train.apply = False
    depth_sr.run_stage(config)
    assert not predictions_folder(config).exists()
    trained = stamp(config, "unet", "model")
    config.train.only_apply = True
    depth_sr.run_stage(config)
    assert trained == stamp(config, "unet", "model") and prediction(config, "unet")


def test_weights_of_another_factor_are_refused(config):
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "unet" / "model.safetensors"
    config.train.weights = str(weights)
    config.name, config.render.lr_size = "coarse", 8
    write_synthetic_run(config, {"test": 1})
    with pytest.raises(ValueError, match=r"network for scale factor 4, but .* needs 8"):
        depth_sr.run_stage(config)


def test_without_training_subjects(config):
    config.name = "capture"
    write_synthetic_run(config, {"test": 1})
    with pytest.raises(ValueError, match=r"no subject of split 'train', .*--weights FILE, or set train.model.name: none"):
        depth_sr.run_stage(config)
    config.train.model.name = "none"
    lines = depth_sr.run_stage(config)
    assert lines[0].startswith("bilinear_offset: left out")
    assert sorted(path.name for path in predictions_folder(config).iterdir()) == ["bicubic", "bilinear", "nearest", "raw_splat"]


def test_heads_without_pairs_are_taken_from_cleaned_maps(config):
    """Imported splats: no stage 05; the input is quantised from stage 04's map exactly as stage 05 would."""
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "unet" / "model.safetensors"
    sample, expected = prediction(config, "unet")
    pair_folder = sample.path(config, 5)
    bare = replace(config, name="bare", stages=[2, 3, 4, 6, 11], train=replace(config.train, weights=str(weights)))
    write_json(stage_folder(bare, 2) / sample.subject / "subject.json", {"name": sample.subject, "split": "test"})
    for suffix, name in (("hr", "hr_render"), ("lr", "lr_8bit")):
        found = load_depth_png(pair_folder / f"{name}.png")
        maps = {"alpha": found.mask.astype(np.float16), "depth": found.depth, "mask": found.mask}
        save_maps(sample.path(bare, 4, f"_{suffix}.npz"), maps)
    write_json(sample.path(bare, 4).parent / "cameras.json", [load_depth_png(pair_folder / "hr_render.png").camera.to_dict()])
    write_json(stage_folder(bare, 4) / "stage.json", {"state": "done", "fingerprint": "x"})
    depth_sr.run_stage(bare)
    found = load_depth_png(Sample(sample.subject, sample.variant, sample.view).prediction_path(bare, "unet"))
    np.testing.assert_allclose(found.depth, expected.depth, atol=0.01)


def test_a_method_may_not_take_a_baselines_name(config):
    config.train.method = "bilinear"
    with pytest.raises(ValueError, match="'bilinear' is the name of a baseline"):
        depth_sr.run_stage(config)


def write_yaml(config: Config, path: Path) -> Path:
    from dataclasses import asdict

    path.write_text(yaml.safe_dump(asdict(config)))
    return path


def script(yaml_path: Path, *flags: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "scripts" / "06_train_depth_sr.py"), "--config", str(yaml_path), *flags]


def run_script(*arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(script(*arguments), capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_killed_with_sigkill_and_run_again_equals_an_uninterrupted_run(config, tmp_path):
    """Killed twice: in the middle of training, and while predictions are written."""
    config.train = replace(config.train, epochs=80, validate_every=10)
    whole, killed = (replace(config, name=name) for name in ("whole", "killed"))
    for each in (whole, killed):
        write_synthetic_run(each, {"train": 2, "val": 1, "test": 1})
    yamls = [write_yaml(each, tmp_path / f"{each.name}.yaml") for each in (whole, killed)]
    done = run_script(yamls[0])
    assert done.returncode == 0, done.stderr
    folder = stage_folder(killed, 6)
    log, predictions = folder / "unet" / "log.csv", predictions_folder(killed) / "unet" / "test_00"
    for reached in (lambda: log.is_file() and len(log.read_text().splitlines()) > 5, predictions.exists):
        process = subprocess.Popen(script(yamls[1]), env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not reached() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert json.loads((folder / "stage.json").read_text())["state"] == "running"
    done = run_script(yamls[1])
    assert done.returncode == 0, done.stderr
    files = sorted(path.relative_to(stage_folder(whole, 6)) for path in stage_folder(whole, 6).rglob("*.png"))
    assert files == sorted(path.relative_to(folder) for path in folder.rglob("*.png")) and files
    for file in [*files, Path("unet/model.safetensors"), *(file.with_suffix(".json") for file in files)]:
        assert (folder / file).read_bytes() == (stage_folder(whole, 6) / file).read_bytes(), file


@pytest.mark.slow
def test_script_flags_and_errors(config, tmp_path):
    path = write_yaml(config, tmp_path / "tiny.yaml")
    flags = "--model unet --base-ch 2 --epochs 1 --no_amp --method small --lr_input 16bit"
    done = run_script(path, *flags.split())
    assert done.returncode == 0, done.stderr
    info = json.loads((stage_folder(config, 6) / "small" / "model.json").read_text())
    assert info["architecture"]["base_ch"] == 2 and info["lr_input"] == "16bit" and info["epochs_done"] == 1
    done = run_script(path, "--model", "vnet")
    assert done.returncode != 0 and "train.model.name: 'vnet', expected one of unet, edsr" in done.stderr


@pytest.mark.slow
def test_two_processes_under_accelerate_train_together(config, tmp_path):
    """Each process takes its share of the batches, one writes the results. (`accelerate launch` does this for GPUs only.)"""
    config.train.batch_size = 1
    path = write_yaml(config, tmp_path / "tiny.yaml")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, *script(path)[1:]], capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("predictions of unet") == 1
    info = json.loads((stage_folder(config, 6) / "unet" / "model.json").read_text())
    rows = (stage_folder(config, 6) / "unet" / "log.csv").read_text().splitlines()
    # 4 views in batches of 1 on 2 processes: 2 steps an epoch
    assert info["complete"] and rows[-1].startswith("2,4,") and prediction(config, "unet")
