"""From scores of views to rows of the results contract: means over people with bootstrap intervals, paired differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from splathead.config import Config
from splathead.evaluation.scores import ScoreKey, ScoreSheet
from splathead.evaluation.views import RENDERED, Method
from splathead.method_names import GUIDED, OURS, base_method
from splathead.metrics.mesh import CURVE_THRESHOLDS, TABLE_THRESHOLDS
from splathead.metrics.statistics import bootstrap_intervals
from splathead.results import ResultRow, device_name, git_state

EXPERIMENT = "main"
REFERENCES = ("bilinear", "bicubic", "bilinear_offset", "unet", "unet_normals_none")
"""Methods that every network (and what else ``COMPARED`` names) is compared with, paired by view."""
LONG, LONGEST = "_long", "_longest"
"""End the names of networks that differ from another in a longer schedule alone"""
MORE_DATA = (OURS + LONGEST, OURS + "_mix", OURS + "_fits", OURS + "_mix_longer", OURS + "_around", OURS + "_around_tuned")
"""Each is compared with those before it: the first three differ in the data that they were trained on alone (one input, sixteen
of them, more fits), the fourth from the mixture in its schedule alone, the fifth from the fourth in its views alone. The last
is the fourth, trained further on the fifth's views"""
COMPARED = ("bilinear_offset", "variational", "dornet_nyu")
PAIRED_METRICS = {
    "rmse", "mae", "bias", "psnr", "ssim", "normal_error", "chamfer_l1", "hausdorff_95", "normal_consistency", "f_score",
    "f_score_auc",
}  # fmt: skip


@dataclass
class _Scores:
    """Scores of one method on many views of many people."""

    identities: list[str] = field(default_factory=list)
    views: list[tuple[str, str]] = field(default_factory=list)  # (subject, view)
    yaws_deg: list[float] = field(default_factory=list)  # NaN for scores of all views together
    values: list[np.ndarray] = field(default_factory=list)  # each [K], NaN = undefined

    def chosen(self, indices: Sequence[int]) -> _Scores:
        return _Scores(*([column[i] for i in indices] for column in vars(self).values()))

    def within(self, yaw_deg: float) -> _Scores:
        """Those of views at most so far from the front."""
        return self.chosen([i for i, yaw in enumerate(self.yaws_deg) if abs(yaw) <= yaw_deg])

    def minus(self, other: _Scores) -> _Scores:
        """Differences on the views that both have."""
        position = {view: i for i, view in enumerate(other.views)}
        common = self.chosen([i for i, view in enumerate(self.views) if view in position])
        pairs = zip(common.values, (other.values[position[view]] for view in common.views))
        return replace(common, values=[mine - theirs for mine, theirs in pairs])

    def identity_means(self) -> np.ndarray:
        """Means [n, K] over each person's defined values; NaN where there is none."""
        _, group = np.unique(self.identities, return_inverse=True)
        values = np.stack(self.values)
        sums, counts = np.zeros((2, group.max() + 1, values.shape[1]))
        np.add.at(sums, group, np.nan_to_num(values))
        np.add.at(counts, group, ~np.isnan(values))
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def aggregate(
    config: Config, sheets: Sequence[ScoreSheet], methods: Sequence[Method], config_hash: str, experiment: str = EXPERIMENT
) -> list[ResultRow]:
    """Rows for near-frontal and all views; split, fit, rasterisation and target are never mixed, nor datasets, but where
    several have the same unit there are rows of all together as well.

    Each method's mean over people with its interval, and for the first seed of every network the paired differences to
    ``REFERENCES``.
    """
    keys = list(dict.fromkeys(key for sheet in sheets for key in sheet.keys))
    by_folder = {method.folder: method for method in methods}
    commit, dirty = git_state()
    common = {"experiment": experiment, "device": device_name(), "commit": commit, "dirty": dirty, "config_hash": config_hash}
    rows = []
    for labels, scores in _grouped(sheets, keys).items():
        group = common | dict(zip(("dataset", "split", "fit", "raster_mode", "target"), labels))
        choices = {"all": scores}
        if not any(config.subjects.map_elevations):  # where views look down on a head, a small yaw is not its front
            frontal = {name: found.within(config.evaluate.frontal_yaw_deg) for name, found in scores.items()}
            choices = {"near_frontal": frontal, **choices}
        for views, chosen in choices.items():
            make = _RowMaker(config, keys, {**group, "views": views})
            for folder, found in chosen.items():
                method = by_folder.get(folder)  # None for maps that no method made: true depth, an error budget's
                columns = _labels(folder, method, config)
                rows += make.rows(found, **columns)
                others = [by_folder[other] for other in chosen if other in by_folder]
                for name, reference in _references(method, others) if method else ():
                    rows += make.rows(found.minus(chosen[reference]), **columns, method_b=name)
    return rows


def _labels(folder: str, method: Method | None, config: Config) -> dict:
    if method is None:
        return {"method": folder, "seed": config.seed, "degradation_test": RENDERED}
    return {
        "method": method.name, "track": method.track, "seed": config.seed if method.seed is None else method.seed,
        "degradation_train": method.degradation_train, "degradation_test": method.degradation_test,
    }  # fmt: skip


