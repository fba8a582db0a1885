"""The training loop: data, resume, divergence, accumulation, and that it learns."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from splathead.checkpoints import load_checkpoint, load_weights, save_checkpoint, save_weights
from splathead.config import ModelConfig, TrainConfig
from splathead.images import DepthMap
from splathead.metrics.zones import ZoneSettings
from splathead.models import architecture_for, create_network
from splathead.models.interpolation import upsample
from splathead.synthetic import synthetic_view
from splathead.training.data import Crop, PairSet, epoch_plan
from splathead.training.device import create_accelerator, training_backend
from splathead.training.objective import cosine_rate, validation_rmse_mm
from splathead.training.pairs import TrainingPair, make_pair
from splathead.training.state import TrainingError
from splathead.training.trainer import Trainer, TrainingReport

pytestmark = pytest.mark.usefixtures("single_thread")

CPU = torch.device("cpu")
ZONES = ZoneSettings(band_px=2, jump=40.0)  # small frames have wide pixels: neighbours differ more
SMALL = TrainConfig(
    model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), epochs=3, batch_size=2, grad_accum=1, crop=32,
    crops_per_view=2, learning_rate=2e-3, loss_scale="lsb",
)  # fmt: skip


def pair(seed: int, *, size: int = 128, scale: int = 4, lr: str = "lr_8bit") -> TrainingPair:
    view = synthetic_view(seed, 10.0 * seed, size, scale)
    return make_pair(f"head{seed}", view[lr], view["surface"], ZONES)


def pair_set(count: int = 3, first: int = 0, **options) -> PairSet:
    return PairSet([pair(seed, **options) for seed in range(first, first + count)], CPU)


@pytest.fixture(scope="module")
def train_pairs() -> PairSet:
    return pair_set()


@pytest.fixture(scope="module")
def val_pairs() -> PairSet:
    return pair_set(1, 7)


def trainer(folder, train: PairSet, val: PairSet | None = None, settings: TrainConfig = SMALL, seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    network = create_network("unet", architecture_for(settings.model, scale=train.scale, target=settings.target))
    return Trainer(network, train, val, settings, folder, accelerator=create_accelerator("cpu"), seed=seed)


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# data


@pytest.mark.parametrize("lr", ["lr_8bit", "lr_16bit"])
def test_pairs_state_the_target_in_the_inputs_normalisation(lr):
    view = synthetic_view(0, 0.0, 128)
    made = PairSet([make_pair("x", view[lr], view["surface"])], CPU)
    batch = made.batch([Crop(0, 0, 0, flip=False)], 0)
    encoding, mask = view[lr].encoding, batch.mask[0, 0] > 0
    depth = batch.target01[0, 0].double() * (encoding.far - encoding.near) + encoding.near
    np.testing.assert_allclose(depth[mask], view["surface"].depth[mask.numpy()], atol=1e-3)
    # 1.2 mm in front of the splats: outside 0..1, and not clamped
    assert batch.target01[batch.mask > 0].min() < 0
    inside = view[lr].mask
    codes = encoding.encode(view[lr].depth, inside)
    np.testing.assert_allclose(batch.lr_depth01[0, 0][inside], (codes[inside] - 1.0) / encoding.steps, atol=1e-6)
    assert (batch.lr_depth01 >= 0).all() and (batch.lr_depth01 <= 1).all()  # extended, not zero-filled
    assert batch.lr_depth01[0, 0][~inside].min() > 0.05


def test_masks_are_what_predictions_cover(train_pairs):
    view = synthetic_view(0, 0.0, 128)
    half = view["lr_8bit"].mask.copy()
    half[:, :16] = False
    lr = replace(view["lr_8bit"], mask=half)
    code = make_pair("x", lr, view["surface"]).code
    assert not code[:, :62].any() and code[:, 66:].any()
    with pytest.raises(ValueError, match="no pixel in common"):
        make_pair("x", replace(lr, mask=np.pad(np.ones((1, 1), bool), ((0, 31), (0, 31)))), view["surface"])
    with pytest.raises(ValueError, match="empty mask"):
        make_pair("x", replace(lr, mask=np.zeros_like(half)), view["surface"])
    with pytest.raises(ValueError, match="8 bits, expected 16"):
        make_pair("x", lr, lr)


def test_non_square_frames_and_wrong_factors():
    view = synthetic_view(0, 0.0, 128)

    def cut(depth_map: DepthMap, rows: int) -> DepthMap:
        return replace(depth_map, depth=depth_map.depth[:rows], mask=depth_map.mask[:rows])

    made = make_pair("x", cut(view["lr_8bit"], 24), cut(view["surface"], 96))
    assert made.code.shape == (96, 128) and made.scale == 4
    batch = PairSet([made], CPU).batch([Crop(0, 0, 0, flip=True)], 0)
    assert batch.target01.shape == (1, 1, 96, 128)
    with pytest.raises(ValueError, match="expected a whole factor"):
        make_pair("x", cut(view["lr_8bit"], 24), view["surface"])
    with pytest.raises(ValueError, match=r"scale factors \[2, 4\]"):
        PairSet([made, pair(0, scale=2)], CPU)


def test_crops_and_flips_cut_input_and_target_alike(train_pairs):
    whole = train_pairs.batch([Crop(1, 0, 0, flip=False)], 0)
    crop = train_pairs.batch([Crop(1, 9, 12, flip=False), Crop(1, 9, 12, flip=True)], 32)
    torch.testing.assert_close(crop.target01[0], whole.target01[0, :, 36:68, 48:80])
    torch.testing.assert_close(crop.mask[0], whole.mask[0, :, 36:68, 48:80])
    torch.testing.assert_close(crop.lr_depth01[0], whole.lr_depth01[0, :, 9:17, 12:20])
    for tensor in (crop.target01, crop.mask, crop.lr_depth01):
        torch.testing.assert_close(tensor[1], tensor[0].flip(-1))


def test_an_epoch_shows_every_view_equally_often_and_depends_on_seed_and_epoch_alone(train_pairs):
    options = {"seed": 3, "batch_size": 2, "crop": 32, "crops_per_view": 4}
    plan = epoch_plan(train_pairs, epoch=5, **options)
    assert [len(batch) for batch in plan] == [2] * 6
    assert np.bincount([crop.index for batch in plan for crop in batch]).tolist() == [4, 4, 4]
    assert plan == epoch_plan(train_pairs, epoch=5, **options)
    assert plan != epoch_plan(train_pairs, epoch=6, **options)
    assert plan != epoch_plan(train_pairs, epoch=5, **{**options, "seed": 4})
    for crop in (crop for batch in plan for crop in batch):
        assert 0 <= crop.top <= 24 and 0 <= crop.left <= 24
        assert train_pairs.pairs[crop.index].lr.mask[crop.top : crop.top + 8, crop.left : crop.left + 8].any()
    padded = epoch_plan(train_pairs, epoch=0, seed=0, batch_size=2, processes=2)
    assert len(padded) == 2 and all(len(batch) == 2 for batch in padded)


@pytest.mark.parametrize("crop", [30, 160])
def test_crops_that_do_not_fit_are_refused(tmp_path, train_pairs, crop):
    with pytest.raises(ValueError, match=f"train.crop: {crop}, expected a multiple of 4 up to the frames' 128"):
        trainer(tmp_path, train_pairs, settings=replace(SMALL, crop=crop))


# learning


@pytest.mark.slow
def test_one_sample_is_overfitted_to_a_fifth_of_bilinear(tmp_path):
    data = pair_set(1, 2, size=64)
    settings = replace(
        SMALL, model=ModelConfig(base_ch=8, base="bilinear", zero_init=True), epochs=220, batch_size=1, crop=0,
        crops_per_view=1, learning_rate=3e-3, validate_every=220, checkpoint_every=220,
    )  # fmt: skip
    run = trainer(tmp_path, data, data, settings)
    before = validation_rmse_mm(run.network, data)
    batch = data.batch([Crop(0, 0, 0, flip=False)], 0)
    inside = torch.from_numpy(data.pairs[0].interior)
    bilinear = (upsample(batch.lr_depth01, 4, "bilinear") - batch.target01)[0, 0][inside]
    assert before == pytest.approx(float(bilinear.double().square().mean().sqrt()) * data.pairs[0].lr.range, rel=1e-5)
    assert run.run().val_rmse_mm < before / 5


@pytest.mark.parametrize("lr", ["lr_8bit", "lr_16bit"])
def test_training_beats_bilinear_on_another_head(tmp_path, lr):
    train, val = pair_set(3, lr=lr), pair_set(1, 7, lr=lr)
    settings = replace(SMALL, epochs=8, learning_rate=5e-3, validate_every=4)
    run = trainer(tmp_path, train, val, settings)
    before = validation_rmse_mm(run.network, val)  # zero-initialised: bilinear
    report = run.run()
    assert report.complete and report.epochs_done == 8
    assert report.val_rmse_mm < 0.8 * before
    assert validation_rmse_mm(run.network, val) == report.val_rmse_mm  # the best weights are those left in the network


def test_the_weights_that_validate_best_are_kept(tmp_path, train_pairs, val_pairs, monkeypatch):
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("splathead.training.trainer.validation_rmse_mm", lambda *_: next(scores))
    run = trainer(tmp_path, train_pairs, val_pairs)
    kept = {}
    end_epoch = run._end_epoch
    run._end_epoch = lambda: (kept.update({run.progress.step // run.steps_per_epoch: weights_of(run.network)}), end_epoch())
    report = run.run()
    assert (report.best_epoch, report.val_rmse_mm) == (2, 1.0)
    assert_same(weights_of(run.network), kept[2])


def test_accumulated_batches_equal_one_large_batch(tmp_path, train_pairs):
    """With frozen batch statistics and full masks, two batches of 2 give the gradients of one of 4."""
    crops = [Crop(0, 14, 14, flip=False), Crop(1, 14, 14, flip=True), Crop(2, 14, 14, flip=False), Crop(0, 13, 14, flip=True)]
    assert train_pairs.batch(crops, 16).mask.all()
    results = []
    for group in ([crops], [crops[:2], crops[2:]]):
        run = trainer(tmp_path, train_pairs, settings=replace(SMALL, crop=16, model=ModelConfig(base_ch=4)))
        run.network.eval()
        run.step(group)
        moments = run.state.optimizer.state_dict()["state"].values()
        results.append(torch.cat([m["exp_avg"].reshape(-1) for m in moments]))
    assert results[0].abs().max() > 0
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6 * float(results[0].abs().max()))


def test_rate_falls_as_a_cosine():
    assert cosine_rate(1e-4, 0, 100) == pytest.approx(1e-4)
    assert cosine_rate(1e-4, 50, 100) == pytest.approx(5e-5)
    assert cosine_rate(1e-4, 99, 100) < 1e-7


# resuming


def run_in_pieces(folder, train, val, settings, stops: list[int]) -> tuple[Trainer, TrainingReport]:
    """Train in sessions that end after each of ``stops`` optimiser steps as if killed, then to the end."""
    for stop in stops:
        run = trainer(folder, train, val, settings, seed=0)
        step = run.step

        def limited(group, made, run=run, step=step, stop=stop):
            if run.progress.step >= stop:
                raise KeyboardInterrupt
            step(group, made)

        run.step = limited
        with pytest.raises(KeyboardInterrupt):
            run.run()
    torch.rand(7)  # the caller's generator must not matter
    run = trainer(folder, train, val, settings, seed=0)
    return run, run.run()


def log_rows(folder) -> list[dict]:
    timing = ("seconds", "images_per_second", "peak_memory_mib")
    with (folder / "log.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in timing} for row in csv.DictReader(file)]


@pytest.mark.parametrize("checkpoint_every", [1, 2])
def test_an_interrupted_training_resumes_to_the_bit(tmp_path, train_pairs, val_pairs, checkpoint_every):
    settings = replace(SMALL, checkpoint_every=checkpoint_every)
    whole = trainer(tmp_path / "whole", train_pairs, val_pairs, settings)
    expected = whole.run()
    assert whole.steps_per_epoch == 3
    resumed, report = run_in_pieces(tmp_path / "pieces", train_pairs, val_pairs, settings, [2, 4, 7])
    assert_same(weights_of(whole.network), weights_of(resumed.network))
    assert log_rows(tmp_path / "whole") == log_rows(tmp_path / "pieces")
    assert (report.best_epoch, report.val_rmse_mm) == (expected.best_epoch, expected.val_rmse_mm)
    whole_moments, resumed_moments = (run.state.optimizer.state_dict()["state"] for run in (whole, resumed))
    for index, moments in whole_moments.items():
        assert_same(moments, resumed_moments[index])


def test_a_time_limit_ends_cleanly_and_a_larger_one_resumes(tmp_path, train_pairs, val_pairs):
    whole = trainer(tmp_path / "whole", train_pairs, val_pairs)
    whole.run()
    folder = tmp_path / "limited"
    short = trainer(folder, train_pairs, val_pairs)
    short._time_is_up = lambda: short.progress.step >= 2  # in the middle of the first epoch
    report = short.run()
    assert not report.complete and report.epochs_done == 0 and report.val_rmse_mm is not None
    assert (report.steps_done, report.steps) == (2, 9)
    again = trainer(folder, train_pairs, val_pairs, replace(SMALL, max_seconds=1e-6))  # spent already
    assert not again.run().complete
    assert again.progress.step == load_checkpoint(again.checkpoint_path)[1]["progress"]["step"] == 2
    rest = trainer(folder, train_pairs, val_pairs)
    assert rest.run().complete
    assert_same(weights_of(whole.network), weights_of(rest.network))


def test_the_last_steps_before_a_time_limit_are_validated_too(tmp_path, train_pairs, val_pairs):
    run = trainer(tmp_path, train_pairs, val_pairs, replace(SMALL, learning_rate=1e-4))
    run._time_is_up = lambda: run.progress.step >= 5  # two steps after the first validation
    seen = []
    validate = run._validate
    run._validate = lambda: (seen.append(run.progress.step), validate())[1]
    report = run.run()
    assert seen == [3, 5] and report.steps_done == 5
    assert report.val_rmse_mm == pytest.approx(validation_rmse_mm(run.network, val_pairs))


def test_a_checkpoint_of_something_else_is_refused(tmp_path, train_pairs):
    settings = replace(SMALL, epochs=1)
    trainer(tmp_path, train_pairs, settings=settings).run()
    with pytest.raises(TrainingError, match="epochs 1 there, 2 now"):
        trainer(tmp_path, train_pairs, settings=replace(settings, epochs=2)).run()
    with pytest.raises(TrainingError, match="seed 0 there, 1 now"):
        trainer(tmp_path, train_pairs, settings=settings, seed=1).run()
    with pytest.raises(TrainingError, match=r"checkpoint of another training \(data"):
        trainer(tmp_path, pair_set(2), settings=settings).run()
    runtime = replace(settings, max_seconds=99.0, checkpoint_every=7, baselines=[], apply=False)
    assert trainer(tmp_path, train_pairs, settings=runtime).run().complete


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path, train_pairs):
    settings = replace(SMALL, epochs=1)
    first = trainer(tmp_path, train_pairs, settings=settings)
    first.run()
    good = first.checkpoint_path.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for content in (good[: len(good) // 2], b"", b"\x80\x04pickle", bytes(flipped)):
        first.checkpoint_path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint.safetensors: damaged checkpoint"):
            trainer(tmp_path, train_pairs, settings=settings).run()


# divergence


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(tmp_path, train_pairs):
    run = trainer(tmp_path, train_pairs)
    loss_of = run.loss_of
    run.loss_of = lambda *args: loss_of(*args) * (math.nan if run.progress.step == 4 else 1.0)
    with pytest.raises(TrainingError, match=r"losses are not finite at optimiser step 4 \(last views: head\d"):
        run.run()
    tensors, state = load_checkpoint(run.checkpoint_path)
    assert state["progress"]["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())


def test_weights_that_are_not_finite_are_never_saved(tmp_path, train_pairs):
    run = trainer(tmp_path, train_pairs)
    step = run.step

    def poison(group, made):
        step(group, made)
        run.network.encoder[0][1].running_var.fill_(math.inf)  # what an fp16 overflow leaves behind

    run.step = poison
    with pytest.raises(TrainingError, match="running_var is not finite"):
        run.run()
    assert not run.checkpoint_path.exists()


def test_batches_made_ahead_are_those_of_the_plan(tmp_path, train_pairs, val_pairs):
    run = trainer(tmp_path, train_pairs, val_pairs, SMALL)
    seen, step = [], run.step
    run.step = lambda group, made: (seen.append((run.progress.step, group, made)), step(group, made))
    run.run()
    crop = run._batch_shape(0)[1]
    assert [position for position, _, _ in seen] == list(range(run.total_steps))
    for position, group, made in seen:
        epoch, index = divmod(position, run.steps_per_epoch)
        accum = SMALL.grad_accum
        assert group == run.plan(epoch)[index * accum : (index + 1) * accum]
        for crops, batch in zip(group, made, strict=True):
            again = train_pairs.batch(crops, crop)
            assert torch.equal(batch.target01, again.target01) and torch.equal(batch.lr_depth01, again.lr_depth01)


def test_backend_switches_are_put_back():
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    with training_backend(replace(SMALL, deterministic=True), CPU):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()) == before


# files


def test_weights_are_checked_against_their_description(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = {"a": torch.arange(6.0).view(2, 3)}
    digest = save_weights(path, weights, {"note": 1})
    loaded, info = load_weights(path)
    assert torch.equal(loaded["a"], weights["a"]) and info["sha256"] == digest and info["note"] == 1
    side = path.with_suffix(".json")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    path.write_bytes(path.read_bytes()[:-2] + b"\1\0")
    with pytest.raises(ValueError, match=r"SHA-256 .* expected .* of model.json: damaged or mixed up"):
        load_weights(path)
    side.write_text('{"schema": 9, "sha256": ""}')
    with pytest.raises(ValueError, match="schema 9, this version reads 1"):
        load_weights(path)
    side.unlink()
    with pytest.raises(FileNotFoundError, match=r"model.json: no such file; weights are"):
        load_weights(path)
    with pytest.raises(ValueError, match="pickled weights are not loaded"):
        load_weights(tmp_path / "model.pth")


def test_checkpoint_keeps_tensors_and_state(tmp_path):
    path = tmp_path / "c.safetensors"
    tensors = {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "b": torch.tensor([1], dtype=torch.uint8)}
    save_checkpoint(path, tensors, {"x": [1, None, 0.1]})
    loaded, state = load_checkpoint(path)
    assert_same(tensors, loaded)
    assert state == {"x": [1, None, 0.1]}
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "d.safetensors")
