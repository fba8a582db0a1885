import logging
import signal
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

from splathead import cli
from splathead.config import Config, ConfigError, load_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid_and_named_after_its_file(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config.description


def test_defaults_and_overrides(tmp_path):
    config = load_config(write(tmp_path, "train: {model: {base_ch: 8}, learning_rate: 1e-3}\nsubjects: {map_yaws: [0, 10]}"))
    assert config.train.model.base_ch == 8 and config.train.batch_size == Config().train.batch_size
    assert config.train.learning_rate == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert config.subjects.map_yaws == [0.0, 10.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {}", "unknown key trian; the nearest valid key is train"),
        ("train: {batchsize: 3}", r"unknown key train\.batchsize; the nearest valid key is train\.batch_size"),
        ("train: {batch_size: two}", r"train\.batch_size: expected int, found 'two' \(str\)"),
        ("train: {amp: 1}", r"train\.amp: expected bool, found 1"),
        ("train: 3", "train: expected a mapping, found int"),
        ("subjects: {map_yaws: 3}", r"subjects\.map_yaws: expected a list"),
        ("schema: 2", "schema 2, this version reads schema 1"),
        ("- a", "expected a mapping of keys, found list"),
        ("a: [", "not valid YAML"),
        ("device: tpu", "device: 'tpu', expected one of auto, cpu, cuda"),
        ("pairs: {lr_mode: antialiased}", r"pairs\.lr_mode: 'antialiased' is not in render\.modes"),
        ("render: {lr_size: 300}", r"render\.lr_size: 300, expected a divisor"),
        ("train: {weights: a, init_weights: b}", r"train\.weights 'a', train\.init_weights 'b', expected one of both"),
        ("subjects: {map_elevations: []}", r"subjects\.map_elevations: \[\], expected angles from -80 to 80 degrees"),
        ("subjects: {map_elevations: [0, 90]}", r"map_elevations: \[0\.0, 90\.0\], expected angles from -80 to 80"),
        ("subjects: {source: capture, map_elevations: [10]}", r"\[10\.0\] \(subjects\.source capture, .*expected \[0\]"),
        ("{reconstruct: {source: import}, subjects: {map_elevations: [10]}}", r"\(.*reconstruct\.source import\), exp"),
        ("subjects: {count: 8}", r"subjects\.count: 8 leaves no training identity"),
        ("train: {fits: [vanilla]}", r"train\.fits: 'vanilla', expected one of the fits that are made: regularised"),
        ("trainings: [{fits: [few]}]", r"trainings\[0\]: train\.fits: 'few', expected one of the fits that are made: regul"),
        ("{reconstruct: {source: import}, evaluate: {fits: [regularised]}}", r"evaluate\.fits: 'regularised', .* import"),
        ("reconstruct: {fit: {presets: [few]}}", r"presets: 'few', expected one of vanilla, regularised, few_views, few_gau"),
        ("reconstruct: {fit: {few_views: 0}}", r"reconstruct\.fit\.few_views: 0, expected at least 1"),
        ("reconstruct: {fit: {few_gaussians: 0}}", r"reconstruct\.fit\.few_gaussians: 0, expected at least 1"),
        ("reconstruct: {fit: {max_gaussians: 0}}", r"reconstruct\.fit\.max_gaussians: 0, expected at least 1"),
        ("train: {epochs: 0}", r"train\.epochs: 0, expected at least 1"),
    ],
)
def test_bad_configurations_name_file_key_and_remedy(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, text))
    assert "c.yaml" in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such configuration file"):
        load_config(tmp_path / "nothing.yaml")


def test_flags_override_their_section_and_hyphen_equals_underscore():
    quick = str(REPOSITORY / "configs" / "quick.yaml")
    arguments = "--model unet --lr_input 16bit --base_ch 32 --batch-size 3 --grad-accum 5 --epochs 7 --amp --seed 3"
    run = cli.parse("Train.", "train", [], ["--config", quick, *arguments.split()])
    train = run.config.train
    assert (train.model.name, train.model.base_ch, train.lr_input) == ("unet", 32, "16bit")
    assert (train.batch_size, train.grad_accum, train.epochs, train.amp, run.config.seed) == (3, 5, 7, True, 3)
    again = cli.parse("Train.", "train", [], ["--config", quick, "--batch_size=9", "--no-amp", "--max-subjects", "2"])
    assert again.config.train.batch_size == 9 and not again.config.train.amp and again.max_subjects == 2


@pytest.mark.parametrize("flag", ["--capture-front", "--capture_front"])
def test_a_negative_axis_is_a_value_and_no_flag(flag):
    arguments = ["--config", str(REPOSITORY / "configs" / "quick.yaml"), flag, "-y", "--capture_up=-z"]
    settings = cli.parse("Collect.", "subjects", [], arguments).config.subjects
    assert (settings.capture_front, settings.capture_up) == ("-y", "-z")
    assert cli.join_negative_axes(["-z", "--", "-x", "--up", "-y", "-z", "--a=b", "-x"]) == [
        "-z", "--", "-x", "--up=-y", "-z", "--a=b", "-x",
    ]  # fmt: skip


def test_ctrl_c_is_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        cli.main(interrupted)
    logging.disable(logging.NOTSET)
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_termination_is_an_exit_even_where_exceptions_are_ignored():
    class Ending:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        cli.exit_on_termination()
        with pytest.raises(SystemExit) as caught:
            Ending()
            time.sleep(5)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # a second one does not end the tidying up
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143


def test_bad_flag_values_are_refused():
    quick = str(REPOSITORY / "configs" / "quick.yaml")
    with pytest.raises(ConfigError, match=r"train\.lr_input: '17bit', expected 2bit to 16bit or one of bicubic"):
        cli.parse("Train.", "train", [], ["--config", quick, "--lr_input", "17bit"])
    with pytest.raises(SystemExit):
        cli.parse("Train.", "train", [], ["--config", quick, "--batchsize", "2"])


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse("Train.", "train", ["python scripts/06_train_depth_sr.py --amp"], ["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "python scripts/06_train_depth_sr.py --amp" in shown and "--batch" in shown and "--config" in shown


def test_config_survives_yaml(tmp_path):
    from dataclasses import asdict

    assert load_config(write(tmp_path, yaml.safe_dump(asdict(Config())))) == Config()
