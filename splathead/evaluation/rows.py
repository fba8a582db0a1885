"""From scores of views to rows of the results contract: means over people with bootstrap intervals, paired differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from splathead.config import Config
from splathead.evaluation.views import View
from splathead.metrics.statistics import Estimate, bootstrap_mean, paired_difference
from splathead.results import ResultRow, device_name, git_state
from splathead.stages import fingerprint

REFERENCES = ("bilinear", "bicubic", "bilinear_offset")
"""Baselines that every network is compared with, paired by view."""

PAIRED_METRICS = ("rmse", "mae", "psnr", "normal_error", "chamfer_l1", "f_score")

GROUP = ("source", "split", "fit", "mode", "target", "zone", "metric", "threshold", "unit")
"""Keys of a record that, with the method, make one row."""

FROM_GAUSSIANS = ("raw_splat",)
"""Methods that see the Gaussians at full resolution (track C); the others see the low-resolution depth only (track A)."""


def record(
    view: View, info: dict, method: str, target: str, zone: str, metric: str, value: float, unit: str, threshold: str = ""
) -> list[dict]:
    """One score of one view as a JSON record, or none when the measure is undefined there (NaN)."""
    if math.isnan(value):
        return []
    sample = view.sample
    return [{
        "identity": info["identity"], "source": info["source"], "split": info["split"], "fit": sample.fit, "mode": sample.mode,
        "subject": sample.subject, "view": sample.view, "yaw_deg": view.pair.yaw_deg, "method": method, "target": target,
        "zone": zone, "metric": metric, "value": float(value), "unit": unit, "threshold": threshold,
    }]  # fmt: skip


def aggregate(config: Config, records: Sequence[dict], experiment: str) -> list[ResultRow]:
    """Rows for near-frontal and all views, each fit and mode apart, with paired differences of the networks."""
    frontal = [entry for entry in records if abs(entry["yaw_deg"]) <= config.evaluate.frontal_yaw_deg]
    commit, dirty = git_state()
    common = {
        "experiment": experiment, "seed": config.seed, "device": device_name(), "commit": commit, "dirty": dirty,
        "config_hash": fingerprint(config),
    }  # fmt: skip
    rows = []
    for views, chosen in (("near_frontal", frontal), ("all", records)):
        groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
        for entry in chosen:
            groups[tuple(entry[name] for name in GROUP)][entry["method"]].append(entry)
        for key, by_method in groups.items():
            rows += _group_rows(config, {**common, "views": views}, key, by_method)
    return rows


def _group_rows(config: Config, common: dict, key: tuple, by_method: dict[str, list[dict]]) -> list[ResultRow]:
    source, split, fit, mode, target, zone, metric, threshold, unit = key
    fields = {
        **common, "dataset": source, "split": split, "fit": fit, "raster_mode": mode, "target": target, "zone": zone,
        "metric": metric, "threshold": threshold, "unit": unit, "degradation_test": "render",
    }  # fmt: skip
    options = {"resamples": config.evaluate.bootstrap, "seed": config.seed}

    def row(method: str, estimate: Estimate, method_b: str = "") -> ResultRow:
        return ResultRow(
            **fields, method=method, method_b=method_b, track="C" if method in FROM_GAUSSIANS else "A",
            value=estimate.value, ci_low=estimate.ci_low, ci_high=estimate.ci_high, n=estimate.n,
        )  # fmt: skip

    rows = []
    for method, entries in by_method.items():
        values, people = [entry["value"] for entry in entries], [entry["identity"] for entry in entries]
        rows.append(row(method, bootstrap_mean(values, people, **options)))
    networks = [name for name in by_method if name not in (*config.train.baselines, "true_depth")]
    for method in networks if metric in PAIRED_METRICS else ():
        for reference in REFERENCES:
            pairs = _paired(by_method[method], by_method.get(reference, []))
            if pairs:
                rows.append(row(method, paired_difference(*zip(*pairs), **options), reference))
    return rows


def _paired(entries: list[dict], reference: list[dict]) -> list[tuple[float, float, str]]:
    """(value, reference value, identity) of the views that both have."""
    other = {(entry["subject"], entry["view"]): entry["value"] for entry in reference}
    return [
        (entry["value"], other[entry["subject"], entry["view"]], entry["identity"])
        for entry in entries
        if (entry["subject"], entry["view"]) in other
    ]


def print_table(rows: Sequence[ResultRow], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Lines for the terminal: methods by (``metric [threshold]``, zone), all views, and the networks' paired verdicts."""
    lines = []
    for fit, mode, target in sorted({(row.fit, row.raster_mode, row.target) for row in rows if row.target}):
        block = [row for row in rows if (row.fit, row.raster_mode, row.target, row.views) == (fit, mode, target, "all")]
        values = {(f"{row.metric} {row.threshold}".strip(), row.zone, row.method): row for row in block if not row.method_b}
        shown = [column for column in columns if any(key[:2] == column for key in values)]
        lines += ["", f"target {target}, fit {fit} ({mode}), all test views"]
        lines.append(f"  {'':18s}" + "".join(f"{f'{metric}, {zone}':>26s}" for metric, zone in shown))
        for method in dict.fromkeys(row.method for row in block):
            cells = [values.get((*column, method)) for column in shown]
            lines.append(f"  {method:18s}" + "".join(f"{_cell(row):>26s}" for row in cells))
        paired = [row for row in block if row.method_b and row.zone == "interior"]
        lines += [_verdict(row) for row in paired if row.metric in ("rmse", "chamfer_l1")]
    return lines


def _cell(row: ResultRow | None) -> str:
    return "-" if row is None else f"{row.value:.3f} {row.unit}"


def _verdict(row: ResultRow) -> str:
    interval = "" if row.ci_low is None else f" [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
    decided = row.ci_low is not None and (row.ci_low > 0 or row.ci_high < 0)
    verdict = ("better" if row.value < 0 else "worse") if decided else "no clear difference"
    name = f"{row.method} against {row.method_b}, {row.metric} {row.zone}"
    people = f"{row.n} {'person' if row.n == 1 else 'people'}"
    return f"  {name}: {row.value:+.3f}{interval} {row.unit} over {people}: {verdict}"
