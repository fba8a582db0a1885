"""Stage 02: 3D Gaussians of every subject: fitted to its images, imported from a splat file, or by FaceLift from a photo."""

from splathead import cli

EXAMPLES = [
    "python scripts/02_reconstruct_gaussians.py",
    "python scripts/02_reconstruct_gaussians.py --fit.presets vanilla regularised --fit.iterations 2000",
    "python scripts/02_reconstruct_gaussians.py --config configs/import.yaml --import_path my_head.ply",
    "python scripts/02_reconstruct_gaussians.py --config configs/facelift.yaml --facelift_dir ../FaceLift",
]


def run() -> None:
    """Reconstruct what is not there yet, and say how well held-out views are shown."""
    run = cli.parse(__doc__, "reconstruct", EXAMPLES)
    from splathead.reconstruction import reconstruct

    for line in reconstruct(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)


if __name__ == "__main__":
    cli.main(run)
