"""The methods of stage 06 as things that can be applied to samples: networks and the baselines beside them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from splathead.checkpoints import load_weights
from splathead.config import Config, ModelConfig
from splathead.devices import compute_device, gpu_count, network_jobs
from splathead.guides import beside_input, view_guides
from splathead.images import DepthMap, load_depth_png, save_depth_png, write_json
from splathead.maps.view_maps import load_guide_maps
from splathead.method_names import GUIDED
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models import network_guides, works_without_guides
from splathead.models.interpolation import fit_offset
from splathead.prediction import (
    interpolate_depth,
    load_input,
    load_raw_splat,
    scale_factor,
    splat_surface_prediction,
)
from splathead.preflight import dornet_weights
from splathead.sample_network import SampleNetwork
from splathead.samples import Sample, input_stage, list_samples
from splathead.stages import Stage, fingerprint, fingerprint_path

WRITER_THREADS = 4
OFFSETS_NAME = "offsets.json"
OFFSET_VIEWS = 400
"""Training views (spread evenly) that a constant (``bilinear_offset``'s, an interval operator's) is fitted on, at most"""

Predict = Callable[[Sample], DepthMap]


@dataclass(frozen=True)
class Predictor:
    """One method. ``make(folder)`` loads what it needs and returns the function; ``fit(folder)``, where there is one, was
    called once before and left its result in ``folder``."""

    method: str
    settings: dict
    """everything its predictions depend on besides the inputs (JSON-ready)"""
    make: Callable[[Path], Predict]
    fit: Callable[[Path], None] | None = None
    on_gpu: bool = False
    is_network: bool = False
    """``make`` returns a :class:`SampleNetwork`"""

    @property
    def name(self) -> str:
        """Its method's name in results; ``method`` is its folder's, in a study ``<name>-<target>[+seed<n>]``."""
        return self.settings.get("method", self.method)

    @property
    def names(self) -> tuple[str, str]:
        """What a configuration may call it, see :meth:`is_called`: its method's name and its folder's."""
        return self.name, self.method

    def is_called(self, name: str) -> bool:
        """Whether a configuration's ``name`` means it: its method (``unet``: in a study every target and seed of it), or its
        folder, in a study ``<method>-<target>[+seed<n>]`` (``unet-surface+seed1``: that training alone)."""
        return name in self.names

    def derived(self, suffix: str) -> str:
        """Folder of a method that is made of this one and has ``suffix`` added to its name."""
        return folder_as(self.method, self.name, self.name + suffix)


def folder_as(folder: str, method: str, other: str) -> str:
    """A method's folder were the method called ``other``: target and seed, which follow it in a study, stay behind it."""
    return folder.replace(method, other, 1)


def called_predictors(names: Iterable[str], predictors: Sequence[Predictor]) -> list[Predictor]:
    """Those of ``predictors`` that a configuration's ``names`` mean, in the order of the names; each once, whether a method or
    a folder or both mean it."""
    found = {predictor.method: predictor for name in names for predictor in predictors if predictor.is_called(name)}
    return list(found.values())


def check_methods(key: str, wanted: Iterable[str], names: Iterable[tuple[str, str]]) -> None:
    """ValueError for a method ``wanted`` by the configuration's ``key`` that is none of stage 06's, which have these
    :attr:`Predictor.names`."""
    known = sorted({name for pair in names for name in pair})
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(f"{key}: {missing[0]!r} is not among the methods of stage 06: {', '.join(known)}")


def network_predictors(config: Config, name: str, weights: Path, *, of_study: bool = False) -> list[Predictor]:
    """The network with these weights (checked now; loaded when used). One that works without its guides is two methods,
    ``<method>`` without and ``<method>_guided`` with them.

    ``of_study``: method, target and seed are those it was trained as; otherwise ``name`` is the method. ValueError for a
    ``name`` that does not begin with the method: the two of one network would share a folder.
    """
    _, info = load_weights(weights)
    method, guides = info["method"] if of_study else name, beside_input(info["architecture"].get("guides", []))
    if not name.startswith(method):
        raise ValueError(f"{weights.parent}: a network trained as {method!r}, expected a folder whose name begins with that")
    network = info["architecture"]["name"]
    settings = {"weights": info["sha256"], "lr_input": info["lr_input"], "target": info["target"], "seed": info["seed"]}

    def predictor(name: str, method: str, *, guided: bool) -> Predictor:
        make = functools.partial(_make_network, config, weights, guided)
        own = {"method": method, "guides": guides if guided else []}
        return Predictor(name, settings | own, make, on_gpu=True, is_network=True)

    return [
        predictor(folder_as(name, method, variant), variant, guided=guided)
        for variant, guided in _variants(method, network, guides)
    ]


