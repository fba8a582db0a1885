"""Stage 12: tables, figures and the HTML report of a run; paper tables and the README's block from committed results."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from splathead.config import Config
from splathead.fusion import load_mesh
from splathead.images import atomic_path
from splathead.metrics.surface import Surface
from splathead.report.data import RESULT_FILES, Results, load_results, method_label, published_files, run_files, without_parts
from splathead.report.figures import all_figures, inline_svg, save_figure
from splathead.report.html import Page, build_page
from splathead.report.panels import ViewMaps, available_methods, choose_samples, load_view, nice_error_range
from splathead.report.publishing import publish_file
from splathead.report.table_set import all_tables
from splathead.report.tables import Table
from splathead.report.typeset import latex, markdown
from splathead.report.viewer import ViewerMesh, viewer_json, viewer_subject
from splathead.results import ResultRow, device_name, write_results
from splathead.samples import STAGE_NAMES, list_subjects, predictions_folder, stage_folder, subject_folder, subject_info
from splathead.stages import read_record
from splathead.subjects.splits import freeze_splits

REPORTED_STAGES = (2, 4, 6, 7, 8, 9, 10, 11)
README_BLOCK = "results"
"""Name of the README's block of main results: it stands between two markers ``<!-- results:begin -->``, ``... end -->``"""


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_timings(config: Config, path: Path) -> None:
    """Seconds and peak memory of each finished stage (its ``stage.json``) as result rows."""
    rows = []
    for number, name in STAGE_NAMES.items():
        record = read_record(stage_folder(config, number))
        if number == 12 or record is None or record.get("state") != "done":
            continue
        row = ResultRow(
            experiment="timings", dataset=config.subjects.source, method=name, metric="seconds", unit="s",
            value=float(record["seconds"]), seed=config.seed, device=device_name(), commit=record.get("commit", ""),
            dirty=record.get("dirty"), config_hash=record["fingerprint"],
        )  # fmt: skip
        rows += [row, replace(row, metric="peak_memory", unit="MiB", value=float(record["peak_memory_mib"]))]
    write_results(path, rows)


def write_tables(results: Results, folder: Path) -> list[Table]:
    """Write every table as ``<key>.tex`` and ``<key>.md``."""
    tables = all_tables(results)
    for table in tables:
        write_text(folder / f"{table.key}.tex", latex(table))
        write_text(folder / f"{table.key}.md", markdown(table))
    return tables


def build_run_report(config: Config, folder: Path) -> Path:
    """Write ``tables/``, ``figures/`` and ``report.html`` of a run into ``folder``; returns the report's path.

    Numbers come from the run's result files, pictures from its maps, predictions and meshes; what a stage has not
    made is left out and named on the page.
    """
    write_timings(config, folder / RESULT_FILES["timings"][1])
    results = load_results(run_files(config))
    tables = write_tables(results, folder / "tables")
    figures = all_figures(results)
    for key, (_, figure) in figures.items():
        save_figure(figure, folder / "figures", key, config.report.formats)
    views = _views(config)
    error_range = nice_error_range(views)
    if views:
        from splathead.report.examples import examples_figure

        save_figure(examples_figure(views, error_range), folder / "figures", "examples", config.report.formats)
    page = Page(
        config.name, config.description, results, tables,
        figures={key: (title, inline_svg(figure, title)) for key, (title, figure) in figures.items()},
        views=views, error_range=error_range, viewer=_viewer(config, error_range), missing=missing_stages(config),
    )  # fmt: skip
    write_text(folder / "report.html", build_page(page))
    return folder / "report.html"


def build_from_eval(config: Config, eval_folder: Path, folder: Path) -> list[Path]:
    """Write ``tables/`` and ``figures/`` from committed results ``<eval_folder>/<config.name>_<kind>.csv``."""
    results = load_results(published_files(eval_folder, config.name))
    write_tables(results, folder / "tables")
    for key, (_, figure) in all_figures(results).items():
        save_figure(figure, folder / "figures", key, config.report.formats)
    return sorted([*(folder / "tables").glob("*"), *(folder / "figures").glob("*")])


