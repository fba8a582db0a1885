"""Fits of tiny scenes: they learn, stay below the bound, are reproducible and never look at what they must not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from splathead.cameras import Camera, orbit_camera, save_cameras
from splathead.config import Config, FitConfig, ReconstructConfig
from splathead.fitting.densify import RESET_OPACITY_FACTOR, DensityControl
from splathead.fitting.initialise import initial_gaussians, scene_extent
from splathead.fitting.optimise import active_sh_degree, fit_views, preset_cameras, preset_config
from splathead.fitting.optimiser import GaussianOptimiser
from splathead.gaussians import SH_C0, Gaussians
from splathead.images import write_json, write_png
from splathead.metrics.image import psnr
from splathead.ply import load_gaussians_ply, save_gaussians_ply
from splathead.preflight import check_inputs
from splathead.raster import render
from splathead.reconstruction import fit_settings, fit_subject, reconstruct
from splathead.results import read_results
from splathead.stages import fingerprint

SIZE = 48
CONFIG = FitConfig(iterations=80, max_gaussians=500, densify_every=16)


def egg(count: int = 1500, seed: int = 0) -> Gaussians:
    """A coloured, opaque ellipsoid of small splats, mm."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colours = 0.5 + 0.4 * np.sin(directions * (5.0, 4.0, 3.0))
    arrays = (
        directions * (80.0, 110.0, 95.0), np.full((count, 3), np.log(6.0)), rng.normal(size=(count, 4)),
        np.full(count, 4.0), ((colours - 0.5) / SH_C0)[:, None],
    )  # fmt: skip
    return Gaussians(*(torch.tensor(array, dtype=torch.float32) for array in arrays), unit="mm")


def photograph(gaussians: Gaussians, camera: Camera) -> np.ndarray:
    """RGBA [H, W, 4] uint8, straight alpha."""
    maps = render(gaussians, camera, outputs=("rgb",))
    colour = maps.rgb / maps.alpha.clamp_min(1e-6)
    image = torch.cat([colour, maps.alpha[None]]).clamp(0, 1).permute(1, 2, 0)
    return np.rint(255 * image.numpy()).astype(np.uint8)


def cloud(gaussians: Gaussians, count: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """A sparse noisy cloud of it: points [N, 3] mm and colours [N, 3]."""
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(gaussians), count, replace=False)
    points = gaussians.means[chosen].numpy() + rng.normal(0, 3, (count, 3))
    colours = SH_C0 * gaussians.sh[chosen, 0].numpy() + 0.5 + rng.normal(0, 0.05, (count, 3))
    return points, colours


@pytest.fixture(scope="module")
def scene():
    truth = egg()
    cameras = [orbit_camera(yaw, elevation, SIZE, name=f"fit{k}") for k, (yaw, elevation) in enumerate(
        [(0, 0), (60, 10), (120, -10), (180, 5), (240, 15), (300, -5)])]  # fmt: skip
    return truth, [photograph(truth, camera) for camera in cameras], cameras, *cloud(truth)


def fit(scene, config: FitConfig = CONFIG, **options) -> Gaussians:
    _, images, cameras, points, colours = scene
    return fit_views(images, cameras, points, colours, config, **options)


def held_out_psnr(scene, gaussians: Gaussians) -> float:
    camera = orbit_camera(30, 0, SIZE)
    expected, found = (render(each, camera, outputs=("rgb",)).rgb.clamp(0, 1).numpy() for each in (scene[0], gaussians))
    return psnr(found, expected)


def same(first: Gaussians, second: Gaussians) -> bool:
    names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_fit_improves_on_its_start(scene):
    _, _, cameras, points, colours = scene
    start = initial_gaussians(points, colours.clip(0, 1), sh_degree=0, extent=scene_extent(cameras, points), unit="mm")
    before, after = held_out_psnr(scene, start), held_out_psnr(scene, fit(scene))
    assert after > 24.0
    assert after > before + 5.0


def test_bound_on_gaussians_holds(scene):
    eager = replace(CONFIG, max_gaussians=300, densify_grad=0.0)
    assert 260 < len(fit(scene, eager)) <= 300
    assert len(fit(scene, replace(eager, iterations=2, max_gaussians=100))) <= 100  # the cloud has 250 points


