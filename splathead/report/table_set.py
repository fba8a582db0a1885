"""The tables of the report: which rows, which columns, what to say below them."""

from __future__ import annotations

from dataclasses import replace

from splathead.report.data import CEILING, TARGET_NAMES, Results, method_label, split_by_scale
from splathead.report.tables import Column, Table, area_thresholds, build_table, f_thresholds

DIFFERENCE_BASES = ("bilinear", "bilinear_offset")
VIEW_NAMES = {"all": "all views", "near_frontal": "near-frontal views"}


def main_table(results: Results, target: str, views: str) -> Table | None:
    """The main comparison on one target: interior depth errors, normals and F-scores, with paired differences."""
    chosen = results.where(experiment="main", target=target, views=views)
    shared = "Bold: best of its input track. Raw splat depth is what the Gaussians themselves show at full size in float."
    if any(row.ci_low is not None for row in chosen.rows):
        bases = ("", *DIFFERENCE_BASES)
        note = f"Mean over test identities with 95 % bootstrap interval over identities. {shared}"
        note += " Last rows: paired differences, bold where the interval excludes zero."
    else:  # without an interval a difference says no more than the two rows
        bases, note = ("",), f"One test identity, so no intervals. {shared}"
    keep = Results(tuple(row for row in chosen.rows if row.method != CEILING and row.method_b in bases))
    depth = [Column(metric, "interior") for metric in ("rmse", "mae", "bias", "psnr", "normal_error")]
    f_scores = [Column("f_score", "interior", threshold) for threshold in f_thresholds(keep)]
    return build_table(
        f"main_{target}_{views}",
        f"Depth against {TARGET_NAMES[target]}, interior, {VIEW_NAMES[views]}",
        note,
        keep,
        [*depth, *f_scores],
    )


def zone_table(results: Results, target: str) -> Table | None:
    """Errors by zone, coverage and the checks on the low-resolution grid."""
    chosen = results.where(experiment="main", target=target, views="all", method_b="")
    columns = [
        Column("rmse", "interior", label="RMSE interior"), Column("rmse", "silhouette", label="RMSE silhouette"),
        Column("rmse", "full", label="RMSE full"), Column("ssim", "full", label="SSIM full"),
        Column("coverage", "full"), Column("interval_violation", "interior"), Column("phase_spread", "interior"),
    ]  # fmt: skip
    note = (
        "A pixel that a method leaves empty is scored with bilinear's value; coverage says how many it filled. Interval "
        "violation: low-resolution cells whose mean leaves the input code's interval. Phase spread: standard deviation of "
        "the mean error over the 16 pixel phases of the low-resolution grid."
    )
    return build_table(f"zones_{target}", f"Zones and grid checks against {TARGET_NAMES[target]}", note, chosen, columns)


def surface_table(results: Results, target: str) -> Table | None:
    """Surface measures of single views."""
    chosen = results.where(experiment="main", target=target, views="all", method_b="")
    columns = [Column(metric, "full") for metric in ("chamfer_l1", "hausdorff_95", "normal_consistency")]
    auc = [row.threshold for row in chosen.where(metric="f_score_auc", zone="full").rows]
    columns.append(Column("f_score_auc", "full", auc[0] if auc else "", label="area under F"))
    for metric in ("precision", "recall"):
        columns += [Column(metric, "full", text) for text in area_thresholds(chosen)]
    note = (
        "Exact distances from points to triangles, no alignment. Precision is over predicted vertices, recall over the "
        "visible true surface. The true depth map, triangulated, shows what the pixel grid allows."
    )
    return build_table(f"surface_{target}", f"Single-view surfaces against {TARGET_NAMES[target]}", note, chosen, columns)


def consistency_table(results: Results) -> Table | None:
    """How well the views' depth maps agree where there is no truth; networks are those for the true surface."""
    agreement = results.where(metric=("consistency", "consistency_conflict"))
    chosen = agreement.where(experiment="main", views="all", target=("", "surface"), method_b="")
    note = "Disagreement of depth reprojected between views, % of the diagonal; conflicts look through each other."
    columns = [Column("consistency"), Column("consistency_conflict")]
    return build_table("consistency", "Agreement of the views", note, chosen, columns)


def fused_table(results: Results) -> Table | None:
    """Fused meshes against the true mesh, or against the views where there is no truth."""
    rows = results.where(experiment="fused").rows
    chosen = Results(tuple(replace(row, track="C" if row.track else "") for row in rows))  # all tracks ranked together
    auc = [row.threshold for row in chosen.where(metric="f_score_auc").rows]
    columns = [Column("chamfer_l1"), Column("hausdorff_95"), Column("normal_consistency")]
    columns += [Column("f_score", "", threshold) for threshold in f_thresholds(chosen)]
    columns += [Column("f_score_auc", "", auc[0] if auc else "", label="area under F")]
    columns += [Column("consistency"), Column("consistency_conflict"), Column("faces", label="faces")]
    note = "Recall over the true surface that the fused views see. View disagreement: reprojected depth, % of the diagonal. "
    note += "Bold: best of all."
    return build_table("fused", "Fused meshes", note, chosen, columns)


def heldout_table(results: Results) -> Table | None:
    """Reconstruction quality on views that were never fitted."""
    chosen = results.where(experiment="reconstruction")
    names = ("psnr", "ssim", "lpips", "depth_std", "gaussians", "seconds")
    note = "Views that no fit has seen."
    if len(chosen.where(metric="depth_std")):
        note += " Depth std: along the ray, in the Gaussians."
    return build_table("heldout", "Gaussian reconstruction, held-out views", note, chosen, [Column(name) for name in names])


def training_table(results: Results) -> Table | None:
    """Size and cost of each trained network."""
    names = ("parameters", "steps", "seconds", "throughput", "peak_memory")
    chosen = results.where(split="train", metric=names)
    if len(chosen.distinct("target")) > 1:  # a study's networks are trained once for each target
        named = (replace(row, method=f"{method_label(row)} for {row.target}") for row in chosen.rows)
        chosen = Results(tuple(named))
    note = "Training of this run's networks; images are frames per second (crops by their pixels)."
    columns = [Column(name) for name in names if len(chosen.where(metric=name))]
    return build_table("training", "Training", note, chosen, columns)


def timings_table(results: Results) -> Table | None:
    """Wall-clock time and memory of each stage."""
    chosen = results.where(experiment="timings")
    note = "This run; a resumed stage adds up. Memory is the peak of one process."
    return build_table("timings", "Time and memory by stage", note, chosen, [Column("seconds"), Column("peak_memory")])


def all_tables(results: Results) -> list[Table]:
    """Every table that the results can fill, in the order of the report.

    Results in millimetres and in fractions of the diagonal never share a table. Of several seeds the first is shown.
    """
    tables = []
    for suffix, part in split_by_scale(results.first_seed()).items():
        tables += [replace(table, key=table.key + suffix) for table in _tables_of_one_scale(part)]
    return tables


def _tables_of_one_scale(results: Results) -> list[Table]:
    targets = [target for target in ("surface", "render") if len(results.where(experiment="main", target=target))]
    tables = [main_table(results, target, views) for target in targets for views in ("all", "near_frontal")]
    tables += [builder(results, target) for target in targets for builder in (zone_table, surface_table)]
    builders = (consistency_table, fused_table, heldout_table, training_table, timings_table)
    tables += [builder(results) for builder in builders]
    return [table for table in tables if table is not None]
