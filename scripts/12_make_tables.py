"""Stage 12: the paper's tables and figures from eval/*.csv, or the report of a run.

Without any argument: every table, figure, number and claim of paper/ and the README's results block, from the committed
results alone; the same results give the same bytes. With --config: tables (LaTeX, Markdown), figures (PDF, PNG) and
one self-contained report.html from that run's results. With --from_eval too: from its committed results, without a run.
"""

import os
import sys
from pathlib import Path

from splathead import cli
from splathead.config import Config
from splathead.samples import STAGE_NAMES
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/12_make_tables.py",
    "python scripts/12_make_tables.py --config configs/quick.yaml",
    "python scripts/12_make_tables.py --config configs/quick.yaml --publish",
    "python scripts/12_make_tables.py --config configs/quick.yaml --from_eval eval --out .",
]
EVAL_FOLDER = Path("eval")
PAPER = ["--config", "configs/paper.yaml", "--from_eval", "eval", "--out", "paper", "--readme", "README.md"]
"""What the script does without arguments"""


def run() -> None:
    """Make the report of a run, or tables and figures of published results."""
    run = cli.parse(__doc__, "report", EXAMPLES, sys.argv[1:] or PAPER)
    from splathead.report import build
    from splathead.report.data import load_results, published_files, run_files

    config, flags = run.config, run.config.report
    if flags.from_eval and config.trainings:
        make_paper(config)
        return
    if flags.from_eval:
        paths = build.build_from_eval(config, Path(flags.from_eval), Path(flags.out or "."))
        files = published_files(Path(flags.from_eval), config.name)
        print(f"{len(paths)} tables and figures of {config.name} in {Path(flags.out or '.').resolve()}")
    else:
        name = STAGE_NAMES[12]
        inputs = build.finished_stages(config)
        settings = {key: getattr(flags, key) for key in ("formats", "views", "subjects", "mesh_faces")}
        stage = Stage.open(config.run_folder, name, settings, inputs, force=run.force, seed=config.seed)
        made = "are up to date" if stage.finished else "made"
        if not stage.finished:
            build.build_run_report(config, stage.folder)
            stage.close()
        files = run_files(config)
        print(f"{name}: tables, figures and {stage.folder / 'report.html'} {made}")
        if flags.publish:
            print("published " + ", ".join(map(str, build.publish(config, EVAL_FOLDER))))
    if flags.readme:
        build.update_readme(Path(flags.readme), load_results(files), config.name, flags.readme_block)
        print(f"{flags.readme_block} block of {flags.readme} updated")


def make_paper(config: Config) -> None:
    """Make everything of a study (a configuration with several trainings) from its published results."""
    from splathead.report import build
    from splathead.report.study.build import build_study, readme_block
    from splathead.report.study.data import load_study

    name, flags = config.name, config.report
    folder, eval_folder = Path(flags.out or "."), Path(flags.from_eval)
    study = load_study(eval_folder, name)
    paths = build_study(study, config, eval_folder, folder)
    print(f"{len(paths)} tables, figures and numbers of {name} in {folder.resolve()}, claims in {paths[-1]}")
    if flags.readme:
        figures = os.path.relpath(folder / "figures", Path(flags.readme).parent)
        block = readme_block(study, folder / "figures", Path(figures).as_posix())
        if block:
            build.replace_block(Path(flags.readme), block)
        state = "updated" if block else f"left as it is: {name} has no main table yet"
        print(f"results block of {flags.readme} {state}")


if __name__ == "__main__":
    cli.main(run)