def test_depth_penalty_reduces_depth_spread():
    whole, middle = egg(), slice(SIZE // 3, -SIZE // 3)
    front = whole.select(whole.means[:, 2] > 0)  # no back that rays could leak to: what is left is the surface's own spread
    cameras = [orbit_camera(yaw, elevation, SIZE) for yaw, elevation in [(-40, 0), (-15, 10), (0, -10), (15, 10), (40, 0)]]
    images, start = [photograph(front, camera) for camera in cameras], cloud(front, 300)
    spreads = []
    for preset in ("vanilla", "regularised"):
        fitted = fit_views(images, cameras, *start, preset_config(replace(CONFIG, depth_variance_regulariser=0.01), preset))
        variance = render(fitted, orbit_camera(5, 0, SIZE), outputs=("depth_variance",)).depth_variance
        spreads.append(float(variance[middle, middle].sqrt().mean()))
    assert spreads[1] < 0.75 * spreads[0], spreads


def test_presets():
    assert preset_config(CONFIG, "vanilla").depth_variance_regulariser == 0
    assert preset_config(CONFIG, "regularised") == CONFIG
    assert preset_config(CONFIG, "few_views") == preset_config(CONFIG, "vanilla")
    few = replace(CONFIG, few_gaussians=60)
    assert preset_config(few, "few_gaussians") == replace(few, max_gaussians=60)
    assert preset_config(CONFIG, "few_gaussians").max_gaussians == CONFIG.max_gaussians < CONFIG.few_gaussians  # the lower one
    with pytest.raises(ValueError, match="'other', expected vanilla, regularised, few_views or few_gaussians"):
        preset_config(CONFIG, "other")


def test_few_views_are_spread_over_all_of_them(scene):
    cameras, few = scene[2], replace(CONFIG, few_views=3)
    assert [camera.name for camera in preset_cameras(cameras, few, "few_views")] == ["fit0", "fit2", "fit4"]
    for config, preset in ((few, "vanilla"), (few, "few_gaussians"), (replace(few, few_views=7), "few_views")):
        assert preset_cameras(cameras, config, preset) == cameras


def test_few_gaussians_stay_below_their_bound(scene):
    few = preset_config(replace(CONFIG, few_gaussians=100, densify_grad=0.0), "few_gaussians")  # the cloud has 250 points
    assert 80 < len(fit(scene, few)) <= 100


def test_same_bits_with_any_thread_count(scene):
    threads, results = torch.get_num_threads(), []
    config = replace(CONFIG, iterations=40, densify_grad=0.0, opacity_reset_every=16, sh_degree=1)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(fit(scene, config, seed=5))
    finally:
        torch.set_num_threads(threads)
    assert same(*results)
    assert not same(results[0], fit(scene, config, seed=6))


def test_opacity_reset_happens(scene):
    _, _, cameras, points, colours = scene
    config = replace(CONFIG, iterations=40, opacity_reset_every=8, densify_until=0.6, prune_opacity=0.02)
    extent = scene_extent(cameras, points)
    start = initial_gaussians(points, colours, sh_degree=0, extent=extent, unit="mm")
    optimiser = GaussianOptimiser(start, config, extent)
    density = DensityControl(optimiser, config, extent, np.random.default_rng(0))
    ceiling = RESET_OPACITY_FACTOR * config.prune_opacity
    resets = []
    for step in range(config.iterations):
        with torch.no_grad():
            optimiser.parameters["opacity_logits"].fill_(3.0)
        density.after_step(step)
        if float(optimiser.parameters["opacity_logits"].detach().sigmoid().max()) < ceiling + 1e-6:
            resets.append(step + 1)
    assert resets == [8, 16]  # at 24 densification ends, and with it the time to recover
    assert not same(fit(scene, config), fit(scene, replace(config, opacity_reset_every=0)))


def test_rows_added_start_without_moments(scene):
    _, _, cameras, points, colours = scene
    extent = scene_extent(cameras, points)
    optimiser = GaussianOptimiser(initial_gaussians(points, colours, sh_degree=0, extent=extent, unit="mm"), CONFIG, extent)
    for tensor in optimiser.parameters.values():
        tensor.grad = torch.ones_like(tensor)
    optimiser.step()
    optimiser.replace(torch.tensor([4, 7]), {name: value.detach()[:3] for name, value in optimiser.parameters.items()})
    state = optimiser._adam.state[optimiser.parameters["means"]]
    assert len(optimiser) == 5
    assert bool((state["exp_avg"][:2] != 0).all()) and bool((state["exp_avg"][2:] == 0).all())


def test_harmonics_come_one_after_another():
    config = FitConfig(iterations=80, sh_degree=3)
    assert [active_sh_degree(config, step) for step in (0, 9, 10, 20, 30, 79)] == [0, 0, 1, 2, 3, 3]
    assert active_sh_degree(FitConfig(sh_degree=0), 399) == 0


def test_views_of_other_shapes_and_lenses(scene):
    truth, _, _, points, colours = scene
    lens = {"width": 56, "height": 36, "fx": 45.0, "fy": 50.0, "cx": 20.0, "cy": 22.5}
    cameras = [replace(orbit_camera(yaw, 0, 48), **lens) for yaw in (0, 120, 240)] + [orbit_camera(60, 0, 40)]
    images = [photograph(truth, camera) for camera in cameras]
    fitted = fit_views(images, cameras, points, colours, CONFIG)
    for camera, image in zip(cameras, images):
        seen = render(fitted, camera, outputs=("rgb",)).rgb.permute(1, 2, 0).clamp(0, 1).numpy()
        assert psnr(seen, image[..., :3] / 255 * (image[..., 3:] / 255)) > 22


def test_bad_input_is_named(scene):
    _, images, cameras, points, colours = scene
    with pytest.raises(ValueError, match="5 images for 6 cameras"):
        fit_views(images[1:], cameras, points, colours, CONFIG)
    with pytest.raises(ValueError, match="the camera says 48x48"):
        fit_views([images[0][:40]], cameras[:1], points, colours, CONFIG)
    with pytest.raises(ValueError, match="alpha is zero everywhere"):
        fit_views([np.zeros_like(images[0])], cameras[:1], points, colours, CONFIG)
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_views(images, cameras, points * np.nan, colours, CONFIG)
    with pytest.raises(ValueError, match="N at least 4"):
        fit_views(images, cameras, points[:3], colours[:3], CONFIG)
    with pytest.raises(ValueError, match="behind the cameras"):
        fit_views(images[:1], cameras[:1], points + np.array([0, 0, 2000]), colours, CONFIG)


def write_subject(folder, scene) -> None:
    truth, images, cameras, points, colours = scene
    held_out = orbit_camera(30, 0, SIZE, name="heldout0")
    for camera, image in zip([*cameras, held_out], [*images, photograph(truth, held_out)]):
        write_png(folder / "images" / f"{camera.name}.png", image)
    for group, members in {"fit": cameras, "heldout": [held_out], "maps": [held_out]}.items():
        save_cameras(folder / f"cameras_{group}.json", members)
    np.savez(folder / "points.npz", points=points.astype(np.float32), colours=colours.astype(np.float32))
    (folder / "mesh.ply").write_text("not looked at")
    write_json(folder / "subject.json", {"name": folder.name})


def test_stage_reads_neither_held_out_images_nor_the_true_mesh(scene, tmp_path):
    fit_config = replace(CONFIG, iterations=8)
    config = Config(name="run", runs_dir=str(tmp_path), device="cpu", reconstruct=ReconstructConfig(fit=fit_config))
    stage = tmp_path / "run" / "01_collect_heads"
    write_subject(stage / "whole", scene)
    shutil.copytree(stage / "whole", stage / "stripped")
    (stage / "stripped" / "mesh.ply").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8)
    write_png(stage / "stripped" / "images" / "heldout0.png", noise)
    results = []
    for name in ("whole", "stripped"):
        out = tmp_path / name
        out.mkdir()
        fit_subject(config, f"{name}/regularised", out)
        results.append((out / "gaussians.ply").read_bytes())
    assert results[0] == results[1]


