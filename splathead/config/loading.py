"""YAML to :class:`Config`: an unknown key is an error that names the nearest valid one, choices and ranges are checked."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from pathlib import Path

import yaml

from splathead.choices import BACKEND_MODULES
from splathead.config.experiment import CONFIG_SCHEMA, Config
from splathead.models import BASELINES, NETWORKS, NO_NETWORK

GENERATED = ("anny", "ict", "ict+anny")
"""``subjects.source`` of heads that are sampled here"""
MAX_ELEVATION_DEG = 80.0
"""A camera right above or below a head has no yaw"""


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message names file, key and what is expected."""


def load_config(path: Path) -> Config:
    """Read and check a YAML configuration. Raises :class:`ConfigError` on anything unexpected."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    schema = data.get("schema", CONFIG_SCHEMA)
    if schema != CONFIG_SCHEMA:
        raise ConfigError(f"{path}: schema {schema!r}, this version reads schema {CONFIG_SCHEMA}")
    config = build_section(Config, data, str(path))
    validate(config, str(path))
    return config


NORMAL_TARGETS = ("surface", "splat", "splat_bilateral", "dsine")
"""Where the normals come from that a normal head learns"""

_CHOICES: dict[str, tuple] = {
    "device": ("auto", "cpu", "cuda"),
    "subjects.source": (*GENERATED, "scan", "capture", "photos", "facelift"),
    "reconstruct.source": ("fit", "import", "facelift"),
    "subjects.capture_up": ("auto", "x", "y", "z", "-x", "-y", "-z"),
    "reconstruct.import_up": ("auto", "x", "y", "z", "-x", "-y", "-z"),
    "reconstruct.import_front": ("auto", "x", "y", "z", "-x", "-y", "-z"),
    "render.backend": ("auto", *BACKEND_MODULES),
    "render.modes": ("classic", "antialiased"),
    "pairs.lr_mode": ("classic", "antialiased"),
    "postprocess.large_holes": ("leave", "nearest"),
    "reconstruct.fit.presets": ("vanilla", "regularised", "few_views", "few_gaussians"),
    "reconstruct.fit.start": ("discs", "balls"),
    "reconstruct.fit.background": ("random", "black", "white"),
    "reconstruct.fit.sh_degree": (0, 1, 2, 3),
    "train.target": ("surface", "render"),
    "train.model.name": (*NETWORKS, NO_NETWORK),
    "train.model.base": ("bicubic", "bilinear", "spline", "limited"),
    "train.baselines": BASELINES,
    "train.loss_scale": ("range", "lsb"),
    "train.interval.operator": ("area", "antialiased", "classic"),
    "train.normal_target": ("", *NORMAL_TARGETS),
    "cross.targets": ("surface", "render"),
    "ablations.normals": NORMAL_TARGETS,
    "evaluate.targets": ("surface", "render"),
    "evaluate.splits": ("train", "val", "test"),
    "subjects.splits": ("train", "val", "test"),
    "fuse.formats": ("ply", "obj", "glb"),
    "report.formats": ("png", "pdf"),
}
_COUNTS = (
    "subjects.map_size", "render.lr_size", "reconstruct.fit.iterations", "reconstruct.fit.max_gaussians",
    "reconstruct.fit.few_views", "reconstruct.fit.few_gaussians", "train.epochs", "train.batch_size", "train.grad_accum",
    "train.crops_per_view", "train.checkpoint_every", "train.validate_every", "train.model.base_ch",
)  # fmt: skip
"""Settings that are at least 1"""


def validate(config: Config, source: str) -> None:
    """Check choices and ranges that types cannot express; errors name ``source`` and the key."""
    _check_choices(config, source)
    _check_counts(config, source)
    _check_maps(config, source)
    _check_training(config, source)
    _check_photos(config, source)
    _check_fits(config, source)
    for index, entry in enumerate(config.trainings):
        where = f"{source}: trainings[{index}]"
        changes = {key: value for key, value in entry.items() if key != "seed"}
        train = build_section(type(config.train), changes, where, base=config.train)
        validate(dataclasses.replace(config, trainings=[], train=train), where)


def _value_of(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config)


def _check_choices(config: Config, source: str) -> None:
    for key, choices in _CHOICES.items():
        value = _value_of(config, key)
        for entry in value if isinstance(value, list) else [value]:
            if entry not in choices:
                raise ConfigError(f"{source}: {key}: {entry!r}, expected one of {', '.join(map(str, choices))}")


def _check_counts(config: Config, source: str) -> None:
    held_out = config.subjects.val + config.subjects.test
    if config.subjects.source in GENERATED and held_out >= config.subjects.count:
        raise ConfigError(
            f"{source}: subjects.count: {config.subjects.count} leaves no training identity beside "
            f"{config.subjects.val} val and {config.subjects.test} test"
        )
    for key in _COUNTS:
        if _value_of(config, key) < 1:
            raise ConfigError(f"{source}: {key}: {_value_of(config, key)}, expected at least 1")


def _check_maps(config: Config, source: str) -> None:
    pairs, render = config.pairs, config.render
    if pairs.lr_mode not in render.modes:
        raise ConfigError(f"{source}: pairs.lr_mode: {pairs.lr_mode!r} is not in render.modes {render.modes}")
    if not pairs.lr_bits or not all(2 <= bits <= 16 for bits in pairs.lr_bits):
        raise ConfigError(f"{source}: pairs.lr_bits: {pairs.lr_bits}, expected bit depths from 2 to 16")
    if config.subjects.map_size % render.lr_size:
        raise ConfigError(
            f"{source}: render.lr_size: {render.lr_size}, expected a divisor of subjects.map_size {config.subjects.map_size}"
        )
    subjects = config.subjects
    if not subjects.map_elevations or not all(abs(elevation) <= MAX_ELEVATION_DEG for elevation in subjects.map_elevations):
        limits = f"angles from {-MAX_ELEVATION_DEG:g} to {MAX_ELEVATION_DEG:g} degrees"
        raise ConfigError(f"{source}: subjects.map_elevations: {subjects.map_elevations}, expected {limits}")
    elsewhere = config.reconstruct.source != "fit" or subjects.source not in (*GENERATED, "scan")
    if elsewhere and any(subjects.map_elevations):
        where = f"subjects.source {subjects.source}, reconstruct.source {config.reconstruct.source}"
        expected = "expected [0] but for heads that are generated or scanned, and fitted"
        raise ConfigError(f"{source}: subjects.map_elevations: {subjects.map_elevations} ({where}), {expected}")


def _check_training(config: Config, source: str) -> None:
    train = config.train
    head, normals = train.model.normal_head, train.normal_target
    if head != bool(normals) or (head and train.model.name != "unet"):
        raise ConfigError(
            f"{source}: train.model.normal_head {head} of {train.model.name}, train.normal_target {normals!r}, "
            "expected both or neither, and the unet"
        )
    if train.weights and train.init_weights:
        raise ConfigError(
            f"{source}: train.weights {train.weights!r}, train.init_weights {train.init_weights!r}, expected one of both: "
            "weights are applied, training starts from init_weights"
        )
    if not 0 <= train.interval.max_violation <= 1:
        raise ConfigError(f"{source}: train.interval.max_violation: {train.interval.max_violation}, expected 0 to 1")
    if not 0 <= train.full_frame_share <= 1 or train.steps < 0:
        raise ConfigError(
            f"{source}: train.full_frame_share {train.full_frame_share}, train.steps {train.steps}, "
            "expected a share from 0 to 1 and at least 0 steps"
        )
    inputs = {"train.lr_input": [train.lr_input], "cross.degradations": config.cross.degradations,
              "evaluate.interval_truth": config.evaluate.interval_truth}  # fmt: skip
    for key, names in inputs.items():
        for name in names:
            check_lr_input(name, f"{source}: {key}")


def _check_photos(config: Config, source: str) -> None:
    for key, value in dataclasses.asdict(config.photos).items():
        highest = {"face_px": math.inf, "background": math.inf}.get(key, 1.0)
        if key != "download_dir" and not 0 <= value <= highest:
            raise ConfigError(f"{source}: photos.{key}: {value}, expected 0 to {highest:g}")


def _check_fits(config: Config, source: str) -> None:
    """ConfigError for ``train.fits`` or ``evaluate.fits`` of a fit that stage 02 does not make."""
    kind = config.reconstruct.source
    made = config.reconstruct.fit.presets if kind == "fit" else [kind]
    for key, fits in {"train.fits": config.train.fits, "evaluate.fits": config.evaluate.fits}.items():
        for fit in fits:
            if fit not in made:
                raise ConfigError(f"{source}: {key}: {fit!r}, expected one of the fits that are made: {', '.join(made)}")


def check_lr_input(name: str, where: str) -> None:
    """ConfigError naming ``where`` unless ``name`` is ``<n>bit`` with n = 2 to 16, or a degradation of maps.degrade."""
    from splathead.maps.degrade import STUDY_DEGRADATIONS

    bits = name.removesuffix("bit")
    if name not in STUDY_DEGRADATIONS and not (bits != name and bits.isdecimal() and 2 <= int(bits) <= 16):
        raise ConfigError(f"{where}: {name!r}, expected 2bit to 16bit or one of {', '.join(STUDY_DEGRADATIONS)}")


def build_section(cls: type, data: object, source: str, prefix: str = "", base: object = None) -> object:
    """An instance of the dataclass ``cls`` from a mapping: ``base`` (its defaults when None) with the mapping's keys changed.

    Errors name ``source`` (the file) and ``prefix`` + key.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {prefix.rstrip('.') or 'document'}: expected a mapping, found {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in data.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.0)
            raise ConfigError(f"{source}: unknown key {prefix}{key!s}; the nearest valid key is {prefix}{near[0]}")
        values[key] = _convert(hints[key], value, source, f"{prefix}{key}", getattr(base, key, None))
    return dataclasses.replace(base, **values) if base is not None else cls(**values)


def _convert(hint: object, value: object, source: str, key: str, base: object = None) -> object:
    if dataclasses.is_dataclass(hint):
        return build_section(hint, value, source, f"{key}.", base)
    origin = typing.get_origin(hint)
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{source}: {key}: expected a list, found {value!r}")
        return [_convert(typing.get_args(hint)[0], entry, source, f"{key}[{i}]") for i, entry in enumerate(value)]
    assert not isinstance(hint, types.UnionType), key
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if type(value) is not hint:
        raise ConfigError(f"{source}: {key}: expected {hint.__name__}, found {value!r} ({type(value).__name__})")
    return value
