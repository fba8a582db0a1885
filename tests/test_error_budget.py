"""The error budget: planted causes come out as planted, both raster modes are measured, the file follows the contract."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth, ellipsoid_mesh, ellipsoid_normals, head_view, plane_depth

from splathead.cameras import orbit_camera, save_cameras
from splathead.config import Config
from splathead.evaluation.error_budget import (
    METHODS,
    Reference,
    coded,
    run_error_budget,
    score_subject,
    splat_scores,
    truth_scores,
)
from splathead.evaluation.scores import ScoreSheet
from splathead.fitting.initialise import initial_gaussians
from splathead.images import save_maps, write_json
from splathead.maps.postprocess import postprocess_subject
from splathead.maps.render_subject import render_subject_maps
from splathead.metrics.zones import ZoneSettings
from splathead.ply import save_gaussians_ply
from splathead.results import read_results
from splathead.samples import STAGE_NAMES, stage_folder

SIZE, LOW = 256, 64
ZONES = ZoneSettings()
OFFSET_MM = 1.3


def low_of(high: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Area means of the cells that lie wholly on the surface."""
    cells = high["depth"].astype(np.float64).reshape(LOW, SIZE // LOW, LOW, SIZE // LOW)
    mask = (cells > 0).all(axis=(1, 3))
    return {"depth": np.where(mask, cells.mean(axis=(1, 3)), 0).astype(np.float32), "mask": mask}


def planted_view(offset: float = OFFSET_MM, turn_deg: float = 0.0, size: int = SIZE):
    """Camera, true depth and maps of splats that lie ``offset`` mm behind it, with normals turned in the image plane."""
    camera, truth = head_view(size)
    mask = truth > 0
    normals = ellipsoid_normals(camera, np.where(mask, truth, 1))
    turn = math.radians(turn_deg)
    x, z = normals[..., 0], normals[..., 2]
    normals = np.stack([x * math.cos(turn) - z * math.sin(turn), normals[..., 1], x * math.sin(turn) + z * math.cos(turn)], -1)
    high = {
        "alpha": mask.astype(np.float16), "mask": mask, "depth": np.where(mask, truth + offset, 0).astype(np.float32),
        "depth_variance": np.where(mask, 4.0, 0).astype(np.float32),
        "normal": np.where(mask[..., None], np.rint(normals * 127), 0).astype(np.int8),
    }  # fmt: skip
    return camera, truth, high


def test_an_offset_is_all_bias_and_no_noise():
    camera, truth, high = planted_view()
    scores = splat_scores(Reference.build(truth, camera, ZONES), high, low_of(high), camera, ZONES)
    raw, unbiased = scores["surface", "splat_1024"], scores["surface", "splat_1024_unbiased"]
    assert raw["bias"] == pytest.approx(OFFSET_MM, abs=1e-4) and raw["rmse"] == pytest.approx(OFFSET_MM, abs=1e-4)
    assert raw["normal_error"] < 0.2 and raw["depth_std"] == pytest.approx(2.0)
    assert unbiased["rmse"] < 1e-4 and unbiased["mae"] < 1e-4
    # enlarged low-resolution depth keeps the offset against the surface and has none against the render
    low = scores["surface", "splat_256_bilinear"], scores["render", "splat_256_bilinear"]
    assert low[0]["bias"] - low[1]["bias"] == pytest.approx(OFFSET_MM, abs=0.02)
    assert ("surface", "splat_1024_median") not in scores


def test_smooth_noise_stays_when_the_bias_goes():
    camera, truth, high = planted_view()
    reference = Reference.build(truth, camera, ZONES)
    noise = np.random.default_rng(0).normal(0, 0.7, truth.shape).astype(np.float32)
    high["depth"] += noise * high["mask"]
    high["depth_median"] = np.where(high["mask"], truth - 0.5, 0)
    scores = splat_scores(reference, high, low_of(high), camera, ZONES)
    assert scores["surface", "splat_1024_unbiased"]["rmse"] == pytest.approx(0.7, rel=0.02)
    assert scores["surface", "splat_1024"]["rmse"] == pytest.approx(math.hypot(0.7, OFFSET_MM), rel=0.02)
    assert scores["surface", "splat_1024_median"]["bias"] == pytest.approx(-0.5, abs=1e-4)


def test_quantisation_alone_is_a_uniform_step():
    camera, truth, _ = planted_view(size=512)
    scores = truth_scores(Reference.build(truth, camera, ZONES), truth, 128)
    values = truth[truth > 0]
    step_mm = (values.max() - values.min()) / 254
    eight_bit = scores["surface", "truth_8bit_1024"]
    assert eight_bit["rmse"] == pytest.approx(step_mm / math.sqrt(12), rel=0.05)
    assert abs(eight_bit["bias"]) < 0.05 * step_mm and eight_bit["normal_error"] > 3
    both, resolution = scores["surface", "truth_area_256_8bit_bilinear"], scores["surface", "truth_area_256_bilinear"]
    # interpolation averages the steps, so that both together are less than their squares' sum
    assert resolution["rmse"] < both["rmse"] < math.hypot(resolution["rmse"], eight_bit["rmse"])


def test_resolution_costs_a_plane_nothing():
    camera = orbit_camera(0, 0, SIZE)
    depth = plane_depth(camera, (0.3, -0.2, math.sqrt(1 - 0.13)), 480.0)
    scores = truth_scores(Reference.build(depth, camera, ZONES), depth, LOW)["surface", "truth_area_256_bilinear"]
    assert scores["rmse"] < 5e-3 and abs(scores["bias"]) < 5e-3 and scores["normal_error"] < 0.05
    step = np.where(np.arange(SIZE)[:, None] < SIZE // 2, depth, depth - 3)  # less than a jump of the zones
    bent = truth_scores(Reference.build(step, camera, ZONES), step, LOW)["surface", "truth_area_256_bilinear"]
    assert bent["rmse"] > 0.05


@pytest.mark.parametrize("turn_deg", [0.0, 10.0])
def test_splat_normals_are_compared_with_true_normals(turn_deg):
    camera, truth, high = planted_view(turn_deg=turn_deg)
    scores = splat_scores(Reference.build(truth, camera, ZONES), high, low_of(high), camera, ZONES)
    found = scores["surface", "splat_normals"]
    assert set(found) == {"normal_error"} and found["normal_error"] <= turn_deg + 0.5
    if turn_deg:  # a turn about the image's vertical axis: normals along that axis turn less
        assert found["normal_error"] > 0.8 * turn_deg
        high["normal"][:] = 0  # nothing drawn: the depth's own normals
        scores = splat_scores(Reference.build(truth, camera, ZONES), high, low_of(high), camera, ZONES)
        assert scores["surface", "splat_normals"]["normal_error"] == scores["surface", "splat_1024"]["normal_error"]


@pytest.mark.parametrize(("steps", "in_float", "as_coded"), [(0, 0, 0), (0.4, 0, 0.4), (0.6, 1, 0.6), (-1.2, 1, 1)])
def test_cells_that_leave_half_a_step_are_counted(steps, in_float, as_coded):
    camera, truth, high = planted_view()
    low = low_of(high)
    step_mm = coded(low["depth"], low["mask"])[1].lsb
    low["depth"] = np.where(low["mask"], low["depth"] + steps * step_mm, 0).astype(np.float32)
    scores = splat_scores(Reference.build(truth, camera, ZONES), high, low, camera, ZONES)
    assert scores["render", "splat_256"]["interval_violation"] == in_float
    assert scores["render", "splat_256"]["interval_excess"] == pytest.approx(max(abs(steps) - 0.5, 0) * step_mm, abs=1e-3)
    # as coded, the offset adds to a rounding error that is uniform within half a step
    assert scores["render", "splat_256_8bit"]["interval_violation"] == pytest.approx(as_coded, abs=0.05)


# ---------------------------------------------------------------- a run
def make_run(folder) -> Config:
    """Stages 01 to 04 of an ellipsoid of discs, rendered classic only."""
    config = Config(name="budget", runs_dir=str(folder), device="cpu")
    config.subjects.map_size, config.render.lr_size, config.evaluate.bootstrap = SIZE, LOW, 50
    config.pairs.interior_px, config.postprocess.min_component_px = 3, 30
    for index, name in enumerate(("head_a", "head_b")):
        axes, base = HEAD_AXES_MM * (1 + 0.05 * index), stage_folder(config, 1) / name
        vertices, _ = ellipsoid_mesh(4, axes)
        info = {"name": name, "identity": name, "source": "synthetic", "split": "test", "scale": "metric", "diagonal_mm": 330.0}
        write_json(base / "subject.json", info)
        cameras = [orbit_camera(yaw, 3.0, SIZE, name=f"map_{yaw}") for yaw in (0, 30)]
        save_cameras(base / "cameras_maps.json", cameras)
        for camera in cameras:
            depth = ellipsoid_depth(camera, axes)
            save_maps(base / "truth" / f"{camera.name}.npz", {"alpha": depth > 0, "mask": depth > 0, "depth": depth})
        grey = np.full(vertices.shape, 0.6)
        gaussians = initial_gaussians(vertices, grey, sh_degree=0, extent=226.0, unit="mm")
        gaussians.opacity_logits += 4  # nothing shines through
        gaussians.log_scales += math.log(1.5)
        (stage_folder(config, 2) / name / "regularised").mkdir(parents=True)
        save_gaussians_ply(stage_folder(config, 2) / name / "regularised" / "gaussians.ply", gaussians)
        render_subject_maps(config, name, stage_folder(config, 3) / name)
        postprocess_subject(config, name, stage_folder(config, 4) / name)
    write_json(stage_folder(config, 4) / "stage.json", {"state": "done", "fingerprint": "made"})
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Config:
    config = make_run(tmp_path_factory.mktemp("budget"))
    run_error_budget(config)
    return config


def test_the_file_has_both_modes_whatever_was_rendered(finished):
    assert [path.name for path in (stage_folder(finished, 4) / "head_a").iterdir()] == ["regularised-classic"]
    rows = read_results(stage_folder(finished, 7) / "error_budget.csv")
    assert {row.experiment for row in rows} == {"error_budget"} and {row.zone for row in rows} == {"interior"}
    assert {(row.fit, row.raster_mode, row.split, row.n) for row in rows} == {
        ("regularised", mode, "test", 2) for mode in ("classic", "antialiased")
    }
    assert {row.degradation_test for row in rows} == {""} and {row.views for row in rows} == {"all", "near_frontal"}
    by_target = {target: {row.method for row in rows if row.target == target} for target in ("surface", "render")}
    assert by_target["surface"] == {
        "splat_1024", "splat_1024_unbiased", "splat_1024_median", "splat_normals", "splat_256_bilinear",
        "splat_256_8bit_bilinear", "truth_8bit_1024", "truth_area_256_bilinear", "truth_area_256_8bit_bilinear",
    }  # fmt: skip
    assert by_target["render"] == {"splat_256", "splat_256_8bit", "splat_256_bilinear", "splat_256_8bit_bilinear"}
    assert by_target["surface"] | by_target["render"] == set(METHODS)

    def value(method: str, metric: str, mode: str) -> float:
        columns = (method, metric, mode, "surface", "all")
        return next(r.value for r in rows if (r.method, r.metric, r.raster_mode, r.target, r.views) == columns)

    assert value("truth_8bit_1024", "rmse", "classic") == value("truth_8bit_1024", "rmse", "antialiased")
    assert value("splat_1024", "bias", "classic") != value("splat_1024", "bias", "antialiased")
    assert 0 < value("splat_1024_unbiased", "rmse", "classic") < value("splat_1024", "rmse", "classic") < 5


def test_fits_that_are_not_evaluated_are_left_out(finished, tmp_path):
    chosen = replace(finished, evaluate=replace(finished.evaluate, fits=["vanilla"]))
    with pytest.raises(ValueError, match=r"evaluate.fits: no sample of fit 'vanilla', there are samples of regularised"):
        score_subject(chosen, "head_a", tmp_path)


def test_maps_rendered_now_are_those_of_stage_04(finished, tmp_path):
    score_subject(finished, "head_a", tmp_path / "stored")
    moved = stage_folder(finished, 4) / "head_a" / "regularised-classic"
    shutil.move(moved, tmp_path / "away")
    try:
        score_subject(finished, "head_a", tmp_path / "rendered")
    finally:
        shutil.move(tmp_path / "away", moved)
    sheets = [ScoreSheet.read(tmp_path / kind / "regularised-classic") for kind in ("stored", "rendered")]
    assert sheets[0].head == sheets[1].head and len(sheets[0].rows) == len(sheets[1].rows) > 0
    for a, b in zip(sheets[0].rows, sheets[1].rows, strict=True):
        assert (a.view, a.target, a.method) == (b.view, b.target, b.method)
        np.testing.assert_array_equal(a.values, b.values)


def test_a_finished_budget_is_left_alone_and_another_zone_makes_it_again(finished, tmp_path):
    shutil.copytree(finished.run_folder, tmp_path / "budget")
    config = Config(**{**vars(finished), "runs_dir": str(tmp_path)})
    path = stage_folder(config, 7) / "error_budget.csv"
    before, lines = path.stat().st_mtime_ns, run_error_budget(config)
    assert path.stat().st_mtime_ns == before and any("splat_1024" in line for line in lines)
    assert lines[-1].startswith(f"{STAGE_NAMES[7]}/error_budget: 2 heads")
    run_error_budget(config, limit=1)
    assert {row.n for row in read_results(path)} == {1}


def test_heads_without_truth_are_named(finished, tmp_path):
    shutil.copytree(finished.run_folder, tmp_path / "budget")
    config = Config(**{**vars(finished), "runs_dir": str(tmp_path)})
    shutil.rmtree(stage_folder(config, 1) / "head_b" / "truth")
    with pytest.raises(ValueError, match=r"head_b: no true surface, which evaluate\.error_budget needs"):
        run_error_budget(config, force=True)
    config.evaluate.splits = ["val"]
    with pytest.raises(ValueError, match=r"no subject in evaluate\.splits \['val'\]"):
        run_error_budget(config)
