"""Stage 10: supervision by normals from several sources, and the bits of the low-resolution input.

A finished training is skipped, an interrupted one resumes; networks that stage 06 trained alike are used as they are.
"""

from splathead import cli

EXAMPLES = [
    "python scripts/10_ablate_normals_and_bits.py --config configs/paper.yaml",
    "python scripts/10_ablate_normals_and_bits.py --config configs/paper.yaml --dsine_dir ../DSINE",
    "python scripts/10_ablate_normals_and_bits.py --normals splat surface --bits 6 8 16",
]


def run() -> None:
    """Train, score, and print both comparisons."""
    run = cli.parse(__doc__, "ablations", EXAMPLES)
    from splathead.ablations.normals_and_bits import run_stage

    for line in run_stage(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)


if __name__ == "__main__":
    cli.main(run)
