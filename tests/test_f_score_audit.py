"""The F-score audit: clouds and scores of both published settings on surfaces with known answers, and the proof."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_evaluation import plant_run

from splathead.evaluation.f_score_audit import (
    RESULTS_NAME,
    SETTING_A,
    SETTING_B,
    SETTINGS,
    AuditTruth,
    f_score_audit,
    largest_mean_distance,
    point_cloud,
    run_f_score_audit,
)
from splathead.results import read_results
from splathead.samples import stage_folder

NEAR, FAR = 400.0, 600.0
CSV_ROWS = {  # f_score_001, hausdorff, chamfer_l1 of the published mesh_quality.csv
    "UNet-8bit-ch32": (0.999383098367288, 0.0176059403473847, 0.0011700535153107),
    "LR-bicubic-8bit": (0.9983718750744788, 0.0232248288017909, 0.0012992208266028),
    "EDSR-light": (0.6372655276348761, 0.07155862663425948, 0.0011440034726927241),
    "SRResNet": (0.6469330521908748, 0.07636380760767689, 0.001115734427279523),
    "SGNet": (0.6543837759013, 0.044271986458036296, 0.0010688227870901603),
}
UNET_SAMPLES = (  # the same of each sample that the UNet's row averages (mesh_quality_detail.json)
    (0.9997033143300903, 0.014250059878800212, 0.0011503357364487823),
    (0.9993427836953175, 0.018854333008651122, 0.001044449524185549),
    (0.9993487314890266, 0.019410096452092754, 0.0013093097245858098),
    (0.9995796891321054, 0.017471086351745428, 0.0011337719180624622),
    (0.9989409731899003, 0.018044126045634188, 0.0012124006732709908),
)


def slab(size: int = 1024, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A frontal plane at 500 mm around the image's centre, where rays are parallel enough, and its mask. Its first row at
    400 and its last two at 600 mm fix the range."""
    depth, inside = np.zeros((size, size), np.float32), slice((size - side) // 2, (size + side) // 2)
    depth[inside, inside] = 500
    depth[inside.start, inside], depth[inside.stop - 2 : inside.stop, inside] = NEAR, FAR
    return depth, depth > 0


def shifted(depth: np.ndarray, fraction: float) -> np.ndarray:
    """The plane moved away by a fraction of the range; the rows that fix the range stay."""
    return np.where(depth == 500, np.float32(500 + fraction * (FAR - NEAR)), depth)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_f_jumps_where_the_offset_passes_the_threshold(setting):
    depth, mask = slab()
    truth = AuditTruth.build(depth, mask, setting)
    for tau in setting.thresholds:
        below, above = (f_score_audit(shifted(depth, fraction * tau), truth) for fraction in (0.9, 1.1))
        assert below.f_score[tau] > 0.99
        assert above.f_score[tau] < 0.15  # the share of the rows that did not move
    same = f_score_audit(depth, truth)
    assert same.f_score == dict.fromkeys(setting.thresholds, 1.0)
    assert same.chamfer_l1 == same.hausdorff == 0


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_distances_of_an_offset_plane_are_the_offset(setting):
    depth, mask = slab()
    scores = f_score_audit(shifted(depth, 0.0004), AuditTruth.build(depth, mask, setting))
    assert scores.hausdorff == pytest.approx(0.0004, rel=0.01)
    assert 0.00035 < scores.chamfer_l1 < 0.0004


def test_one_error_a_gap_between_the_settings_and_none_within_one():
    depth, mask = slab()
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
    wavy = np.sin(x / 5) * np.sin(y / 7) / (2 / math.pi) ** 2  # mean absolute value 1
    found = {
        (name, setting.name): f_score_audit(
            np.where(depth == 500, depth + amplitude * (FAR - NEAR) * wavy, depth).astype(np.float32),
            AuditTruth.build(depth, mask, setting),
        ).f_score[setting.thresholds[0]]
        for name, amplitude in (("one", 0.0011), ("other", 0.00105))
        for setting in SETTINGS
    }
    assert found["one", "a"] - found["other", "b"] > 0.25  # thresholds mixed: the worse method "wins" by far
    for setting in "ab":
        assert abs(found["one", setting] - found["other", setting]) < 0.03  # one setting: no gap to speak of


def test_clouds_follow_the_published_settings():
    depth = np.array([[NEAR, 450, 500], [550, 500, FAR], [450, 450, NEAR], [500, 550, 550]], np.float32)
    mask = depth > 0
    mask[0, 0] = False
    focal = SETTING_A.focal_px * 3 / 1024
    at = [(0, 2, 0.5), (2, 0, 0.75), (2, 2, 1.0)]  # (row, column, closeness) of every second row and column
    expected = [((c - 1.5) / focal * d, (r - 2) / focal * d, d) for r, c, d in at]
    np.testing.assert_allclose(point_cloud(depth, mask, NEAR, FAR, SETTING_A), expected, atol=1e-12)
    focal = 500 * 3 / 1024
    at = [(0, 1, 0.75), (1, 0, 0.25), (2, 1, 0.75), (3, 0, 0.5), (3, 2, 0.25)]  # every second pixel; (1, 2) is at d = 0
    expected = [((c - 1.5) / focal * (1 - d), (r - 2) / focal * (1 - d), 1 - d) for r, c, d in at]
    np.testing.assert_allclose(point_cloud(depth, mask, NEAR, FAR, SETTING_B), expected, atol=1e-12)
    assert SETTING_A.focal_px == pytest.approx(1098.0, abs=0.1)


def test_range_is_that_of_the_target_and_predictions_are_clipped_to_it():
    depth, mask = slab()
    truth = AuditTruth.build(depth, mask, SETTING_A)
    assert (truth.near, truth.far) == (NEAR, FAR)
    far_off = f_score_audit(np.full_like(depth, 5000), truth)  # all of it becomes the point at the origin
    assert far_off.hausdorff == pytest.approx(np.linalg.norm(truth.points, axis=1).max())
    empty = f_score_audit(np.full_like(depth, 5000), AuditTruth.build(depth, mask, SETTING_B))
    assert all(math.isnan(value) for value in (*empty.f_score.values(), empty.chamfer_l1))  # a cloud below 100 points
    with pytest.raises(ValueError, match="expected a range above 0"):
        AuditTruth.build(np.full_like(depth, 500), mask, SETTING_A)
    with pytest.raises(ValueError, match="with 0 pixels"):
        AuditTruth.build(depth, np.zeros_like(mask), SETTING_A)


def test_published_f_scores_at_a_thousandth_contradict_their_own_chamfer_distances():
    f_score, hausdorff, chamfer = CSV_ROWS["UNet-8bit-ch32"]
    assert largest_mean_distance(1e-3, f_score, hausdorff) == pytest.approx(1.010e-3, abs=5e-7)
    assert chamfer == pytest.approx(1.170e-3, abs=5e-7)
    for name, (f_score, hausdorff, chamfer) in CSV_ROWS.items():
        of_setting_a = name.startswith(("UNet", "LR"))
        assert (chamfer > largest_mean_distance(1e-3, f_score, hausdorff)) == of_setting_a
        assert chamfer < largest_mean_distance(1e-2, f_score, hausdorff)
    # not an artefact of averaging products: it holds for every sample of the row
    assert all(chamfer > largest_mean_distance(1e-3, f_score, hausdorff) for f_score, hausdorff, chamfer in UNET_SAMPLES)


def test_no_measured_distance_exceeds_the_largest_possible_one():
    rng = np.random.default_rng(0)
    depth, mask = slab()
    for setting in SETTINGS:
        truth = AuditTruth.build(depth, mask, setting)
        for sigma in (1e-4, 1e-3, 1e-2):
            noise = rng.normal(0, sigma * (FAR - NEAR), depth.shape)
            scores = f_score_audit((depth + noise).astype(np.float32), truth)
            for tau, f_score in scores.f_score.items():
                assert scores.chamfer_l1 <= largest_mean_distance(tau, f_score, scores.hausdorff) + 1e-12
    assert largest_mean_distance(0.5, 1.0, 0.2) == 0.2
    with pytest.raises(ValueError, match="expected above 0, 0 to 1"):
        largest_mean_distance(0.1, 1.2, 0.2)


def test_stage_writes_both_settings_for_every_method(tmp_path):
    config = plant_run(tmp_path)
    lines = run_f_score_audit(config)
    path = stage_folder(config, 8) / RESULTS_NAME
    assert "3 heads" in lines[-1] and str(path) in lines[-1]
    rows = read_results(path)
    assert {(row.experiment, row.threshold) for row in rows} == {
        ("f_score_audit_a", "0.01frac"), ("f_score_audit_a", "0.005frac"),
        ("f_score_audit_b", "0.001frac"), ("f_score_audit_b", "0.0005frac"),
    }  # fmt: skip
    assert {row.method for row in rows} == {"unet", "bilinear", "bicubic"}  # raw splat depth is the target itself
    assert {(row.target, row.views, row.zone, row.metric in ("precision", "recall", "f_score")) for row in rows} == {
        ("render", "near_frontal", "full", True)
    }
    before = path.read_bytes()
    run_f_score_audit(config)
    assert path.read_bytes() == before
    config.evaluate.targets = ["surface"]
    with pytest.raises(ValueError, match="needs the target render"):
        run_f_score_audit(config)
