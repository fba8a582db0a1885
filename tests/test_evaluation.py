"""Stages 07 and 08 on a run with planted prediction errors: the files hold the planted numbers."""

from __future__ import annotations

import csv
import functools
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth, ellipsoid_mesh
from conftest import REPOSITORY

from splathead.cameras import Camera, orbit_camera
from splathead.config import Config
from splathead.evaluation import depth, mesh
from splathead.evaluation.rows import _references
from splathead.evaluation.summary import verdict
from splathead.evaluation.views import Method, View, predicted_methods, spread_views
from splathead.fusion.files import save_mesh
from splathead.fusion.surface import FusedMesh
from splathead.images import DepthEncoding, DepthMap, load_depth_png, save_depth_png, write_json
from splathead.metrics.mesh import CURVE_MM
from splathead.results import ResultRow, read_results
from splathead.samples import STAGE_NAMES, Sample, predictions_folder, stage_folder

SIZE, LOW = 160, 40
YAWS = {"front": 5.0, "left": 35.0, "right": -35.0}
VARIANT = "regularised-classic"
HEADS = {"head_a": 0.96, "head_b": 1.0, "head_c": 1.05}
UNET_MM = {"head_a": 0.2, "head_b": 0.3, "head_c": 0.4}
BILINEAR_MM, SPLAT_MM, TURNED_MM = 1.0, 1.5, 0.6
"""offsets of bilinear and of the splats; what the network adds in the views that are not frontal"""
ROUNDING_MM = 2e-3


def tiny_config(folder: Path) -> Config:
    config = Config(name="tiny", runs_dir=str(folder), device="cpu")
    config.pairs.interior_px, config.evaluate.bootstrap = 3, 400
    config.evaluate.mesh_samples = 3000
    return config


def offset_mm(method: str, head: str, view: str) -> float:
    network = UNET_MM[head] + (0 if view == "front" else TURNED_MM)
    return {"unet": network, "raw_splat": SPLAT_MM}.get(method, BILINEAR_MM)


def encoded(values: np.ndarray, camera: Camera, bits: int) -> DepthMap:
    mask = values > 0
    return DepthMap(values.astype(np.float32), mask, DepthEncoding.from_depth(values, mask, bits, "mm"), camera, "planted")


def plant_run(folder: Path, *, scale: str = "metric", with_truth: bool = True) -> Config:
    """Stages 01, 05 and 06 of ellipsoid heads whose predictions are off by :func:`offset_mm`, along the depth axis."""
    config = tiny_config(folder)
    for head, size in HEADS.items():
        axes = HEAD_AXES_MM * size
        vertices, faces = ellipsoid_mesh(5, axes)
        diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
        info = {"name": head, "identity": head, "source": "anny", "split": "test", "scale": scale, "diagonal_mm": diagonal}
        write_json(stage_folder(config, 1) / head / "subject.json", info)
        if with_truth:
            true_mesh = FusedMesh(vertices.astype(np.float32), faces.astype(np.int32))
            save_mesh(stage_folder(config, 1) / head / "mesh.ply", true_mesh, scale=scale)
        for name, yaw in YAWS.items():
            plant_view(config, Sample(head, VARIANT, name), orbit_camera(yaw, 3.0, SIZE, name=name), axes, with_truth)
    for number in (5, 6):
        finish(stage_folder(config, number), {})
    for method in ("unet", "bilinear", "bicubic", "raw_splat"):
        finish(predictions_folder(config) / method, {} if method == "raw_splat" else {"lr_input": "8bit"})
    return config


