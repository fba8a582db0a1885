"""Stage 06's predictions out of several views: ``<method>_fused`` and, for a network, ``<method>_multiview``.

``<method>_fused``: a head's predictions of all views are fused, weighed by the error that the network expects of itself where
it tells, and each view is moved to the surface that they agree on (:mod:`splathead.fusion.corrections`).

``<method>_multiview``: the network predicts again. It cannot be given the fused surface itself: a network for the true surface
has learnt by how much an input *of splat depth* lies behind, and would move what is already moved a second time. Its input is
moved instead, by the mean over each low-resolution pixel of what fusion changed: it stays splat depth, with the views'
disagreement taken out.

Both read the method's own finished predictions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.evaluation.views import Scale
from splathead.fusion.corrections import CorrectionSettings, view_corrections
from splathead.fusion.tsdf import DepthView
from splathead.images import DepthEncoding, DepthMap, load_depth_png
from splathead.maps.degrade import downsample
from splathead.method_names import FUSED, PREDICTED_AGAIN
from splathead.models.splat_surface import outlier_weight
from splathead.prediction import PREDICTION_BITS
from splathead.predictors import Predict, Predictor, called_predictors, check_methods
from splathead.samples import Sample, input_stage, list_samples, predictions_folder, subject_info

KEY = "train.multiview"


def multiview_predictors(config: Config, predictors: Sequence[Predictor]) -> list[Predictor]:
    """Those of ``train.multiview`` among ``predictors`` as methods of several views, in the order in which they must run.

    ValueError for a method that is not there (with ``finished_only`` its training may follow: it is left out).
    """
    if not config.finished_only:
        check_methods(KEY, config.train.multiview, [predictor.names for predictor in predictors])
    found = []
    for base in called_predictors(config.train.multiview, predictors):
        found.append(_derived(config, base, FUSED, _make_fused))
        if base.is_network:
            found.append(_derived(config, base, PREDICTED_AGAIN, _make_again))
    return found


def _derived(config: Config, base: Predictor, suffix: str, make) -> Predictor:
    settings = {"lr_input": "", **base.settings, "method": base.name + suffix, "corrections": asdict(_settings(config))}
    return Predictor(base.derived(suffix), settings, functools.partial(make, config, base), on_gpu=base.on_gpu)


def _settings(config: Config) -> CorrectionSettings:
    fuse, pairs = config.fuse, config.pairs
    return CorrectionSettings(fuse.voxel_mm, fuse.truncation_voxels, pairs.jump_mm, pairs.interior_px)


def _make_fused(config: Config, base: Predictor, _folder: Path) -> Predict:
    network = base.make(predictions_folder(config) / base.method) if base.is_network else None
    weighs = network is not None and network.predicts_error

    @functools.lru_cache(maxsize=1)  # samples come head by head
    def corrections(subject: str, variant: str) -> tuple[dict[str, np.ndarray], str]:
        """By view, and a remark on views that were left out."""
        samples = [s for s in _samples_of(config, subject) if s.variant == variant]
        views = []
        for sample in samples:
            own = _own_prediction(config, base, sample)
            weight = outlier_weight(network.error(sample), own.mask) if weighs else None
            views.append(DepthView(own.depth, own.mask, own.camera, confidence=weight))
        diagonal_mm = Scale.of(subject_info(config, subject)).diagonal_mm
        found, left_out = view_corrections(views, diagonal_mm, _settings(config))
        return dict(zip((sample.view for sample in samples), found)), "".join(f"; {line}" for line in left_out)

    def predict(sample: Sample) -> DepthMap:
        own = _own_prediction(config, base, sample)
        by_view, remark = corrections(sample.subject, sample.variant)
        depth = own.depth + by_view[sample.view]
        encoding = DepthEncoding.from_depth(depth, own.mask, PREDICTION_BITS, own.encoding.unit)
        source = f"{own.source}, moved to the surface that all views agree on{remark}"
        return DepthMap(depth, own.mask, encoding, own.camera, source)

    return predict


def _make_again(config: Config, base: Predictor, _folder: Path) -> Predict:
    network = base.make(predictions_folder(config) / base.method)

    def predict(sample: Sample) -> DepthMap:
        own = _own_prediction(config, base, sample)
        fused = load_depth_png(sample.prediction_path(config, base.derived(FUSED)))
        found = network.predict(sample, moved_input(network.load_input(sample), fused.depth - own.depth, own.mask))
        return replace(found, source=f"{found.source}, of an input moved as all views agree")

    return predict


def moved_input(lr: DepthMap, change: np.ndarray, mask: np.ndarray) -> DepthMap:
    """A low-resolution map [h, w] moved by the mean of ``change`` [H, W] over each of its pixels, in the map's unit.

    Only pixels of ``mask`` [H, W] count. Near, far and with them what the network takes for a code step stay; the change is not
    quantised. ValueError for sizes without a whole factor between them.
    """
    factor, rest = divmod(mask.shape[1], lr.mask.shape[1])
    if rest or mask.shape[0] != factor * lr.mask.shape[0]:
        raise ValueError(f"{lr.source}: change of shape {mask.shape} for a map of {lr.mask.shape}, expected a whole factor")
    mean, known = downsample(change, mask, factor, "area")
    return replace(lr, depth=np.where(lr.mask & known, lr.depth + mean, lr.depth).astype(np.float32))


def _samples_of(config: Config, subject: str) -> list[Sample]:
    return [sample for sample in list_samples(config, input_stage(config)) if sample.subject == subject]


def _own_prediction(config: Config, base: Predictor, sample: Sample) -> DepthMap:
    return load_depth_png(sample.prediction_path(config, base.method))