def methods_of(method: str, model: ModelConfig) -> list[tuple[str, bool]]:
    """The methods that one trained network is, and whether each sees its guides: two for one that works without them."""
    return _variants(method, model.name, beside_input(network_guides(model)))


def _variants(method: str, network: str, guides: Sequence[str]) -> list[tuple[str, bool]]:
    if guides and works_without_guides(network):
        return [(method, False), (method + GUIDED, True)]
    return [(method, bool(guides))]


def _make_network(config: Config, weights: Path, guided: bool, _folder: Path) -> SampleNetwork:
    return SampleNetwork.load(config, weights, guided=guided)


def baseline_predictors(config: Config, limit: int = 0) -> tuple[list[Predictor], list[str]]:
    """``train.baselines`` as predictors, and a note on each that cannot be applied here."""
    predictors, notes = [], []
    for method in config.train.baselines:
        settings = {"lr_input": config.train.lr_input}
        if method == "raw_splat":
            predictors.append(Predictor(method, {}, functools.partial(_make_raw, config)))
        elif method == "splat_surface":
            from splathead.models.splat_surface import SplatSurfaceSettings

            settings = asdict(SplatSurfaceSettings(jump=config.pairs.jump_mm))
            predictors.append(Predictor(method, settings, functools.partial(_make_splat_surface, config)))
        elif method == "bilinear_offset":
            found = _offset_predictors(config, limit)
            predictors += found
            if not found:
                notes.append("bilinear_offset: left out, there are no training subjects to fit its offset on")
        elif method == "variational":
            predictors.append(Predictor(method, settings, functools.partial(_make_variational, config)))
        elif method == "dornet_nyu":
            settings |= {"guides": ["rgb"], "weights": fingerprint_path(dornet_weights(config))}
            predictors.append(Predictor(method, settings, functools.partial(_make_dornet, config), on_gpu=True))
        else:
            predictors.append(Predictor(method, settings, functools.partial(_make_interpolation, config, method)))
    return predictors, notes


def _make_raw(config: Config, _folder: Path) -> Predict:
    return functools.partial(load_raw_splat, config)


def _make_splat_surface(config: Config, _folder: Path) -> Predict:
    return functools.partial(splat_surface_prediction, config)


def _make_interpolation(config: Config, mode: str, _folder: Path) -> Predict:
    return _interpolator(config, mode, {})


def _interpolator(config: Config, mode: str, offsets_mm: dict[str, float]) -> Predict:
    def predict(sample: Sample) -> DepthMap:
        if offsets_mm and sample.variant not in offsets_mm:
            raise ValueError(f"{sample}: no offset for this variant, training subjects have {sorted(offsets_mm)}")
        lr = load_input(config, sample, config.train.lr_input)
        return interpolate_depth(lr, scale_factor(config, sample, lr), mode, offsets_mm.get(sample.variant, 0.0))

    return predict


def _offset_predictors(config: Config, limit: int) -> list[Predictor]:
    """``bilinear_offset``: one for ``train.target``; in a study one for every evaluated target. With the networks of another
    run (``train.weights`` a folder) that run's constants are used. None without training subjects."""
    given = Path(config.train.weights) / "predictions"
    if config.train.weights and given.is_dir():
        found = {path.parent.name: json.loads(path.read_text()) for path in sorted(given.glob(f"*/{OFFSETS_NAME}"))}
    else:
        targets = config.evaluate.targets if config.trainings else [config.train.target]
        names = [f"bilinear_offset-{target}" if config.trainings else "bilinear_offset" for target in targets]
        found = {name: {"target": target} for name, target in zip(names, targets)}
    samples = list_samples(config, 5, splits=("train",), limit=limit) if input_stage(config) == 5 else []
    predictors = []
    for name, record in found.items():
        settings = {"lr_input": config.train.lr_input, "method": "bilinear_offset", "target": record["target"]}
        if "offsets" in record:
            make = functools.partial(_make_given_offset, config, record["offsets"])
            predictors.append(Predictor(name, settings | {"offsets": record["offsets"]}, make))
        elif samples:
            settings |= {"zone": [config.pairs.interior_px, config.pairs.jump_mm], "limit": limit}
            fit = functools.partial(_fit_offsets, config, samples, record["target"])
            predictors.append(Predictor(name, settings, functools.partial(_make_offset, config), fit))
    return predictors


