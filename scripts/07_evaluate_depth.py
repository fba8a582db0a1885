"""Stage 07: pixel measures of every method per target, zone and view, with intervals over people.

With --error_budget also what of splat depth's error is bias, noise, resolution and quantisation; with --uncertainty how well
networks know their own errors; with --interval_truth how often true depth contradicts the input's code.
"""

from splathead import cli

EXAMPLES = [
    "python scripts/07_evaluate_depth.py",
    "python scripts/07_evaluate_depth.py --config configs/quick.yaml --bootstrap 10000",
    "python scripts/07_evaluate_depth.py --targets surface --max_subjects 2",
    "python scripts/07_evaluate_depth.py --config configs/quick.yaml --error_budget",
    "python scripts/07_evaluate_depth.py --config configs/paper.yaml --uncertainty splathead splathead_mix",
    "python scripts/07_evaluate_depth.py --interval_truth 8bit area_8bit",
]


def run() -> None:
    """Evaluate what is not evaluated yet, write depth.csv and print the main numbers."""
    run = cli.parse(__doc__, "evaluate", EXAMPLES)
    from splathead.evaluation.depth import run_stage

    for line in run_stage(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)
    if run.config.evaluate.error_budget:
        from splathead.evaluation.error_budget import run_error_budget

        for line in run_error_budget(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
            print(line)
    if run.config.evaluate.uncertainty:
        from splathead.evaluation.uncertainty import run_uncertainty

        for line in run_uncertainty(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
            print(line)
    if run.config.evaluate.interval_truth:
        from splathead.evaluation.interval_truth import run_interval_truth

        for line in run_interval_truth(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
            print(line)


if __name__ == "__main__":
    cli.main(run)
