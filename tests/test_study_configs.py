"""The study's runs on real heads: their configurations load and ask for the subjects that they promise."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY

from splathead.config import Config, load_config
from splathead.enhance.views import DIRECTIONS
from splathead.models import network_guides
from splathead.shipped import surface_weights
from splathead.subjects.collect import plan_subjects
from splathead.subjects.importer import find_splats, import_subject
from splathead.training.initial import initial_weights
from splathead.training.jobs import study_jobs
from splathead.training.state import training_settings

RUNS = {"paper_scan": "lee_perry_smith", "paper_capture": "facelift_sample", "paper_lam": "lam_heads"}
"""Configuration -> folder of its data below <shared>/data"""


def study_config(name: str) -> Config:
    return load_config(REPOSITORY / "configs" / f"{name}.yaml")


def real_data(shared: Path, name: str) -> str:
    folder = shared / "data" / RUNS[name]
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return str(folder)


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_trained_and_the_networks_of_the_study_are_used(name):
    config = study_config(name)
    assert config.name == name and config.train.model.name == "none" and not config.trainings
    assert config.train.weights == "runs/paper/06_train_depth_sr"
    assert len(config.subjects.map_yaws) >= 5 and {5, 6, 7, 11} <= set(config.stages)
    assert config.subjects.map_size // config.render.lr_size == 4
    networks = {job.name for job in study_jobs(study_config("paper"), Path("runs"))} | {"splathead_guided-surface"}
    fused = set(config.fuse.methods) - set(config.train.baselines)  # agreement between views is judged for networks, too
    assert {"splathead-surface", "unet-surface"} < fused <= networks
    assert config.evaluate.error_budget == ("surface" in config.evaluate.targets)  # it needs a true surface


def test_the_study_trains_what_its_main_table_needs_first_and_the_costly_ones_last():
    config = study_config("paper")
    jobs = study_jobs(config, Path("runs"))
    names = [job.name for job in jobs]
    essential = {
        f"{m}-{t}" for m in ("unet", "srresnet", "edsr", "swinir", "splathead", "unet_guided") for t in ("surface", "render")
    }
    assert len(names) == 51 and set(names[:12]) == essential
    assert all(len([n for n in names if n.startswith(f"{m}-")]) == 6 for m in ("unet", "unet_guided", "splathead"))  # seeds
    ours = {job.method: job.config.train for job in jobs if job.method.startswith("splathead")}
    longest = {"splathead_longest", "splathead_mix", "splathead_fits"}
    assert {job.config.train.steps for job in jobs if job.method.endswith("_longest")} == {ours["splathead_longest"].steps}
    long = {"splathead_long", "splathead_mix_longer", *longest}
    assert {train.steps for method, train in ours.items() if method not in long} == {config.train.steps}
    assert len({ours[method].steps for method in longest}) == 1  # they differ in their data alone
    assert {ours["splathead_long"].steps} == {job.config.train.steps for job in jobs if job.method == "unet_long"}
    last = ["sgnet-surface", "sgnet-render", "unet_long-surface"]
    last += [f"{method}_longest-render" for method in ("unet", "unet_guided", "splathead")]
    assert names[-7:] == [*last, "splathead_mix_longer-surface"]
    assert {job.config.train.max_seconds for job in jobs} == {0.0, 150.0}
    assert all((job.method == "sgnet") == (job.config.train.max_seconds > 0) for job in jobs)
    assert sorted(n for n in names if n.startswith("unet-")) == sorted(
        f"unet-{t}{seed}" for t in ("surface", "render") for seed in ("", "+seed1", "+seed2")
    )
    trains = [job.config.train for job in jobs]
    data = [(t.target, t.normal_target, network_guides(t.model), t.model.range_mm) for t in trains]
    assert len([1 for one, other in itertools.pairwise(data) if one != other]) == 27  # one GPU reads new data so often


def test_two_of_the_studys_fits_are_kept_from_most_networks_and_tested_on():
    paper, config = study_config("paper"), study_config("paper_fits")
    assert replace(config.subjects, splits=paper.subjects.splits) == paper.subjects and config.subjects.splits == ["test"]
    for section in ("render", "pairs", "seed"):
        assert getattr(config, section) == getattr(paper, section)
    seen, unseen = ["vanilla", "regularised"], ["few_views", "few_gaussians"]
    fit = config.reconstruct.fit
    assert replace(fit, presets=seen + unseen) == paper.reconstruct.fit and fit.presets == unseen
    assert config.reconstruct.fits == "runs/paper/02_reconstruct_gaussians"  # the study's fits
    assert config.train.weights == "runs/paper/06_train_depth_sr" and not config.trainings
    assert paper.evaluate.fits == seen
    trains = {job.name: job.config.train for job in study_jobs(paper, Path("runs"))}
    assert {name for name, train in trains.items() if train.fits != seen} == {"splathead_fits-surface"}
    longest, mixture, more = (trains[f"splathead_{name}-surface"] for name in ("longest", "mix", "fits"))
    assert mixture == replace(longest, method="splathead_mix", lr_mixture=mixture.lr_mixture) and mixture.lr_mixture
    longer = trains["splathead_mix_longer-surface"]
    assert longer == replace(mixture, method="splathead_mix_longer", steps=longer.steps) and longer.steps > mixture.steps
    assert more == replace(mixture, method="splathead_fits", fits=seen + unseen)


def test_the_published_schedule_runs_on_the_studys_heads():
    paper, published, config = study_config("paper"), study_config("laptop_8gb"), study_config("paper_long")
    assert config.subjects == paper.subjects and config.render == paper.render and config.seed == paper.seed
    assert replace(config.reconstruct.fit, presets=paper.reconstruct.fit.presets) == paper.reconstruct.fit
    assert config.reconstruct.fits == "runs/paper/02_reconstruct_gaussians" and config.reconstruct.fit.presets == ["vanilla"]
    train = config.train
    assert train.method == "unet_epochs" and not config.trainings and not train.steps and not train.crop
    schedule = ("epochs", "batch_size", "grad_accum", "learning_rate", "weight_decay", "amp", "max_gpu_memory_gb")
    for key in ("model", "target", *schedule):
        assert getattr(train, key) == getattr(published.train, key), key


def test_what_is_seen_from_all_around_is_the_studys_heads_and_the_training_that_of_its_longest_mixture():
    paper, config = study_config("paper"), study_config("paper_around")
    angles = {"map_yaws": config.subjects.map_yaws, "map_elevations": config.subjects.map_elevations}
    assert replace(paper.subjects, **angles) == config.subjects and config.seed == paper.seed
    for section in ("render", "pairs", "postprocess"):
        assert getattr(config, section) == getattr(paper, section)
    assert replace(config.reconstruct.fit, presets=paper.reconstruct.fit.presets) == paper.reconstruct.fit
    assert config.reconstruct.fits == "runs/paper/02_reconstruct_gaussians"
    scratch, tuned = study_jobs(config, Path("runs"))
    (longest,) = (job for job in study_jobs(paper, Path("runs")) if job.method == "splathead_mix_longer")
    train, expected = scratch.config.train, longest.config.train
    same = {key: getattr(train, key) for key in ("method", "baselines", "multiview", "interval", "val_views", "fits")}
    assert train == replace(expected, **same)
    on = tuned.config.train
    assert on == replace(train, method=on.method, init_weights=on.init_weights, learning_rate=on.learning_rate)
    assert on.init_weights == f"runs/paper/06_train_depth_sr/{longest.name}/model_fp16.safetensors"
    assert config.reconstruct.fit.presets == expected.fits
    for yaw, elevation in DIRECTIONS[:8]:  # each view of the tool has one nearby
        assert min(abs(yaw - other) for other in config.subjects.map_yaws) <= 15
        assert min(abs(elevation - other) for other in config.subjects.map_elevations) <= 15


def test_the_shipped_network_is_trained_further_as_it_was_trained(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    config, around = study_config("finetune"), study_config("paper_around")
    assert initial_weights(config.train)  # of this very network
    shipped = json.loads(surface_weights().with_suffix(".json").read_text())
    own, theirs = training_settings(config.train), shipped["settings"]
    assert own["init_weights"] == shipped["sha256"]
    differing = {key for key in {*own, *theirs} if own.get(key) != theirs.get(key)}
    assert differing == {"init_weights", "steps", "validate_every", "learning_rate", "val_views"}
    for key in ("map_yaws", "map_elevations", "fit_size", "fit_views", "init_points"):
        assert getattr(config.subjects, key) == getattr(around.subjects, key)


def test_fits_of_the_scan_are_several_subjects_of_one_person(shared_data):
    config = study_config("paper_scan")
    config.subjects.path = real_data(shared_data, "paper_scan")
    labels = [plan.label for plan in plan_subjects(config).values()]
    assert [label.name for label in labels] == [f"LeePerrySmith_s{k}" for k in range(6)]
    assert {(label.identity, label.split, label.scale) for label in labels} == {("LeePerrySmith", "test", "nominal")}
    assert len({label.seed for label in labels}) == 6


def test_the_capture_is_one_test_subject(shared_data):
    config = study_config("paper_capture")
    config.subjects.path = real_data(shared_data, "paper_capture")
    (label,) = (plan.label for plan in plan_subjects(config).values())
    assert (label.name, label.split, label.scale) == ("sample_000", "test", "nominal")


def test_lam_heads_are_imported_with_their_views(shared_data, tmp_path):
    config = study_config("paper_lam")
    files = find_splats(Path(real_data(shared_data, "paper_lam")))
    assert len(files) == 2
    name, path = next(iter(files.items()))
    report = import_subject(path, tmp_path, config, name=name)
    assert report.subject == name and not any("WARNING" in line for line in report.lines)
    assert (tmp_path / "import" / "gaussians.ply").is_file()


def test_repeats_are_of_scans_only(tmp_path):
    config = Config()
    config.subjects.source, config.subjects.path, config.subjects.repeats = "scan", str(tmp_path), 2
    for name in ("a.ply", "b.ply"):
        (tmp_path / name).write_bytes(b"x")
    config.subjects.val, config.subjects.test = 0, 1
    plans = plan_subjects(config)
    assert list(plans) == ["a_s0", "a_s1", "b_s0", "b_s1"]
    assert all(plans[f"{who}_s0"].label.split == plans[f"{who}_s1"].label.split for who in "ab")  # a person is in one split
    assert len({plan.label.seed for plan in plans.values()}) == 4
    config.subjects.repeats = 0
    with pytest.raises(ValueError, match=r"subjects\.repeats: 0 with source scan, expected 1"):
        plan_subjects(config)
    (tmp_path / "transforms.json").write_text("{}")
    config.subjects.source, config.subjects.repeats = "capture", 2
    with pytest.raises(ValueError, match=r"subjects\.repeats: 2 with source capture"):
        plan_subjects(config)


def test_bare_heads_are_test_heads_of_the_study_without_hair():
    bare, paper = study_config("paper_bare"), study_config("paper")
    same = ("path", "splits", "hair_fraction", "collar_fraction", "source", "count", "val", "test")
    alike = {name: value for name, value in vars(paper.subjects).items() if name not in same}
    assert alike.items() <= vars(bare.subjects).items()
    assert (bare.subjects.hair_fraction, bare.subjects.collar_fraction) == (0, 0) and bare.subjects.splits == ["test"]
    known = json.loads((REPOSITORY / "eval" / "splits.json").read_text())["paper"]["test"]
    half = paper.subjects
    assert (bare.subjects.count, bare.subjects.test) == (half.count // 2, half.test // 2)
    plans = plan_subjects(replace(bare, subjects=replace(bare.subjects, path="")))
    assert sorted(plans) == sorted(name for name in known if name.startswith("ict"))
    assert bare.train.weights == "runs/paper/06_train_depth_sr" and not bare.trainings
