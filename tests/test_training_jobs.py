"""Studies: several trainings in one stage 06, time limits, inputs by name, guides, normals, own targets and seeds."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from splathead import depth_sr
from splathead.checkpoints import load_weights, save_weights
from splathead.config import (
    Config,
    ConfigError,
    ModelConfig,
    PairsConfig,
    RenderConfig,
    SubjectsConfig,
    TrainConfig,
    load_config,
)
from splathead.evaluation import depth as depth_evaluation
from splathead.evaluation.views import predicted_methods
from splathead.gpu_assignment import visible_gpu
from splathead.guides import GUIDE_CHANNELS, guide_channels
from splathead.images import DepthEncoding, load_depth_png, write_json
from splathead.maps.low_resolution import load_low_resolution
from splathead.models.unet import UNetArchitecture, create
from splathead.results import read_results
from splathead.samples import list_samples, predictions_folder, stage_folder
from splathead.stages import Stage
from splathead.subjects.collect import plan_subjects
from splathead.synthetic import synthetic_view, write_synthetic_run
from splathead.time_limit import DEADLINE, TimeLimitReached
from splathead.training import jobs as training_jobs
from splathead.training import loading as training_loading
from splathead.training.data import Crop, PairSet, epoch_plan
from splathead.training.jobs import is_trained, make_job, study_jobs, train_jobs
from splathead.training.loading import DataKey
from splathead.training.objective import cosine_rate
from splathead.training.pairs import make_pair
from splathead.training.state import TrainingError, training_settings

pytestmark = pytest.mark.usefixtures("single_thread")
CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path) -> Config:
    train = TrainConfig(
        model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), steps=4, epochs=2, batch_size=2, grad_accum=1, crop=32,
        full_frame_share=0.5, learning_rate=5e-3, loss_scale="lsb", baselines=["bilinear", "bilinear_offset", "raw_splat"],
    )  # fmt: skip
    made = Config(
        name="study", runs_dir=str(tmp_path), device="cpu", train=train, render=RenderConfig(lr_size=16),
        subjects=SubjectsConfig(map_size=64, map_yaws=[-15.0, 15.0]), pairs=PairsConfig(interior_px=2),
        trainings=[
            {"method": "unet", "target": "surface"}, {"method": "unet", "target": "surface", "seed": 1},
            {"method": "unet", "target": "render"}, {"method": "wide", "model": {"base_ch": 8}},
        ],
    )  # fmt: skip
    write_synthetic_run(made, {"train": 2, "val": 1, "test": 2})
    for path in stage_folder(made, 1).glob("*/subject.json"):
        info = json.loads(path.read_text())
        write_json(path, info | {"identity": info["name"], "scale": "metric", "diagonal_mm": 350.0})
    return made


@pytest.fixture
def no_deadline():
    yield DEADLINE
    DEADLINE.set(0)


def test_every_training_of_a_study_is_trained_and_predicts(config):
    depth_sr.run_stage(config)
    names = {"unet-surface", "unet-surface+seed1", "unet-render", "wide-surface"}
    root = stage_folder(config, 6)
    for name in names:
        info = json.loads((root / name / "model.json").read_text())
        assert info["complete"] and info["epochs_done"] == 2 and (root / name / "model_fp16.safetensors").is_file()
    assert json.loads((root / "wide-surface" / "model.json").read_text())["architecture"]["base_ch"] == 8
    methods = {method.folder: method for method in predicted_methods(config)}
    assert set(methods) == names | {"bilinear", "bilinear_offset-surface", "bilinear_offset-render", "raw_splat"}
    assert methods["unet-surface+seed1"].name == "unet" and methods["unet-surface+seed1"].seed == 1
    offsets = [json.loads((predictions_folder(config) / f"bilinear_offset-{t}" / "offsets.json").read_text())
               for t in ("surface", "render")]  # fmt: skip
    values = [next(iter(record["offsets"].values())) for record in offsets]
    assert values[0] < -1 and abs(values[1]) < 0.5 * abs(values[0])  # splats lie behind the surface, and on themselves


def test_trainings_are_scored_on_their_own_target_with_their_seed(config):
    depth_sr.run_stage(config)
    depth_evaluation.run_stage(config)
    rows = read_results(stage_folder(config, 7) / "depth.csv")
    rmse = [r for r in rows if (r.metric, r.zone, r.views, r.method) == ("rmse", "interior", "all", "unet") and not r.method_b]
    assert sorted((row.target, row.seed) for row in rmse) == [("render", 0), ("surface", 0), ("surface", 1)]
    pairs = {(r.method, r.method_b, r.target) for r in rows if r.method_b}
    assert ("wide", "unet", "surface") in pairs and ("wide", "unet", "render") not in pairs
    assert ("unet", "bilinear_offset", "render") in pairs and ("unet", "unet", "surface") not in pairs


def test_a_finished_training_is_kept_and_a_new_one_added(config):
    depth_sr.run_stage(config)
    path = stage_folder(config, 6) / "unet-render" / "model.safetensors"
    before = path.stat().st_mtime_ns
    config.trainings.append({"method": "long", "steps": 6})
    depth_sr.run_stage(config)
    assert path.stat().st_mtime_ns == before and (stage_folder(config, 6) / "long-surface" / "model.json").is_file()


def test_time_limit_ends_between_steps_and_resumes(config, no_deadline):
    whole = replace(config, runs_dir=config.runs_dir + "/whole")
    write_synthetic_run(whole, {"train": 2, "val": 1, "test": 2})
    depth_sr.run_stage(whole)
    no_deadline.set(1e-3)
    with pytest.raises(TimeLimitReached, match=r"4 of 4 trainings left"):
        depth_sr.run_stage(config)
    no_deadline.set(0)
    depth_sr.run_stage(config)
    for name in ("unet-surface", "wide-surface"):
        digests = [json.loads((stage_folder(c, 6) / name / "model.json").read_text())["sha256"] for c in (config, whole)]
        assert digests[0] == digests[1]


def only(config: Config, *names: str) -> Config:
    """The configuration with some of its trainings."""
    jobs = study_jobs(config, stage_folder(config, 6))
    return replace(config, trainings=[entry for job, entry in zip(jobs, config.trainings) if job.name in names])


def stage_06(config: Config) -> dict:
    return json.loads((stage_folder(config, 6) / "stage.json").read_text())


def test_a_study_goes_on_with_the_trainings_that_are_finished(config, no_deadline):
    with pytest.raises(RuntimeError, match=r"--finished_only: none of the 4 trainings of 06_train_depth_sr is finished"):
        depth_sr.run_stage(replace(config, finished_only=True))
    short = only(config, "unet-surface", "unet-render")
    depth_sr.run_stage(short)
    no_deadline.set(1e-3)
    with pytest.raises(TimeLimitReached, match=r"2 of 4 trainings left \(unet-surface\+seed1, wide-surface\); .*finished_only"):
        depth_sr.run_stage(config)
    no_deadline.set(0)
    assert stage_06(config)["state"] == "running"
    with pytest.raises(RuntimeError, match="has not finished"):
        depth_evaluation.run_stage(config)
    checkpoint = stage_folder(config, 6) / "wide-surface" / "checkpoint.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text("half a training")

    lines = depth_sr.run_stage(replace(config, finished_only=True))
    assert any("without 2 trainings that are not finished (unet-surface+seed1, wide-surface)" in line for line in lines)
    first = stage_06(config)
    assert first["state"] == "done" and first["missing"] == ["unet-surface+seed1", "wide-surface"]
    assert checkpoint.read_text() == "half a training"
    checkpoint.unlink()
    depth_evaluation.run_stage(config)
    scored = stage_folder(config, 7) / "depth.csv"
    assert {(r.method, r.seed) for r in read_results(scored) if r.method in ("unet", "wide")} == {("unet", 0)}
    before = json.loads((scored.parent / "stage.json").read_text())["fingerprint"]

    depth_sr.run_stage(config)  # trains the rest
    assert stage_06(config)["missing"] == [] and stage_06(config)["fingerprint"] != first["fingerprint"]
    depth_evaluation.run_stage(config)
    assert json.loads((scored.parent / "stage.json").read_text())["fingerprint"] != before
    assert {(r.method, r.seed) for r in read_results(scored) if r.method in ("unet", "wide")} == {
        ("unet", 0), ("unet", 1), ("wide", 0),
    }  # fmt: skip


def test_what_was_trained_with_other_settings_is_not_finished_and_its_predictions_go(config):
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "wide-surface" / "model.safetensors"
    config.trainings[3]["learning_rate"] = 1e-3
    depth_sr.run_stage(replace(config, finished_only=True))
    assert stage_06(config)["missing"] == ["wide-surface"] and weights.is_file()  # cleared when it is trained, not before
    assert "wide-surface" not in {method.folder for method in predicted_methods(config)}


def test_a_training_that_its_own_limit_ended_counts_and_says_its_steps(config):
    config.trainings = [{"method": "capped", "max_seconds": 1e-6}, {"method": "unet"}]
    lines = depth_sr.run_stage(config)
    info = json.loads((stage_folder(config, 6) / "capped-surface" / "model.json").read_text())
    assert not info["complete"] and (info["steps_done"], info["steps"]) == (0, 4)
    assert any("ended by train.max_seconds after 0 of 4 steps" in line for line in lines)
    rows = {row.metric: row.value for row in read_results(stage_folder(config, 6) / "capped-surface" / "training.csv")}
    assert rows["steps"] == 0
    assert stage_06(config)["state"] == "done" and stage_06(config)["missing"] == []
    assert "capped-surface" in {method.folder for method in predicted_methods(config)}
    config.trainings[0]["max_seconds"] = 0.0  # a larger limit goes on
    depth_sr.run_stage(config)
    info = json.loads((stage_folder(config, 6) / "capped-surface" / "model.json").read_text())
    assert info["complete"] and info["steps_done"] == 4


def test_items_stop_at_the_time_limit(tmp_path, no_deadline):
    stage = Stage.open(tmp_path, "01_things", {})
    no_deadline.set(1e-6)
    with pytest.raises(TimeLimitReached, match="3 of 3 left"):
        stage.run_items(lambda item, out: None, ["a", "b", "c"])
    no_deadline.set(0)
    stage.run_items(lambda item, out: None, ["a", "b", "c"])
    assert all(stage.item_done(item) for item in "abc")


def test_bad_trainings_are_named(config):
    with pytest.raises(ConfigError, match=r"trainings\[0\]: unknown key metod; the nearest valid key is method"):
        study_jobs(replace(config, trainings=[{"metod": "unet"}]), stage_folder(config, 6))
    with pytest.raises(ValueError, match="'unet-surface' occurs twice"):
        study_jobs(replace(config, trainings=[{}, {}]), stage_folder(config, 6))
    job = make_job(config, stage_folder(config, 6), {"seed": 2, "model": {"icnr": True}}, "x")
    assert job.config.seed == 2 and job.config.train.model.base_ch == 4 and job.config.train.model.icnr
    assert not config.train.model.icnr and config.seed == 0


def test_inputs_by_name(config):
    folder = list_samples(config, 5)[0].path(config, 5)
    float_map, eight = load_low_resolution(folder, "16bit"), load_low_resolution(folder, "8bit")
    six = load_low_resolution(folder, "6bit")
    assert six.encoding.bits == 6 and np.array_equal(six.mask, float_map.mask)
    assert np.abs(six.depth - float_map.depth)[six.mask].max() <= six.encoding.lsb / 2 + 1e-3
    assert np.abs(eight.depth - float_map.depth)[eight.mask].max() <= eight.encoding.lsb / 2 + 1e-3
    area, noisy = load_low_resolution(folder, "area"), load_low_resolution(folder, "bicubic_noise", seed=1)
    high = load_depth_png(folder / "hr_render.png")
    whole = high.mask.reshape(16, 4, 16, 4).all((1, 3)) & area.mask
    mean = high.depth.reshape(16, 4, 16, 4).mean((1, 3))
    np.testing.assert_allclose(area.depth[whole], mean[whole], atol=1e-3)
    assert np.array_equal(noisy.depth, load_low_resolution(folder, "bicubic_noise", seed=1).depth)
    assert not np.array_equal(noisy.depth, load_low_resolution(folder, "bicubic_noise", seed=2).depth)
    assert load_low_resolution(folder, "bicubic_8bit").encoding.bits == 8
    assert isinstance(area.encoding, DepthEncoding) and area.camera.width == 16


def test_guides_and_normals_follow_crop_and_mirror():
    view = synthetic_view(0, size=64)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    normals = np.zeros((64, 64, 3), np.int8)
    normals[..., 0], normals[..., 2] = 76, -102  # x right, towards the camera
    pairs = PairSet([make_pair("x", view["lr_8bit"], view["surface"], guides={"rgb": rgb}, normals=normals)], CPU)
    plain, mirrored = (pairs.batch([Crop(0, 4, 5, flip)], 32) for flip in (False, True))
    assert plain.guides.shape == (1, 3, 32, 32) and plain.normals.shape == (1, 3, 32, 32)
    cut = rgb[16:48, 20:52].transpose(2, 0, 1) / 255.0
    stored = plain.guides[0].abs().sum(0) > 0
    np.testing.assert_allclose(plain.guides[0][:, stored].numpy(), cut[:, stored.numpy()], atol=1e-6)
    assert stored[(plain.mask[0, 0] > 0)].all()
    assert torch.equal(mirrored.guides, plain.guides.flip(-1)) and torch.equal(mirrored.target01, plain.target01.flip(-1))
    assert torch.equal(mirrored.normals[:, 0], -plain.normals[:, 0].flip(-1))
    assert torch.equal(mirrored.normals[:, 2], plain.normals[:, 2].flip(-1))
    assert pairs.batch([Crop(0, 0, 0, False)], 0).guides.shape[-1] == 64


def test_plan_of_a_number_of_steps():
    view = synthetic_view(0, size=64)
    pairs = PairSet([make_pair(str(i), view["lr_8bit"], view["surface"]) for i in range(3)], CPU)
    plan = epoch_plan(pairs, epoch=1, seed=0, batch_size=4, crop=32, batches=5)
    assert [len(batch) for batch in plan] == [4] * 5
    counts = np.bincount([crop.index for batch in plan for crop in batch], minlength=3)
    assert counts.max() - counts.min() <= 1


def test_normal_head_has_the_published_size_and_learns_unit_normals():
    network = create(UNetArchitecture(normal_head=True))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 7_774_820
    small = create(UNetArchitecture(base_ch=2, normal_head=True))
    depth, normals = small(torch.rand(1, 1, 16, 16), with_normals=True)
    assert depth.shape == (1, 1, 64, 64) and torch.allclose(normals.norm(dim=1), torch.ones(1, 64, 64), atol=1e-5)


def test_two_head_models_share_every_split():
    plans = plan_subjects(Config(subjects=SubjectsConfig(source="ict+anny", path="x", count=21, val=4, test=6)))
    counts: dict = {}
    for plan in plans.values():
        counts[plan.label.source, plan.label.split] = counts.get((plan.label.source, plan.label.split), 0) + 1
    assert counts == {
        ("ict", "train"): 6, ("ict", "val"): 2, ("ict", "test"): 3,
        ("anny", "train"): 5, ("anny", "val"): 2, ("anny", "test"): 3,
    }  # fmt: skip
    assert len({plan.label.seed for plan in plans.values()}) == 21


def test_unknown_guides_are_named():
    assert guide_channels(tuple(GUIDE_CHANNELS)) == 12
    with pytest.raises(ValueError, match="guide 'depth', expected one of rgb"):
        guide_channels(("depth",))


def test_a_training_of_other_settings_does_not_count_when_time_is_up(config, no_deadline):
    depth_sr.run_stage(config)
    config.trainings[0]["learning_rate"] = 1e-3
    no_deadline.set(1e-3)
    with pytest.raises(TimeLimitReached, match="1 of 4 trainings left"):
        depth_sr.run_stage(config)
    assert not (stage_folder(config, 6) / "unet-surface" / "model.safetensors").exists()


@pytest.fixture
def two_fits(config) -> Config:
    """The run with a second fit of every head, and a training on each choice of fits."""
    for folder in stage_folder(config, 5).glob("*/regularised-classic"):
        shutil.copytree(folder, folder.with_name("few_views-classic"))
    config.trainings = [{"method": "both"}, {"method": "few", "fits": ["few_views"]}]
    config.train.baselines = ["bilinear"]
    return config


def test_a_training_sees_its_fits_and_another_choice_is_another_training(two_fits, monkeypatch):
    loaded, real = [], training_loading.load_pairs

    def load(config, samples, **options):
        loaded.append((tuple(config.train.fits), {sample.fit for sample in samples}, len(samples)))
        return real(config, samples, **options)

    monkeypatch.setattr(training_loading, "load_pairs", load)
    depth_sr.run_stage(two_fits)
    both, few = {"few_views", "regularised"}, ("few_views",)
    assert loaded == [((), both, 8), ((), both, 4), (few, {"few_views"}, 4), (few, {"few_views"}, 2)]  # train, val
    records = {job.name: job.folder for job in study_jobs(two_fits, stage_folder(two_fits, 6))}
    info = json.loads((records["few-surface"] / "model.json").read_text())
    assert info["settings"]["fits"] == ["few_views"] and info["images_per_second"] > 0
    assert "fits" not in training_settings(two_fits.train)  # trainings from before there was a choice stay finished

    two_fits.trainings[1]["fits"] = ["regularised"]
    before = (records["both-surface"] / "model.safetensors").stat().st_mtime_ns
    depth_sr.run_stage(two_fits)
    assert loaded[4:] == [(("regularised",), {"regularised"}, 4), (("regularised",), {"regularised"}, 2)]
    assert (records["both-surface"] / "model.safetensors").stat().st_mtime_ns == before


@pytest.fixture
def started(config) -> Config:
    """A study of one training, which is done, and one that starts from its weights (with no step that changes them)."""
    first = {"method": "first", "target": "surface"}
    config.trainings = [first]
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "first-surface" / "model.safetensors"
    config.trainings = [first, {"method": "on", "init_weights": str(weights), "learning_rate": 1e-30}]
    return config


def test_a_training_starts_from_given_weights_wherever_they_lie(started, tmp_path):
    lines = depth_sr.run_stage(started)
    folder = stage_folder(started, 6)
    (first, info), (on, described) = (load_weights(folder / f"{name}-surface/model.safetensors") for name in ("first", "on"))
    learnt = [name for name in first if name.endswith((".weight", ".bias"))]  # running statistics move with the data
    assert first.keys() == on.keys() and all(torch.equal(first[name], on[name]) for name in learnt)
    assert described["settings"]["init_weights"] == info["sha256"] and "init_weights" not in info["settings"]
    assert described["initial_rmse_mm"] == pytest.approx(info["val_rmse_mm"]) and info["initial_rmse_mm"] is None
    assert any(f"from weights {info['sha256'][:16]}" in line and f"{info['val_rmse_mm']:.3f} before" in line for line in lines)

    for suffix in (".safetensors", ".json"):
        shutil.copy(folder / f"first-surface/model{suffix}", tmp_path / f"moved{suffix}")
    started.trainings[1]["init_weights"] = str(tmp_path / "moved.safetensors")
    (job,) = (job for job in study_jobs(started, folder) if job.method == "on")
    record = json.loads((job.folder / "stage.json").read_text())
    depth_sr.run_stage(started)
    assert json.loads((job.folder / "stage.json").read_text()) == record  # not trained again

    weights, info = load_weights(tmp_path / "moved.safetensors")
    del info["sha256"]
    save_weights(tmp_path / "moved.safetensors", {name: 2 * tensor for name, tensor in weights.items()}, info)
    depth_sr.run_stage(started)
    doubled = load_weights(job.folder / "model.safetensors")[0]
    assert all(torch.equal(doubled[name], 2 * first[name]) for name in learnt)


def test_initial_weights_that_training_makes_worse_are_kept(started):
    started.trainings[1]["learning_rate"] = 0.5
    depth_sr.run_stage(started)
    folder = stage_folder(started, 6)
    (first, _), (on, described) = (load_weights(folder / f"{name}-surface/model.safetensors") for name in ("first", "on"))
    assert described["best_epoch"] == 0 and described["val_rmse_mm"] == described["initial_rmse_mm"]
    assert all(torch.equal(first[name], on[name]) for name in first)


def test_initial_weights_of_another_network_are_named(started):
    started.trainings[1]["model"] = {"base_ch": 8}
    started.trainings.insert(1, {"method": "between", "target": "surface"})
    with pytest.raises(ValueError, match=r"train\.init_weights: .*: weights of another network \(base_ch 4, expected 8\)"):
        depth_sr.run_stage(started)
    assert not (stage_folder(started, 6) / "between-surface").exists()  # nothing is trained before this is known


def test_unknown_fits_are_named_before_anything_is_trained(two_fits):
    two_fits.trainings[1]["fits"] = ["few_views", "vanilla"]
    with pytest.raises(ValueError, match=r"train.fits: no sample of fit 'vanilla', there are samples of few_views, reg"):
        depth_sr.run_stage(two_fits)
    assert not (stage_folder(two_fits, 6) / "both-surface").exists()
    two_fits.evaluate.fits = ["vanilla"]
    with pytest.raises(ValueError, match=r"evaluate.fits: no sample of fit 'vanilla', there are samples of few_views, reg"):
        depth_sr.run_stage(only(two_fits, "both-surface"))


def test_only_the_fits_to_evaluate_are_predicted_and_scored(two_fits):
    two_fits.trainings, two_fits.evaluate.fits = two_fits.trainings[:1], ["few_views"]
    depth_sr.run_stage(two_fits)
    assert {path.name for path in predictions_folder(two_fits).glob("*/*/*-classic")} == {"few_views-classic"}
    depth_evaluation.run_stage(two_fits)
    scored = stage_folder(two_fits, 7) / "depth.csv"
    assert {row.fit for row in read_results(scored)} == {"few_views"}
    two_fits.evaluate.fits = []
    depth_sr.run_stage(two_fits)
    depth_evaluation.run_stage(two_fits)
    assert {row.fit for row in read_results(scored)} == {"few_views", "regularised"}


def test_weights_given_as_a_file_have_the_name_that_was_asked_for(config):
    depth_sr.run_stage(config)
    weights = stage_folder(config, 6) / "unet-surface+seed1" / "model.safetensors"
    other = replace(config, trainings=[], train=replace(config.train, weights=str(weights), method="mine"))
    depth_sr.run_stage(other)
    mine = next(method for method in predicted_methods(other) if method.folder == "mine")
    assert (mine.name, mine.target) == ("mine", "")  # scored on every target
    study = replace(config, trainings=[], train=replace(config.train, weights=str(stage_folder(config, 6))))
    depth_sr.run_stage(study)
    again = {method.folder: method for method in predicted_methods(study)}["unet-surface+seed1"]
    assert (again.name, again.target, again.seed) == ("unet", "surface", 1)


def test_noise_follows_the_seed_of_its_training(config):
    for name, differs in (("bicubic_noise", True), ("8bit", False)):
        jobs = [make_job(config, stage_folder(config, 6), {"lr_input": name, "seed": seed}, "x") for seed in (0, 1)]
        keys = [DataKey(job.config, ()) for job in jobs]
        assert (keys[0] != keys[1]) == differs


def test_workers_take_gpus_that_this_process_may_use(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpu(3) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-ab")
    assert [visible_gpu(0), visible_gpu(1)] == ["5", "GPU-ab"]


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"target": "surfce"}, r"trainings\[0\]: train.target: 'surfce', expected one of surface, render"),
        ({"model": {"nme": "unet"}}, r"trainings\[0\]: unknown key model.nme; the nearest valid key is model.name"),
        ({"model": {"normal_head": True}}, r"normal_head True of unet, train.normal_target ''"),
        ({"model": {"name": "edsr", "normal_head": True}, "normal_target": "surface"}, "and the unet"),
    ],
)
def test_trainings_are_checked_when_the_file_is_read(tmp_path, entry, message):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"schema": 1, "trainings": [entry]}))
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_cost_of_an_interrupted_session_counts(tmp_path, no_deadline):
    stage = Stage.open(tmp_path, "01_things", {})
    stage._started -= 5.0
    no_deadline.set(1e-6)
    with pytest.raises(TimeLimitReached):
        stage.run_items(lambda item, out: None, ["a"])
    assert json.loads((tmp_path / "01_things" / "stage.json").read_text())["seconds"] >= 5.0
    assert Stage.open(tmp_path, "01_things", {}).record["seconds"] >= 5.0


def test_a_training_that_diverges_stops_none_of_the_others(config, monkeypatch):
    samples = {split: list_samples(config, 5, splits=(split,)) for split in ("train", "val")}
    jobs = [make_job(config, stage_folder(config, 6), {"method": name}, "x") for name in ("first", "second")]
    real = training_jobs.train_job

    def train(job, *rest):
        if job.name.startswith("first"):
            raise TrainingError("training diverged: 20 of the last 20 losses are not finite")
        real(job, *rest)

    monkeypatch.setattr(training_jobs, "train_job", train)
    with pytest.raises(TrainingError, match=r"^first-\w+: training diverged.*--finished_only goes on without"):
        train_jobs(jobs, "upstream", samples)
    assert [is_trained(job) for job in jobs] == [False, True]


def test_warm_up_rises_to_the_schedule():
    rates = [cosine_rate(1.0, step, 1000, 10) for step in range(12)]
    assert rates[0] == pytest.approx(0.1) and all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert rates[10:] == [cosine_rate(1.0, step, 1000) for step in (10, 11)]