def _make_given_offset(config: Config, offsets_mm: dict[str, float], _folder: Path) -> Predict:
    return _interpolator(config, "bilinear", offsets_mm)


def _make_offset(config: Config, folder: Path) -> Predict:
    return _interpolator(config, "bilinear", json.loads((folder / OFFSETS_NAME).read_text())["offsets"])


def _fit_offsets(config: Config, samples: Sequence[Sample], target: str, folder: Path) -> None:
    write_json(folder / OFFSETS_NAME, {"target": target, "unit": "mm", "offsets": fit_offsets(config, samples, target)})


def fit_offsets(config: Config, samples: Sequence[Sample], target: str) -> dict[str, float]:
    """Per variant the constant in mm that bilinear interpolation lacks on ``samples``, over the target's interior."""
    zones = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
    bilinear = _interpolator(config, "bilinear", {})

    def interior_errors(sample: Sample):
        truth = load_depth_png(sample.path(config, 5) / f"hr_{target}.png")
        prediction = bilinear(sample)
        inside = compute_zones(truth.depth, zones).interior & prediction.mask
        return truth.depth[inside] - prediction.depth[inside]

    offsets = {}
    for variant in sorted({sample.variant for sample in samples}):
        with ThreadPoolExecutor(WRITER_THREADS) as pool:
            offsets[variant] = fit_offset(list(pool.map(interior_errors, spread_samples(samples, variant))))
    return offsets


def spread_samples(samples: Sequence[Sample], variant: str) -> list[Sample]:
    """Those of ``variant``, at most ``OFFSET_VIEWS`` of them, spread evenly: what constants are fitted on."""
    mine = [sample for sample in samples if sample.variant == variant]
    chosen = np.unique(np.linspace(0, len(mine) - 1, min(OFFSET_VIEWS, len(mine))).round().astype(int))
    return [mine[i] for i in chosen]


def _make_variational(config: Config, _folder: Path) -> Predict:
    from splathead.prediction import variational_prediction

    def predict(sample: Sample) -> DepthMap:
        lr = load_input(config, sample, config.train.lr_input)
        return variational_prediction(lr, scale_factor(config, sample, lr))

    return predict


def _make_dornet(config: Config, _folder: Path) -> Predict:
    from splathead.models.dornet import load_nyu_weights
    from splathead.prediction import network_prediction

    device = compute_device(config.device)
    network = load_nyu_weights(dornet_weights(config)).to(device).eval()

    def predict(sample: Sample) -> DepthMap:
        lr = load_input(config, sample, config.train.lr_input)
        guides = view_guides(("rgb",), load_guide_maps(config, sample, ("rgb",)), lr, network.architecture.scale)
        return network_prediction(network, lr, guides, device, "DORNet-T, NYU x4 weights")

    return predict


def write_predictions(stage: Stage, predictor: Predictor, samples: Sequence[Sample], config: Config, jobs: int = 1) -> None:
    """Apply a method to samples, writing ``<subject>/<variant>/<view>.png`` with sidecars into the stage's folder.

    ``jobs`` processes work on subjects in parallel; of networks as many as GPUs have memory for, and one without a GPU.
    """
    if predictor.fit is not None:
        predictor.fit(stage.folder)
    subjects = sorted({sample.subject for sample in samples})
    gpus = gpu_count(config.device)
    workers = jobs if not predictor.on_gpu else network_jobs(config.device, jobs) if gpus else 1
    work = functools.partial(_write_subject, predictor, stage.folder, list(samples))
    stage.run_items(work, subjects, jobs=workers, unit="head", gpus=gpus)


_made: dict[str, Predict] = {}


def _write_subject(predictor: Predictor, folder: Path, samples: Sequence[Sample], subject: str, out_dir: Path) -> None:
    key = fingerprint([str(folder), predictor.settings])
    if key not in _made:  # workers make a method once, and hold one at a time
        _made.clear()
        _made[key] = predictor.make(folder)
    chosen = [sample for sample in samples if sample.subject == subject]
    with ThreadPoolExecutor(WRITER_THREADS) as pool:
        writes = [pool.submit(save_depth_png, out_dir / s.variant / f"{s.view}.png", _made[key](s)) for s in chosen]
    for write in writes:
        write.result()