def plant_view(config: Config, sample: Sample, camera: Camera, axes: np.ndarray, with_truth: bool) -> None:
    truth, low_camera = ellipsoid_depth(camera, axes), camera.resized(LOW)
    low = ellipsoid_depth(low_camera, axes)
    pair = sample.path(config, 5)
    save_depth_png(pair / "lr_8bit.png", encoded(np.where(low > 0, low + SPLAT_MM, 0), low_camera, 8))
    save_depth_png(pair / "hr_render.png", encoded(np.where(truth > 0, truth + SPLAT_MM, 0), camera, 16))
    if with_truth:
        save_depth_png(pair / "hr_surface.png", encoded(truth, camera, 16))
    for method in ("unet", "bilinear", "bicubic", "raw_splat"):
        planted = np.where(truth > 0, truth + offset_mm(method, sample.subject, sample.view), 0)
        if method == "bicubic":
            planted[:, SIZE // 2 :] = 0  # covers half of the head
        save_depth_png(sample.prediction_path(config, method), encoded(planted, camera, 16))


def finish(folder: Path, settings: dict) -> None:
    record = {"state": "done", "fingerprint": f"planted-{folder.name}", "stage": folder.name, "settings": settings}
    write_json(folder / "stage.json", {**record, "seconds": 0.0, "peak_memory_mib": 0.0})


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Config:
    """A planted run with both evaluations done; tests must not change it."""
    config = plant_run(tmp_path_factory.mktemp("planted"))
    depth.run_stage(config)
    mesh.run_stage(config)
    return config


@pytest.fixture
def scratch(planted, tmp_path) -> Config:
    """A copy of the planted run to break."""
    shutil.copytree(planted.run_folder, tmp_path / "tiny")
    return replace(planted, runs_dir=str(tmp_path))


def rows_of(config: Config, number: int) -> list[ResultRow]:
    path = stage_folder(config, number) / ("depth.csv" if number == 7 else "mesh.csv")
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> list[ResultRow]:
    return read_results(path)


def one(config: Config, number: int, **columns: str) -> ResultRow:
    columns = {"target": "surface", "views": "all", "zone": "interior", "method_b": "", "threshold": "", **columns}
    found = [row for row in rows_of(config, number) if all(getattr(row, name) == value for name, value in columns.items())]
    assert len(found) == 1, (columns, len(found))
    return found[0]


def view_values(config: Config, number: int, **columns: str) -> dict[tuple[str, str], float]:
    with (stage_folder(config, number) / "views.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if all(row[name] == value for name, value in columns.items())]
    return {(row["subject"], row["view"]): float(row["value"]) for row in rows}


# ---------------------------------------------------------------- stage 07
def test_planted_offsets_are_the_bias_of_each_view_and_of_the_mean(planted):
    per_view = view_values(planted, 7, method="unet", target="surface", zone="interior", metric="bias")
    assert set(per_view) == {(head, view) for head in HEADS for view in YAWS}
    for (head, view), value in per_view.items():
        assert value == pytest.approx(offset_mm("unet", head, view), abs=ROUNDING_MM)
    means = {head: UNET_MM[head] + 2 / 3 * TURNED_MM for head in HEADS}
    for zone in ("interior", "full"):
        row = one(planted, 7, method="unet", metric="bias", zone=zone)
        assert (row.value, row.unit, row.n) == (pytest.approx(np.mean(list(means.values())), abs=ROUNDING_MM), "mm", 3)
        # three people: the interval reaches the extremes, and no further
        assert min(means.values()) - ROUNDING_MM <= row.ci_low < row.value < row.ci_high <= max(means.values()) + ROUNDING_MM
    for target, expected in (("surface", 0.3), ("render", 1.2)):  # one view of each head
        frontal = one(planted, 7, method="unet", metric="rmse", views="near_frontal", target=target)
        assert frontal.value == pytest.approx(expected, abs=ROUNDING_MM)


def test_rows_say_where_they_come_from(planted):
    row = one(planted, 7, method="unet", metric="rmse")
    labels = (row.experiment, row.dataset, row.fit, row.raster_mode, row.split, row.track, row.degradation_test)
    assert labels == ("main", "anny", "regularised", "classic", "test", "A", "render")
    record = json.loads((stage_folder(planted, 7) / "stage.json").read_text())
    assert row.config_hash == record["fingerprint"] and row.device and row.seed == 0
    rows = rows_of(planted, 7)
    assert {row.track for row in rows if row.method == "raw_splat"} == {"C"}
    assert {row.target for row in rows if row.method == "raw_splat"} == {"surface"}  # it is the target of the other
    assert one(planted, 7, method="raw_splat", metric="mae").value == pytest.approx(SPLAT_MM, abs=ROUNDING_MM)
    assert {row.zone for row in rows} == {"interior", "silhouette", "full"}
    assert {row.metric for row in rows} == {
        "rmse", "mae", "bias", "psnr", "ssim", "normal_error", "interval_violation", "interval_excess", "coverage",
        "phase_spread",
    }  # fmt: skip


def test_psnr_is_the_mean_over_views_with_the_codes_range_as_peak(planted):
    expected = []
    for head in HEADS:
        views = []
        for view in YAWS:
            encoding = load_depth_png(Sample(head, VARIANT, view).path(planted, 5) / "lr_8bit.png").encoding
            views.append(20 * math.log10((encoding.far - encoding.near) / offset_mm("unet", head, view)))
        expected.append(np.mean(views))
    assert one(planted, 7, method="unet", metric="psnr").value == pytest.approx(np.mean(expected), abs=0.02)


def test_paired_differences_are_of_the_network_alone_and_narrower_than_the_spread_of_people(planted):
    rows = [row for row in rows_of(planted, 7) if row.method_b]
    assert {(row.method, row.method_b) for row in rows} == {("unet", "bilinear"), ("unet", "bicubic")}
    assert {row.metric for row in rows} >= {"rmse", "psnr", "normal_error"}
    assert {row.target for row in rows} == {"surface", "render"}
    difference = one(planted, 7, method="unet", method_b="bilinear", metric="rmse")
    assert difference.value == pytest.approx(0.3 + 2 / 3 * TURNED_MM - BILINEAR_MM, abs=ROUNDING_MM)
    assert difference.ci_high < 0 and difference.n == 3
    alone = one(planted, 7, method="unet", metric="rmse")
    assert difference.ci_high - difference.ci_low == pytest.approx(alone.ci_high - alone.ci_low, abs=2 * ROUNDING_MM)


def test_what_a_method_leaves_empty_is_scored_with_bilinear_depth_of_the_input(planted):
    assert one(planted, 7, method="bicubic", metric="coverage", zone="full").value == pytest.approx(0.5, abs=0.05)
    sample = Sample("head_b", VARIANT, "front")
    view = View.load(planted, sample)
    assert (view.bilinear > 0).all()  # filled beyond the input's mask
    target = view.targets["surface"]
    filled = view.prediction(Method("bicubic", "bicubic", "8bit")) > 0
    error = np.where(filled, BILINEAR_MM, view.bilinear - target.depth)[target.mask]
    value = view_values(planted, 7, method="bicubic", target="surface", zone="full", metric="rmse")["head_b", "front"]
    assert value == pytest.approx(math.sqrt(np.mean(error**2)), rel=1e-3)


def test_the_fallback_is_the_bilinear_baseline(planted):
    from splathead.models.interpolation import upsample_depth
    from splathead.training.pairs import prepare_input

    view = View.load(planted, Sample("head_a", VARIANT, "left"))
    prepared = prepare_input(view.pair.lr)
    expected = prepared.near + upsample_depth(prepared.depth01, SIZE // LOW, "bilinear").astype(np.float64) * prepared.range
    np.testing.assert_allclose(view.bilinear, expected, atol=1e-4)


# ---------------------------------------------------------------- stage 08
def test_an_offset_steps_the_f_curve_and_the_ceiling_is_one(planted):
    def f_score(method: str, text: str, **columns: str) -> float:
        return one(planted, 8, method=method, metric="f_score", threshold=text, views="near_frontal", **columns).value

    # frontal views: the network is off by 0.2, 0.3 and 0.4 mm along the rays' depth, bilinear by 1
    assert f_score("unet", "0.1mm") < 0.35 and f_score("unet", "0.5mm") > 0.99
    assert f_score("bilinear", "0.5mm") < 0.35 and f_score("bilinear", "2mm") > 0.99
    assert f_score("true_depth", "0.25mm") > 0.99
    assert f_score("bilinear", "1mm", target="render") > 0.99  # 0.5 mm before the splats
    rows = rows_of(planted, 8)
    assert {row.target for row in rows if row.method in ("true_depth", "raw_splat")} == {"surface"}
    assert {row.track for row in rows if row.method == "true_depth"} == {""}


def test_the_mesh_file_holds_the_whole_curve_and_table_thresholds_of_precision_and_recall(planted):
    rows = [row for row in rows_of(planted, 8) if row.method == "unet" and not row.method_b]
    names = ("f_score", "precision", "recall")
    thresholds = {metric: {row.threshold for row in rows if row.metric == metric} for metric in names}
    assert thresholds["f_score"] == {f"{t:g}mm" for t in CURVE_MM} | {"0.1%diag", "0.5%diag", "1%diag"}
    curve_only = {row.zone for row in rows if row.metric == "f_score" and row.threshold == "0.05mm"}
    assert curve_only == {"interior"}  # elsewhere the table's thresholds only
    table = {"0.1mm", "0.25mm", "0.5mm", "1mm", "2mm", "0.1%diag", "0.5%diag", "1%diag"}
    assert thresholds["precision"] == thresholds["recall"] == table
    assert {row.metric for row in rows} >= {"chamfer_l1", "hausdorff", "hausdorff_95", "normal_consistency", "f_score_auc"}
    auc = one(planted, 8, method="unet", metric="f_score_auc", threshold="2mm")
    curve = [one(planted, 8, method="unet", metric="f_score", threshold=f"{t:g}mm").value for t in CURVE_MM]
    assert auc.value == pytest.approx(np.mean(curve), abs=1e-5)
    difference = one(planted, 8, method="unet", method_b="bilinear", metric="f_score", threshold="0.5mm")
    pair = (one(planted, 8, method=name, metric="f_score", threshold="0.5mm").value for name in ("unet", "bilinear"))
    assert difference.value == pytest.approx(next(pair) - next(pair), abs=1e-5)


def test_mesh_views_are_the_most_frontal_then_spread(scratch):
    assert spread_views([-60, -20, 5, 25, 70], 1) == [2]
    assert spread_views([-60, -20, 5, 25, 70], 3) == [2, 0, 4]  # 65 degrees to either side
    assert sorted(spread_views([-60, -20, 5, 25, 70], 0)) == [0, 1, 2, 3, 4]
    assert spread_views([170, -170, 90], 2) == [2, 1]  # yaw goes round: -170 is 100 degrees from 90
    scratch = replace(scratch, evaluate=replace(scratch.evaluate, mesh_views=1))
    mesh.run_stage(scratch)
    found = view_values(scratch, 8, method="unet", target="surface", zone="full", metric="chamfer_l1")
    assert set(found) == {(head, "front") for head in HEADS}


# ---------------------------------------------------------------- unknown scale, no truth
def test_without_a_known_scale_lengths_are_fractions_of_the_diagonal(tmp_path, planted):
    config = plant_run(tmp_path, scale="nominal", with_truth=False)
    depth.run_stage(config)
    mesh.run_stage(config)
    info = {head: json.loads((stage_folder(config, 1) / head / "subject.json").read_text()) for head in HEADS}
    row = one(config, 7, method="bilinear", metric="rmse", target="render")
    expected = np.mean([(SPLAT_MM - BILINEAR_MM) / info[head]["diagonal_mm"] for head in HEADS])
    assert (row.value, row.unit) == (pytest.approx(expected, rel=0.01), "frac")
    assert one(config, 7, method="bilinear", metric="normal_error", target="render").unit == "deg"
    rows = rows_of(config, 7)
    assert {row.target for row in rows} == {"render", ""}
    # an offset along each view's own axis tears the views apart in proportion
    near, far = (one(config, 7, method=name, metric="consistency", target="", zone="") for name in ("bilinear", "raw_splat"))
    assert near.unit == "frac" and near.value / far.value == pytest.approx(BILINEAR_MM / SPLAT_MM, abs=0.05)
    meshes = rows_of(config, 8)
    assert {row.target for row in meshes} == {"render"} and "true_depth" not in {row.method for row in meshes}
    assert all(row.threshold.endswith("%diag") for row in meshes if row.threshold)
    in_mm = one(planted, 8, method="bilinear", metric="chamfer_l1", target="render").value
    in_diagonals = one(config, 8, method="bilinear", metric="chamfer_l1", target="render")
    assert in_diagonals.unit == "frac"
    mean_diagonal = np.mean([info[head]["diagonal_mm"] for head in HEADS])
    assert in_diagonals.value * mean_diagonal == pytest.approx(in_mm, rel=0.05)


def test_heads_with_a_true_surface_are_not_compared_between_views_whatever_they_are_scored_on(planted, tmp_path):
    config = replace(planted, runs_dir=str(tmp_path), evaluate=replace(planted.evaluate, targets=["render"]))
    shutil.copytree(planted.run_folder, config.run_folder)
    depth.run_stage(config)
    assert {row.target for row in rows_of(config, 7)} == {"render"}
    assert "consistency" not in {row.metric for row in rows_of(config, 7)}


def test_heads_without_pairs_are_compared_between_views(scratch):
    shutil.copytree(stage_folder(scratch, 5), stage_folder(scratch, 4))
    scratch = replace(scratch, stages=[2, 3, 4, 6, 7])
    lines = depth.run_stage(scratch)
    rows = rows_of(scratch, 7)
    assert {row.metric for row in rows} == {"consistency", "consistency_conflict"}
    assert any("between views" in line for line in lines)


# ---------------------------------------------------------------- resuming, workers, errors
def files(config: Config) -> dict[str, bytes]:
    folders = [stage_folder(config, number) for number in (7, 8)]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for folder in folders for path in folder.rglob("*.csv")}


def test_workers_an_interruption_and_another_start_give_the_same_bytes(planted, scratch):
    expected = files(planted)
    names = ((7, "depth.csv"), (7, "views.csv"), (8, "mesh.csv"), (8, "views.csv"))
    assert set(expected) == {f"{STAGE_NAMES[number]}/{name}" for number, name in names}
    depth.run_stage(scratch, jobs=2, force=True)
    folder = stage_folder(scratch, 8)
    # as SIGKILL leaves it: one head scored, one in the making, nothing aggregated
    for path in (folder / "head_b" / VARIANT, folder / "head_c" / VARIANT):
        shutil.rmtree(path)
    for name in ("mesh.csv", "views.csv"):
        (folder / name).unlink()
    (folder / "head_b" / f".tmp-{VARIANT}").mkdir()
    record = json.loads((folder / "stage.json").read_text())
    write_json(folder / "stage.json", {**record, "state": "running"})
    kept = folder / "head_a" / VARIANT / "scores.json"
    before = kept.stat().st_mtime_ns
    mesh.run_stage(scratch)
    assert kept.stat().st_mtime_ns == before and not (folder / "head_b" / f".tmp-{VARIANT}").exists()
    assert files(scratch) == expected


def test_a_finished_stage_is_left_alone_and_another_setting_makes_it_again(scratch):
    path = stage_folder(scratch, 7) / "depth.csv"
    before, lines = path.stat().st_mtime_ns, depth.run_stage(scratch)
    assert path.stat().st_mtime_ns == before and any("unet vs bilinear" in line for line in lines)
    for section, change in (("evaluate", {"frontal_yaw_deg": 50.0}), ("pairs", {"interior_px": 6})):
        before = path.stat().st_mtime_ns
        scratch = replace(scratch, **{section: replace(getattr(scratch, section), **change)})
        depth.run_stage(scratch)
        assert path.stat().st_mtime_ns > before
    wide = one(scratch, 7, method="unet", metric="rmse", views="near_frontal").value
    assert wide == pytest.approx(0.3 + 2 / 3 * TURNED_MM, abs=ROUNDING_MM)
    depth.run_stage(scratch, limit=2)
    assert one(scratch, 7, method="unet", metric="rmse").n == 2


def test_views_from_above_are_not_called_near_frontal(scratch):
    tilted = replace(scratch, subjects=replace(scratch.subjects, map_elevations=[0.0, 40.0]))
    depth.run_stage(tilted, force=True)
    rows = read_results(stage_folder(tilted, 7) / "depth.csv")
    assert {row.views for row in rows} == {"all"} and any(row.method == "unet" for row in rows)


def test_a_missing_prediction_is_named(scratch):
    path = Sample("head_b", VARIANT, "left").prediction_path(scratch, "unet")
    path.unlink()
    message = r"unet/head_b/regularised-classic/left\.png: no prediction.*06_train_depth_sr"
    for evaluation in (depth, mesh):
        with pytest.raises(FileNotFoundError, match=message):
            evaluation.run_stage(scratch, force=True)


def test_what_does_not_fit_together_is_an_error(scratch):
    path = Sample("head_b", VARIANT, "left").prediction_path(scratch, "unet")
    shutil.copy(path.with_name("right.json"), path.with_suffix(".json"))
    with pytest.raises(ValueError, match=r"left\.png: another camera"):
        depth.run_stage(scratch, force=True)
    info = stage_folder(scratch, 1) / "head_a" / "subject.json"
    data = json.loads(info.read_text())
    write_json(info, {**data, "scale": "guessed"})
    with pytest.raises(ValueError, match=r"'head_a'.*scale 'guessed'"):
        depth.run_stage(scratch, force=True)
    write_json(info, {key: value for key, value in data.items() if key != "identity"})
    with pytest.raises(ValueError, match=r"head_a/subject\.json: no identity"):
        depth.run_stage(scratch, force=True)
    write_json(info, data)
    (stage_folder(scratch, 1) / "head_a" / "mesh.ply").unlink()
    with pytest.raises(FileNotFoundError, match=r"head_a/mesh\.ply: no true mesh"):
        mesh.run_stage(scratch, force=True)


def test_unfinished_or_absent_predictions_are_errors(scratch):
    record = predictions_folder(scratch) / "unet" / "stage.json"
    write_json(record, {**json.loads(record.read_text()), "state": "running"})
    with pytest.raises(RuntimeError, match=r"unet/stage\.json: the predictions are not finished"):
        depth.run_stage(scratch)
    shutil.rmtree(predictions_folder(scratch))
    with pytest.raises(FileNotFoundError, match="no predictions; run scripts/06"):
        depth.run_stage(scratch)
    with pytest.raises(ValueError, match=r"evaluate\.splits \['val'\]"):
        shutil.copytree(stage_folder(scratch, 5), predictions_folder(scratch) / "unet")
        finish(predictions_folder(scratch) / "unet", {"lr_input": "8bit"})
        depth.run_stage(replace(scratch, evaluate=replace(scratch.evaluate, splits=["val"])))


def test_tracks_follow_the_input(scratch):
    finish(predictions_folder(scratch) / "unet", {"lr_input": "16bit"})
    found = {method.name: method for method in predicted_methods(scratch)}
    assert list(found) == ["bilinear", "bicubic", "raw_splat", "unet"]  # baselines first
    assert [method.track for method in found.values()] == ["A", "A", "C", ""]


@pytest.mark.parametrize(
    ("name", "rivals"),
    [
        ("splathead", {"srresnet", "unet", "unet_long", "unet_longest"}),
        ("splathead_guided", {"unet_guided", "unet_guided_longest", "unet", "splathead"}),  # and itself without guides
        ("splathead_norgb", {"splathead", "splathead_long", "unet"}),
        ("splathead_norgb_guided", {"splathead_guided", "unet", "splathead_norgb"}),
        ("splathead_long", {"splathead", "unet", "unet_long"}),
        ("splathead_longest", {"splathead", "splathead_long", "unet", "unet_longest"}),  # by the same number of steps
        ("splathead_longest_guided", {"splathead_guided", "unet", "splathead_longest", "unet_guided_longest"}),
        ("splathead_mix", {"splathead", "splathead_long", "splathead_longest", "unet"}),  # the last differs in its data alone
        ("splathead_mix_guided", {"splathead_guided", "splathead_longest_guided", "splathead_mix", "unet"}),
        ("splathead_fits_guided", {"splathead_guided", "splathead_longest_guided", "splathead_mix_guided", "unet"}),
        (
            "splathead_mix_longer_guided",
            {
                "splathead_guided", "splathead_longest_guided", "splathead_mix_guided", "splathead_fits_guided",
                "splathead_mix_longer", "unet",
            },
        ),
        ("splathead_mix_longer", {"splathead", "splathead_long", "splathead_longest", "splathead_mix", "unet"}),
        (
            "splathead_around",  # differs from the one before it in the angles of its views
            {"splathead", "splathead_long", "splathead_longest", "splathead_mix", "splathead_mix_longer", "unet"},
        ),
        ("unet_guided", {"unet"}),
        ("unet_long", {"unet"}),
        ("srresnet", {"unet"}),
        ("bilinear", set()),
    ],
)
def test_ours_is_paired_with_the_networks_of_its_track_and_its_variants_with_it(name, rivals):
    names = ["bilinear", "srresnet", "unet", "unet_guided", "splathead", "splathead_norgb", "splathead_long", "unet_long"]
    names += ["splathead_guided", "splathead_norgb_guided", "splathead_longest", "splathead_longest_guided", "unet_longest"]
    names += ["unet_guided_longest"]
    names += ["splathead_mix", "splathead_mix_guided", "splathead_fits_guided"]
    names += ["splathead_mix_longer", "splathead_mix_longer_guided", "splathead_around"]
    methods = {n: Method(n, n, "8bit", "surface", 0, guided="_guided" in n) for n in names}
    found = {reference for reference, _ in _references(methods[name], list(methods.values()))}
    assert found - {"bilinear"} == rivals and ("bilinear" in found) == (name != "bilinear")


def test_only_the_first_seed_of_a_network_is_paired():
    seeds = [Method(f"unet_shape+seed{n}", "unet_shape", "8bit", "surface", n) for n in (2, 1, 4)]
    methods = [Method("unet", "unet", "8bit", "surface", 0), *seeds]
    assert [len(_references(method, methods)) for method in methods] == [0, 0, 1, 0]
    other_target = replace(seeds[2], folder="unet_shape-render+seed4", target="render")
    assert _references(other_target, [*methods, other_target])  # the only seed of its target


def test_the_scripts_print_a_table_and_the_verdict(scratch, tmp_path):
    config = tmp_path / "tiny.yaml"
    text = f"schema: 1\nname: tiny\nruns_dir: {scratch.runs_dir}\npairs: {{interior_px: 3}}\n"
    config.write_text(text + "evaluate: {bootstrap: 400, mesh_samples: 3000}\n")
    before = files(scratch)
    for script, expected in (("07_evaluate_depth", "unet vs bilinear: rmse -0.3 mm ["), ("08_evaluate_mesh", "F@0.5mm")):
        command = [sys.executable, str(REPOSITORY / "scripts" / f"{script}.py"), "--config", str(config), "--jobs", "1"]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert expected in result.stdout and "over 3 people: better" in result.stdout
    assert files(scratch) == before  # the same configuration as in this file: nothing was made again


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.5, -0.1, "better"), (0.1, 0.5, "worse"), (-0.1, 0.2, "no clear difference")]
)
def test_a_verdict_needs_an_interval_that_excludes_zero(low, high, word):
    labels = {"experiment": "main", "method": "unet", "method_b": "bilinear", "metric": "rmse", "unit": "mm"}
    row = ResultRow(**labels, value=(low + high) / 2, n=6)
    assert verdict(replace(row, ci_low=low, ci_high=high)).endswith(f"[{low:+.3g}, {high:+.3g}] over 6 people: {word}")
    assert verdict(replace(row, n=1)).endswith("over 1 person: no interval from one person")