def _references(method: Method, others: Sequence[Method]) -> list[tuple[str, str]]:
    """Name and folder of what the first seed of a method is compared with: the first seed of each, applied to the same input.
    What is made of another method's predictions is also compared with that method, and a network with its guides with itself
    without."""
    base = base_method(method.name)
    seeds = [o.seed or 0 for o in others if replace(o, folder=method.folder, seed=method.seed) == method]
    if (method.seed or 0) > min(seeds, default=method.seed or 0):
        return []
    if not (method.is_network or method.name in COMPARED or base != method.name):
        return []
    found: dict[str, Method] = {}
    for other in sorted(others, key=lambda m: (m.seed or 0, m.folder)):
        same_training = other.degradation_train == method.degradation_train or not other.is_network
        wanted = _are_rivals(method, other) or other.name in (*REFERENCES, base, method.name.removesuffix(GUIDED))
        if wanted and other.degradation_test == method.degradation_test and same_training:
            found.setdefault(other.name, other)
    names = dict.fromkeys((*REFERENCES, *sorted(found)))
    return [(name, found[name].folder) for name in names if name in found and name != method.name]


def _are_rivals(method: Method, other: Method) -> bool:
    """Whether ``method`` is ours, ``other`` a network of the same input track, and one of these holds:

    * ``method`` is our network, ``other`` somebody else's;
    * ``method`` is a variant of our network, ``other`` that network, or it with the long schedule, which some variants have;
    * both have the same longer schedule, ``other`` is somebody else's;
    * ``other`` comes before ``method`` in ``MORE_DATA``.
    """
    if not method.name.startswith(OURS) or not other.is_network or other.track != method.track:
        return False
    theirs = not other.name.startswith(OURS)
    if method.name in (OURS, OURS + GUIDED):
        return theirs
    ours, others = method.name.removesuffix(GUIDED), other.name.removesuffix(GUIDED)
    same_schedule = any(ours.endswith(longer) and others.endswith(longer) for longer in (LONG, LONGEST))
    less_data = MORE_DATA[: MORE_DATA.index(ours)] if ours in MORE_DATA else ()
    return others in (OURS, OURS + LONG, *less_data) or (theirs and same_schedule)


def _grouped(sheets: Iterable[ScoreSheet], keys: Sequence[ScoreKey]) -> dict[tuple[str, ...], dict[str, _Scores]]:
    """(dataset, split, fit, rasterisation, target) -> method -> scores, with columns as in ``keys``."""
    sheets = list(sheets)
    groups: dict[tuple[str, ...], dict[str, _Scores]] = defaultdict(lambda: defaultdict(_Scores))
    position = {key: i for i, key in enumerate(keys)}
    metric = sorted({sheet.head.dataset for sheet in sheets if sheet.scale.metric})
    together = [replace(sheet, head=replace(sheet.head, dataset="+".join(metric))) for sheet in sheets if sheet.scale.metric]
    for sheet in sheets + (together if len(metric) > 1 else []):
        head, columns = sheet.head, np.array([position[key] for key in sheet.keys])
        for row in sheet.rows:
            scores = groups[head.dataset, head.split, head.fit, head.raster_mode, row.target][row.method]
            values = np.full(len(keys), np.nan)
            values[columns[: len(row.values)]] = row.values
            scores.identities.append(head.identity)
            scores.views.append((head.subject, row.view))
            scores.yaws_deg.append(np.nan if row.yaw_deg is None else row.yaw_deg)
            scores.values.append(values)
    return groups


@dataclass(frozen=True)
class _RowMaker:
    """Makes the rows of one group of scores; ``columns`` are what they have in common."""

    config: Config
    keys: Sequence[ScoreKey]
    columns: dict

    def rows(self, scores: _Scores, **columns: str) -> list[ResultRow]:
        """One row for each measure that is defined for someone."""
        if not scores.values:
            return []
        means = scores.identity_means()
        defined = ~np.isnan(means)
        wanted = [k for k, key in enumerate(self.keys) if self._used(key, paired="method_b" in columns)]
        by_people: dict[bytes, list[int]] = defaultdict(list)  # measures that are defined for the same people
        for k in wanted:
            if defined[:, k].any():
                by_people[defined[:, k].tobytes()].append(k)
        rows = []
        for group in by_people.values():
            part = means[defined[:, group[0]]][:, group]
            low, high = bootstrap_intervals(part, resamples=self.config.evaluate.bootstrap, seed=self.config.seed)
            for k, *numbers in zip(group, part.mean(axis=0).tolist(), low.tolist(), high.tolist()):
                estimate = dict(zip(("value", "ci_low", "ci_high") if len(part) > 1 else ("value",), numbers))
                rows.append(ResultRow(**self.columns, **columns, **self.keys[k]._asdict(), **estimate, n=len(part)))
        return rows

    def _used(self, key: ScoreKey, *, paired: bool) -> bool:
        """Whether a table or figure uses a measure: whole F-score curves are for all views of a method, inside, only."""
        if paired and key.metric not in PAIRED_METRICS:
            return False
        on_curve_only = key.metric == "f_score" and key.threshold in CURVE_THRESHOLDS - TABLE_THRESHOLDS
        return not on_curve_only or (not paired and self.columns["views"] == "all" and key.zone == "interior")
