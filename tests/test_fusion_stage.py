"""Stage 11 on a synthetic run: meshes, scores, resumption, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from conftest import REPOSITORY
from synthetic_run import make_run

from splathead.config import Config, load_config
from splathead.fusion import load_mesh
from splathead.fusion.scores import result_rows
from splathead.fusion.stage import fuse_item, list_items, load_predictions
from splathead.results import read_results
from splathead.samples import stage_folder, subject_folder


def tiny_config(folder: Path) -> Path:
    """YAML of a run of 128-pixel maps in ``folder``."""
    data = {
        "schema": 1, "name": "tiny", "runs_dir": str(folder / "runs"), "device": "cpu",
        "subjects": {"count": 4, "val": 1, "test": 1, "map_size": 128, "map_yaws": [-30.0, 0.0, 30.0]},
        "render": {"lr_size": 32}, "pairs": {"interior_px": 2, "jump_mm": 12.0},
        "evaluate": {"bootstrap": 100, "mesh_samples": 3000},
        "fuse": {"voxel_mm": 4.0, "target_faces": 4000, "formats": ["glb"], "methods": ["raw_splat", "unet"]},
        "report": {"views": 2, "mesh_faces": 800},
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Config]:
    path = tiny_config(tmp_path_factory.mktemp("fuse"))
    config = load_config(path)
    make_run(config, subjects=3, subdivisions=5)
    return path, config


def script(path: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "scripts" / "11_fuse_meshes.py"), "--config", str(path), "--jobs", "1", *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fused(run) -> tuple[Config, Path]:
    path, config = run
    result = script(path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "4 meshes" in result.stdout
    return config, stage_folder(config, 11)


def test_meshes_are_written_as_asked(fused):
    _, folder = fused
    item = folder / "unet" / "head_001" / "regularised-classic"
    mesh = load_mesh(item / "mesh.ply")
    assert 1000 < len(mesh.faces) <= 4000
    loaded = trimesh.load(item / "mesh.glb", force="mesh", process=False)
    assert len(loaded.faces) == len(mesh.faces)
    record = json.loads((item / "fusion.json").read_text())
    assert record["faces"] == len(mesh.faces) and record["scale"] == "metric" and len(record["views"]) == 3


def test_fused_surface_is_where_the_predictions_are(fused):
    """raw_splat lies 1.3 mm behind the true surface, unet 0.05 mm: the fused meshes must too."""
    config, folder = fused
    from splathead.metrics.surface import Surface
    from splathead.report.viewer import signed_distances

    true_mesh = load_mesh(subject_folder(config, "head_001") / "mesh.ply")
    truth = Surface.build(true_mesh.vertices, true_mesh.faces)
    behind = {}
    for method in ("raw_splat", "unet"):
        vertices = load_mesh(folder / method / "head_001" / "regularised-classic" / "mesh.ply").vertices
        behind[method] = np.median(signed_distances(vertices[vertices[:, 2] > 50], truth))
    assert abs(behind["unet"]) < 0.3
    assert 0.9 < behind["raw_splat"] < 1.6


def test_mesh_has_the_colours_of_the_maps(fused):
    _, folder = fused
    fused_mesh = load_mesh(folder / "unet" / "head_001" / "regularised-classic" / "mesh.ply")
    lips = fused_mesh.colours[np.abs(fused_mesh.vertices - [0, -52, 80]).max(axis=1) < 12].astype(float)
    cheek = fused_mesh.colours[np.abs(fused_mesh.vertices - [-40, -10, 70]).max(axis=1) < 15].astype(float)
    redness = [(c[:, 0] / np.maximum(c[:, 1], 1)).max() for c in (lips, cheek)]
    assert redness[0] > 1.3 * redness[1]


def test_results_follow_the_contract(fused):
    _, folder = fused
    rows = read_results(folder / "fused.csv")
    find = {(row.method, row.metric, row.threshold): row for row in rows}
    assert {row.method for row in rows} == {"raw_splat", "unet"}
    assert find["unet", "chamfer_l1", ""].value < find["raw_splat", "chamfer_l1", ""].value
    assert find["unet", "f_score", "1mm"].value > find["raw_splat", "f_score", "1mm"].value
    assert find["unet", "chamfer_l1", ""].n == 2 and find["unet", "chamfer_l1", ""].unit == "mm"
    assert find["unet", "faces", ""].value <= 4000
    assert find["unet", "consistency", ""].value < find["raw_splat", "consistency", ""].value
    contexts = {(row.dataset, row.split, row.fit, row.raster_mode) for row in rows}
    assert contexts == {("synthetic", "test", "regularised", "classic")}
    assert find["unet", "f_score_auc", "2mm"].value > find["raw_splat", "f_score_auc", "2mm"].value
    assert (find["unet", "faces", ""].track, find["raw_splat", "faces", ""].track) == ("A", "C")


def test_second_run_keeps_everything(run, fused):
    _, folder = fused
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "nothing to do" in script(run[0]).stdout
    assert all(path.read_bytes() == data for path, data in before.items())


def test_same_bytes_again(run, fused, tmp_path):
    _, folder = fused
    fuse_item(run[1], "unet/head_001/regularised-classic", tmp_path)
    for name in ("mesh.ply", "mesh.glb", "scores.json"):
        assert (tmp_path / name).read_bytes() == (folder / "unet/head_001/regularised-classic" / name).read_bytes(), name


def test_methods_without_predictions_are_named(run):
    _, config = run
    bad = load_config(run[0])
    bad.fuse.methods = ["unett"]
    with pytest.raises(ValueError, match=r"'unett'.*bilinear, bilinear_offset, raw_splat, unet"):
        list_items(bad)
    with pytest.raises(FileNotFoundError, match="no predicted depth"):
        load_predictions(config, "unet", "nobody", "regularised-classic")


def test_subject_limit_and_items(run):
    _, config = run
    assert list_items(config, limit=1) == ["raw_splat/head_001/regularised-classic", "unet/head_001/regularised-classic"]


def test_nominal_scale_gives_fractions_and_no_truth_gives_consistency(run, tmp_path):
    """A head of unknown size without a true mesh: what captures and downloaded splats are."""
    config = load_config(tiny_config(tmp_path))
    make_run(config, subjects=3, subdivisions=5)
    for subject in ("head_001", "head_002"):
        folder = subject_folder(config, subject)
        info = json.loads((folder / "subject.json").read_text())
        (folder / "subject.json").write_text(json.dumps({**info, "scale": "nominal"}))
        if subject == "head_002":
            (folder / "mesh.ply").unlink()
    items = [item for item in list_items(config) if item.startswith("unet")]
    for item in items:
        (stage_folder(config, 11) / item).mkdir(parents=True)
        fuse_item(config, item, stage_folder(config, 11) / item)
    assert b"nominal scale" in (stage_folder(config, 11) / items[0] / "mesh.ply").read_bytes()[:200]
    rows = {(row.metric, row.threshold): row for row in result_rows(config, items)}
    assert rows["chamfer_l1", ""].unit == "frac" and rows["chamfer_l1", ""].value < 0.02
    assert rows["chamfer_l1", ""].n == 1 and rows["consistency", ""].n == 2
    assert not any(threshold.endswith("mm") for _, threshold in rows)
