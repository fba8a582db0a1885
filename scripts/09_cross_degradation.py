"""Stage 09: one UNet for each degradation of the input, and networks of stage 06 (--networks), applied to all degradations.

A finished training is skipped, an interrupted one resumes; networks that stage 06 trained alike are used as they are.
"""

from splathead import cli

EXAMPLES = [
    "python scripts/09_cross_degradation.py --config configs/paper.yaml",
    "python scripts/09_cross_degradation.py --config configs/paper.yaml --time_limit 3000",
    "python scripts/09_cross_degradation.py --config configs/paper.yaml --finished_only",
    "python scripts/09_cross_degradation.py --degradations bicubic area 16bit 8bit --targets render surface",
    "python scripts/09_cross_degradation.py --config configs/paper.yaml --networks splathead_mix --targets surface --no-train",
]


def run() -> None:
    """Train, score, and print the matrix and what its drops are made of."""
    run = cli.parse(__doc__, "cross", EXAMPLES)
    from splathead.ablations.cross_degradation import run_stage

    for line in run_stage(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)


if __name__ == "__main__":
    cli.main(run)
