"""Scores of single views: what the workers of stages 07 and 08 write, and the tidy ``views.csv`` made of it.

``views.csv`` has one line per head, view, method, target, zone and measure: ``subject, identity, dataset, split, fit,
raster_mode, view, yaw_deg, target, method, zone, metric, threshold, unit, value``. Metrics, units and thresholds are
those of ``splathead.results``; a measure that is undefined in a view has no line. It is for figures and for looking
closer; tables and the paper read the aggregated file beside it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from splathead.config import Config
from splathead.evaluation.views import Scale, head_info
from splathead.images import atomic_path, write_json
from splathead.results import METRICS
from splathead.samples import Sample

SCORES_NAME = "scores.json"
VIEW_COLUMNS = (
    "subject", "identity", "dataset", "split", "fit", "raster_mode", "view", "yaw_deg", "target", "method", "zone", "metric",
    "threshold", "unit", "value",
)  # fmt: skip


class ScoreKey(NamedTuple):
    """What a score measures."""

    zone: str
    metric: str
    threshold: str
    unit: str


class ScoreRow(NamedTuple):
    """Scores of one method in one view against one target; ``values`` [K] follow the sheet's keys, NaN = undefined.

    Scores of all views together (consistency) have no view and no yaw.
    """

    view: str
    yaw_deg: float | None
    target: str
    method: str
    values: np.ndarray


@dataclass(frozen=True)
class Head:
    """Whose scores a sheet holds: one subject in one variant."""

    subject: str
    identity: str
    dataset: str
    split: str
    fit: str
    raster_mode: str


@dataclass
class ScoreSheet:
    """Scores of one head."""

    head: Head
    scale: Scale
    keys: list[ScoreKey] = field(default_factory=list)
    rows: list[ScoreRow] = field(default_factory=list)

    @classmethod
    def of(cls, config: Config, sample: Sample) -> ScoreSheet:
        """An empty sheet for the head that a sample shows."""
        info = head_info(config, sample)
        labels = (info["identity"], info["source"], info["split"], sample.fit, sample.mode)
        return cls(Head(sample.subject, *labels), Scale.of(info))

    def key(self, metric: str, zone: str = "", threshold: str = "") -> ScoreKey:
        """The key of a measure, with the unit in which this head's scores are given."""
        units = METRICS[metric].units
        return ScoreKey(zone, metric, threshold, self.scale.unit if "mm" in units else units[0])

    def add(self, view: str, yaw_deg: float | None, target: str, method: str, scores: Mapping[ScoreKey, float]) -> None:
        """Add one method's scores of a view. Lengths come in mm and are stored in the head's unit."""
        self.keys += [key for key in scores if key not in set(self.keys)]
        values = [self._stored(key, scores.get(key, math.nan)) for key in self.keys]
        self.rows.append(ScoreRow(view, yaw_deg, target, method, np.array(values, dtype=np.float64)))

    def _stored(self, key: ScoreKey, value: float) -> float:
        return self.scale.length(value) if "mm" in METRICS[key.metric].units else value

    def write(self, folder: Path) -> None:
        """Write ``scores.json``."""
        rows = [
            {**row._asdict(), "values": [None if math.isnan(value) else value for value in row.values.tolist()]}
            for row in self.rows
        ]
        data = {"head": asdict(self.head), "scale": asdict(self.scale), "keys": self.keys, "rows": rows}
        write_json(folder / SCORES_NAME, data)

    @classmethod
    def read(cls, folder: Path) -> ScoreSheet:
        """Read what :meth:`write` wrote."""
        data = json.loads((folder / SCORES_NAME).read_text())
        keys = [ScoreKey(*key) for key in data["keys"]]
        rows = []
        for row in data["rows"]:
            values = np.full(len(keys), np.nan)
            values[: len(row["values"])] = [math.nan if value is None else value for value in row["values"]]
            rows.append(ScoreRow(**{**row, "values": values}))
        return cls(Head(**data["head"]), Scale(**data["scale"]), keys, rows)


def write_views(path: Path, sheets: Iterable[ScoreSheet], shown: Callable[[ScoreKey], bool] = lambda key: True) -> None:
    """Write ``views.csv`` (see the module's docstring) with the measures that ``shown`` accepts."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(VIEW_COLUMNS)
        for sheet in sheets:
            columns = [(index, key) for index, key in enumerate(sheet.keys) if shown(key)]
            for row in sheet.rows:
                writer.writerows(_view_lines(sheet.head, row, columns))


def _view_lines(head: Head, row: ScoreRow, columns: Sequence[tuple[int, ScoreKey]]) -> Iterable[list[object]]:
    yaw = "" if row.yaw_deg is None else f"{row.yaw_deg:.3f}"
    labels = [*asdict(head).values(), row.view, yaw, row.target, row.method]
    for index, key in columns:
        if index < len(row.values) and not math.isnan(row.values[index]):
            yield [*labels, *key, f"{row.values[index]:.6g}"]