def test_presets_of_few_views_and_of_few_gaussians_in_the_stage(scene, tmp_path):
    presets = ["vanilla", "few_views", "few_gaussians"]
    fit = replace(CONFIG, iterations=8, few_views=2, few_gaussians=120, presets=presets)
    config = Config(name="run", runs_dir=str(tmp_path), device="cpu", reconstruct=ReconstructConfig(fit=fit))
    config.evaluate.bootstrap = 50
    subject = tmp_path / "run" / "01_collect_heads" / "someone"
    write_subject(subject, scene)
    write_json(subject.parent / "stage.json", {"state": "done", "fingerprint": "f"})
    for name in ("fit1", "fit2", "fit4", "fit5"):  # images that two views of six must not need
        (subject / "images" / f"{name}.png").rename(tmp_path / f"{name}.png")
    fit_subject(config, "someone/few_views", tmp_path)
    for name in ("fit1", "fit2", "fit4", "fit5"):
        (tmp_path / f"{name}.png").rename(subject / "images" / f"{name}.png")
    reconstruct(config, jobs=1)
    found = tmp_path / "run" / "02_reconstruct_gaussians" / "someone"
    records = {preset: json.loads((found / preset / "reconstruction.json").read_text()) for preset in presets}
    assert {preset: record["fit_views"] for preset, record in records.items()} == dict(zip(presets, (6, 2, 6)))
    assert records["few_gaussians"]["gaussians"] <= 120 < records["vanilla"]["gaussians"]
    assert (found / "few_views" / "gaussians.ply").read_bytes() == (tmp_path / "gaussians.ply").read_bytes()
    rows = read_results(found.parent / "heldout.csv")
    assert {(row.fit, row.n) for row in rows if row.metric == "psnr"} == {(preset, 1) for preset in presets}


