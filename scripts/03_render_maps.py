"""Stage 03: render every map view of every head: colour, depth, median depth, depth variance, alpha, normals.

At map_size and, rendered again rather than resampled, at lr_size; in classic and/or antialiased mode.
"""

import functools

from splathead import cli
from splathead.samples import STAGE_NAMES, list_subjects
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/03_render_maps.py",
    "python scripts/03_render_maps.py --config configs/quick.yaml --modes classic antialiased --lr_size 256",
    "python scripts/03_render_maps.py --backend cpu --jobs 2 --max_subjects 3",
]


def run() -> None:
    """Render the maps of every subject that stage 02 reconstructed."""
    run = cli.parse(__doc__, "render", EXAMPLES)
    from splathead.devices import gpu_count, gpu_jobs
    from splathead.maps.render_subject import render_subject_maps

    config = run.config
    name, inputs = STAGE_NAMES[3], [STAGE_NAMES[2]]
    stage = Stage.open(config.run_folder, name, config.render, inputs, force=run.force, seed=config.seed)
    subjects = list_subjects(config, limit=run.max_subjects)
    work, jobs = functools.partial(render_subject_maps, config), gpu_jobs(config.device, run.jobs)
    stage.run_items(work, subjects, jobs=jobs, unit="head", gpus=gpu_count(config.device))
    stage.close()
    print(f"{name}: maps of {len(subjects)} heads ({', '.join(config.render.modes)}) in {stage.folder}")
    print(f"look at {stage.folder / subjects[0]}/*/preview.png")


if __name__ == "__main__":
    cli.main(run)
