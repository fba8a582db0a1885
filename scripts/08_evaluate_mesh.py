"""Stage 08: surface measures of every method (F-score, Hausdorff, normals) against true triangles.

With --f_score_audit also the published study's two F-score settings on the same predictions (f_score_audit.csv).
"""

from splathead import cli

EXAMPLES = [
    "python scripts/08_evaluate_mesh.py",
    "python scripts/08_evaluate_mesh.py --config configs/quick.yaml --bootstrap 10000",
    "python scripts/08_evaluate_mesh.py --targets surface --max_subjects 2",
    "python scripts/08_evaluate_mesh.py --config configs/paper.yaml --f_score_audit",
]


def run() -> None:
    """Evaluate what is not evaluated yet, write mesh.csv and print the main numbers."""
    run = cli.parse(__doc__, "evaluate", EXAMPLES)
    from splathead.evaluation.mesh import run_stage

    for line in run_stage(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)
    if run.config.evaluate.f_score_audit:
        from splathead.evaluation.f_score_audit import run_f_score_audit

        for line in run_f_score_audit(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
            print(line)


if __name__ == "__main__":
    cli.main(run)