def test_settings_of_presets_that_are_not_made_change_no_fingerprint():
    def digest(presets: list[str], **changes) -> str:
        return fingerprint(fit_settings(ReconstructConfig(fit=replace(CONFIG, presets=presets, **changes))))

    for changes, preset in (({"few_views": 3}, "few_views"), ({"few_gaussians": 3}, "few_gaussians")):
        assert digest(["vanilla"]) == digest(["vanilla"], **changes)
        assert digest(["vanilla", preset]) != digest(["vanilla", preset], **changes)
    assert digest(["vanilla"]) != digest(["vanilla"], iterations=9)


def test_fits_of_another_run_are_taken_and_the_others_made(scene, tmp_path):
    fit = replace(CONFIG, iterations=8, presets=["vanilla", "regularised"])
    config = Config(name="run", runs_dir=str(tmp_path), device="cpu", reconstruct=ReconstructConfig(fit=fit))
    write_subject(tmp_path / "run" / "01_collect_heads" / "someone", scene)
    write_json(tmp_path / "run" / "01_collect_heads" / "stage.json", {"state": "done", "fingerprint": "f"})
    given = tmp_path / "given" / "someone" / "vanilla"
    given.mkdir(parents=True)
    fit_subject(config, "someone/vanilla", given)
    gaussians = load_gaussians_ply(given / "gaussians.ply")
    gaussians.means[:] += 1.0
    save_gaussians_ply(given / "gaussians.ply", gaussians)
    config.reconstruct.fits = str(tmp_path / "given")
    reconstruct(config, jobs=1)
    found = tmp_path / "run" / "02_reconstruct_gaussians" / "someone"
    assert (found / "vanilla" / "gaussians.ply").read_bytes() == (given / "gaussians.ply").read_bytes()
    assert json.loads((found / "regularised" / "reconstruction.json").read_text())["fit"] == "regularised"
    assert all((found / preset / "heldout.json").is_file() for preset in fit.presets)
    rows = read_results(tmp_path / "run" / "02_reconstruct_gaussians" / "heldout.csv")
    assert {row.fit for row in rows if row.metric == "seconds"} == {"regularised"}  # the given one's are another machine's
    assert {row.fit for row in rows if row.metric == "psnr"} == {"vanilla", "regularised"}
    config.reconstruct.fit.iterations = 9
    with pytest.raises(ValueError, match=r"vanilla.reconstruction.json: .*'iterations': 8.*expected .*'iterations': 9"):
        reconstruct(config, jobs=1)
    config.reconstruct.fits = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"reconstruct.fits: .*nowhere: no such folder"):
        check_inputs(config, [2])
    (tmp_path / "nothing").mkdir()
    config.reconstruct.fits = str(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"reconstruct.fits: .*nothing: no someone.vanilla.gaussians.ply nor any other fit"):
        reconstruct(config, jobs=1)