def publish(config: Config, eval_folder: Path) -> list[Path]:
    """Write the run's results to ``<eval_folder>/<config.name>_<kind>.csv``, without the rows that nothing reads
    (:mod:`splathead.report.publishing` says which).

    The first time, ``<eval_folder>/splits.json`` records the run's split with the SHA-256 of its test meshes; results
    of another split or of other meshes are refused afterwards.
    """
    files = run_files(config)
    if not files:
        raise FileNotFoundError(f"{config.run_folder}: no result files to publish; run stages 02, 07, 08 or 11 first")
    targets = {kind: Path(eval_folder) / f"{config.name}_{kind}.csv" for kind in files}
    infos = [subject_info(config, name) for name in list_subjects(config)]
    freeze_splits(Path(eval_folder) / "splits.json", config.name, infos)
    for kind, paths in files.items():
        publish_file(kind, paths, targets[kind])
    return list(targets.values())


def update_readme(path: Path, results: Results, name: str, block: str = README_BLOCK) -> None:
    """Replace one of the README's blocks by the main tables of ``results``."""
    wanted = ("main_surface_all", "main_render_all", "fused", "heldout")
    tables = all_tables(without_parts(results))
    blocks = [markdown(table) for table in tables if table.key.removesuffix("_fractions") in wanted]
    if not blocks:
        raise ValueError(f"{path}: the results of {name!r} hold no main table to show")
    intro = f"Measured by `configs/{name}.yaml`; made by `scripts/12_make_tables.py --readme`, not by hand."
    replace_block(path, "\n".join([intro, "", *blocks]), block)


def replace_block(path: Path, content: str, block: str = README_BLOCK) -> None:
    """Put ``content`` between the markers of a block of a Markdown file, and change nothing else."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), flags=re.S)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{path}: expected exactly one block {begin} ... {end}")
    filled = f"{begin}\n\n{content}\n{end}"
    write_text(path, pattern.sub(lambda _: filled, text))


def finished_stages(config: Config) -> list[str]:
    """Names of the finished stages that the report reads, an error when there is none."""
    names = [STAGE_NAMES[number] for number in REPORTED_STAGES if _finished(config, number)]
    if not names:
        wanted = ", ".join(STAGE_NAMES[number] for number in REPORTED_STAGES)
        raise RuntimeError(f"{config.run_folder}: none of the stages {wanted} has finished; run run_pipeline.py first")
    return names


def missing_stages(config: Config) -> list[str]:
    """Stages with results that belong to the run and are not finished."""
    numbers = sorted({stage for stage, _ in RESULT_FILES.values()} & set(config.stages) - {12})
    return [STAGE_NAMES[number] for number in numbers if not _finished(config, number)]


def _finished(config: Config, number: int) -> bool:
    record = read_record(stage_folder(config, number))
    return record is not None and record.get("state") == "done"


def _views(config: Config) -> list[ViewMaps]:
    if not predictions_folder(config).is_dir() or not available_methods(config):
        return []
    return [load_view(config, sample) for sample in choose_samples(config)]


def _viewer(config: Config, error_range: float) -> str:
    """JSON of the fused meshes of the first ``report.subjects`` heads, beside the true mesh; empty when there are none."""
    root = stage_folder(config, 11)
    paths = sorted(root.glob("*/*/*/mesh.ply"))
    items = sorted({(path.parent.parent.name, path.parent.name) for path in paths})
    variants = sorted({variant for _, variant in items}, key=lambda name: (not name.startswith("regularised"), name))
    shown = [(subject, variant) for subject, variant in items if variant == variants[0]][: config.report.subjects]
    subjects = []
    for subject, variant in shown:
        true_path = subject_folder(config, subject) / "mesh.ply"
        true_mesh = load_mesh(true_path) if true_path.is_file() else None
        truth = Surface.build(true_mesh.vertices, true_mesh.faces) if true_mesh else None
        meshes = [
            ViewerMesh(method_label(method), load_mesh(root / method / subject / variant / "mesh.ply"), truth)
            for method in available_methods(config)
            if (root / method / subject / variant / "mesh.ply").is_file()
        ]
        if true_mesh:
            meshes.append(ViewerMesh("true mesh", true_mesh))
        name = f"{subject} ({variant})"
        subjects.append(viewer_subject(name, meshes, max_faces=config.report.mesh_faces, error_range=error_range))
    return viewer_json(subjects) if subjects else ""
