"""Missing inputs are named before a run starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from splathead.config import Config, ModelConfig, ReconstructConfig, SubjectsConfig, TrainConfig
from splathead.preflight import DORNET_VARIABLE, check_inputs
from splathead.shipped import surface_weights


@pytest.mark.parametrize("path", ["", "nowhere/ict"])
def test_missing_subjects_are_named_with_their_key_and_source(path):
    config = Config(subjects=SubjectsConfig(source="ict+anny", path=path))
    with pytest.raises(FileNotFoundError, match=rf"subjects.path: {path or 'empty'}: .*ICT-VGL/ICT-FaceKit"):
        check_inputs(config, [1, 2])
    check_inputs(config, [2, 3])  # not needed any more


def test_missing_splats_and_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv(DORNET_VARIABLE, raising=False)
    config = Config(reconstruct=ReconstructConfig(source="import", import_path="nowhere"))
    with pytest.raises(FileNotFoundError, match=r"reconstruct\.import_path: nowhere"):
        check_inputs(config, [2])
    config = Config(train=TrainConfig(baselines=["bilinear", "dornet_nyu"]))
    with pytest.raises(FileNotFoundError, match=r"no weights given.*NYU_T_X4.pth"):
        check_inputs(config, [1, 6])
    weights = tmp_path / "NYU_T_X4.pth"
    weights.write_bytes(b"x")
    monkeypatch.setenv(DORNET_VARIABLE, str(weights))
    check_inputs(config, [1, 6])


def test_missing_initial_weights_are_named(tmp_path):
    there, missing = surface_weights(), tmp_path / "missing.safetensors"
    ours = ModelConfig(name="splathead", base="limited", range_mm=140.0)
    train = TrainConfig(model=ours, init_weights=str(there))
    config = Config(train=train, trainings=[{"method": "a", "seed": 1}, {"init_weights": str(missing)}])
    with pytest.raises(FileNotFoundError, match=r"train\.init_weights: .*missing\.safetensors: no such file; weights are"):
        check_inputs(config, [6])
    check_inputs(config, [5, 7])
    config.trainings.pop()
    check_inputs(config, [6])
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        check_inputs(Config(train=replace(train, init_weights=str(missing))), [6])
    with pytest.raises(ValueError, match=r"train\.init_weights: .*another network \(name 'splathead', expected 'unet'\)"):
        check_inputs(Config(train=TrainConfig(init_weights=str(there))), [6])
    with pytest.raises(ValueError, match=r"train\.init_weights: .*another network \(range_mm 140\.0, expected 0\.0\)"):
        check_inputs(Config(train=replace(train, model=replace(ours, range_mm=0.0))), [6])


def test_the_default_run_needs_nothing():
    check_inputs(Config(), Config().stages)
