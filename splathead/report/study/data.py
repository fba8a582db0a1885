"""The published results of a study: which rows are which, and the choice of rows that tables, figures and paper share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from splathead.report.data import Results
from splathead.results import read_results

FITS = ("vanilla", "regularised")
TARGETS = ("surface", "render")
TRACKS = {"A": "Track A: 8-bit depth alone", "B": "Track B: with same-view guides", "C": "Track C: rendered from the Gaussians"}
F_THRESHOLDS = ("0.1mm", "0.25mm", "0.5mm", "1mm", "2mm")
MAIN_KINDS = ("depth", "mesh")
REAL_HEADS = {"scan": "Lee Perry-Smith scan", "capture": "FaceLift capture", "lam": "LAM heads"}
"""Prefix of the kinds of a real head's results -> its name."""
LONG = "long"
"""Prefix of the kinds of the one training with the published schedule."""
AROUND = "around"
"""Prefix of the kinds of the test heads seen from all around, above and below."""
PREFERRED = {
    "raster_mode": ("classic",), "split": ("test",), "views": ("all",), "zone": ("interior",), "target": ("surface",),
    "degradation_train": ("8bit", ""),
}  # fmt: skip
"""What an ablation shows where its results have several values of a column and its table has no place for them."""


@dataclass(frozen=True)
class Study:
    """Results of ``eval/<name>_<kind>.csv`` by kind, and the study's entry of ``eval/splits.json`` (empty when absent)."""

    name: str
    kinds: dict[str, Results]
    splits: dict = field(default_factory=dict)

    @cached_property
    def main(self) -> Results:
        """The main comparison: pooled over data sets, first seed of each method, classic rasterisation."""
        rows = self.main_of_all_data
        return focus(pooled(rows).first_seed(), "raster_mode", "split")

    @cached_property
    def main_of_all_data(self) -> Results:
        """The main comparison of every data set and seed."""
        return self._rows(MAIN_KINDS).where(experiment="main")

    def experiment(self, name: str, *extra: str) -> Results:
        """Rows of an experiment (or one of several), pooled over data sets, first seed of each method."""
        found = (row for row in self._rows(self._own_kinds()).rows if row.experiment in (name, *extra))
        return pooled(Results(tuple(found))).first_seed()

    def training(self) -> Results:
        """Cost of each network's training on the true surface from 8-bit input, first seed."""
        rows = self._rows(("training",)).where(split="train").first_seed()
        return focus(rows, "target", "degradation_train")

    def inference(self) -> Results:
        """Cost of applying each method to one map."""
        return focus(self._rows(self._own_kinds()).where(experiment="inference").first_seed(), "target")

    def real_heads(self) -> dict[str, Results]:
        """Results on each real head by its prefix: rows of the main comparison and of fused meshes."""
        found = {prefix: self._with_prefix(prefix) for prefix in REAL_HEADS}
        return {prefix: rows for prefix, rows in found.items() if len(rows)}

    def long_training(self) -> Results:
        """Quality of the network with the published schedule, pooled over data sets."""
        return self._comparison_with_prefix(LONG)

    def around(self) -> Results:
        """Quality on views from all around, above and below, pooled over data sets."""
        return self._comparison_with_prefix(AROUND)

    def long_cost(self) -> Results:
        """What that training took."""
        return self._with_prefix(LONG).where(experiment="training")

    def _comparison_with_prefix(self, prefix: str) -> Results:
        return focus(pooled(self._with_prefix(prefix).where(experiment="main")).first_seed(), "raster_mode", "split")

    def _with_prefix(self, prefix: str) -> Results:
        return self._rows(kind for kind in self.kinds if kind == prefix or kind.startswith(f"{prefix}_"))

    def _own_kinds(self) -> list[str]:
        others = (*REAL_HEADS, LONG, AROUND)
        return [kind for kind in self.kinds if not any(kind == p or kind.startswith(f"{p}_") for p in others)]

    def _rows(self, kinds) -> Results:
        return Results(tuple(row for kind in kinds if kind in self.kinds for row in self.kinds[kind].rows))


def load_study(eval_folder: Path, name: str) -> Study:
    """Read every ``<eval_folder>/<name>_<kind>.csv`` and the study's splits; FileNotFoundError when there is no such file."""
    eval_folder = Path(eval_folder)
    paths = sorted(eval_folder.glob(f"{name}_*.csv"))
    if not paths:
        raise FileNotFoundError(
            f"{eval_folder}: no {name}_<kind>.csv, expected at least {name}_depth.csv; run configs/{name}.yaml, then this "
            f"script with --config configs/{name}.yaml --publish. The pilot's tables: --config configs/pilot.yaml --from_eval "
            "eval --out DIR"
        )
    splits = eval_folder / "splits.json"
    frozen = json.loads(splits.read_text(encoding="utf-8")) if splits.is_file() else {}
    kinds = {path.stem.removeprefix(f"{name}_"): Results(tuple(read_results(path))) for path in paths}
    return Study(name, kinds, frozen.get(name, {}))


def pooled(results: Results) -> Results:
    """Rows over all heads: those of data set ``a+b`` where there is one; several data sets without it are an error."""
    datasets = results.distinct("dataset")
    together = [name for name in datasets if "+" in name]
    if len(datasets) > 1 and len(together) != 1:
        raise ValueError(f"results of data sets {datasets}, expected one, or one that pools them such as 'ict+anny'")
    return results.where(dataset=together[0]) if together else results


def focus(results: Results, *columns: str) -> Results:
    """For each metric, rows with the preferred value of these columns (:data:`PREFERRED`) where it has it."""
    for column in columns:
        wanted = PREFERRED[column]
        having = {row.metric for row in results.rows if getattr(row, column) in wanted}
        rows = (row for row in results.rows if row.metric not in having or getattr(row, column) in wanted)
        results = Results(tuple(rows))
    return results
