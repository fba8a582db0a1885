"""Stage 12: tables (LaTeX, Markdown), figures (PDF, PNG) and one self-contained report.html from the run's results.

Every number comes from the tidy CSVs of stages 02, 06, 07, 08 and 11. With --from_eval, tables and figures are made
from committed results instead, without a run.
"""

from pathlib import Path

from splathead import cli
from splathead.samples import STAGE_NAMES
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/12_make_tables.py",
    "python scripts/12_make_tables.py --publish --readme README.md",
    "python scripts/12_make_tables.py --from_eval eval --out paper",
]
EVAL_FOLDER = Path("eval")


def run() -> None:
    """Make the report of a run, or tables and figures of published results."""
    run = cli.parse(__doc__, "report", EXAMPLES)
    from splathead.report import build
    from splathead.report.data import load_results, published_files, run_files

    config, flags = run.config, run.config.report
    if flags.from_eval:
        paths = build.build_from_eval(config, Path(flags.from_eval), Path(flags.out or "."))
        files = published_files(Path(flags.from_eval), config.name)
        print(f"{len(paths)} tables and figures of {config.name} in {Path(flags.out or '.').resolve()}")
    else:
        name = STAGE_NAMES[12]
        inputs = build.finished_stages(config)
        settings = {key: getattr(flags, key) for key in ("formats", "views", "subjects", "mesh_faces")}
        stage = Stage.open(config.run_folder, name, settings, inputs, force=run.force, seed=config.seed)
        if not stage.finished:
            build.build_run_report(config, stage.folder)
            stage.close()
        files = run_files(config)
        print(f"{name}: tables, figures and {stage.folder / 'report.html'}")
        if flags.publish:
            print("published " + ", ".join(map(str, build.publish(config, EVAL_FOLDER))))
    if flags.readme:
        build.update_readme(Path(flags.readme), load_results(files), config.name)
        print(f"results block of {flags.readme} updated")


if __name__ == "__main__":
    cli.main(run)
