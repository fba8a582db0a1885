"""Stage 05: training and test pairs: high-resolution 16-bit depth of splats and surface, low-resolution 8 and 16 bit.

Every depth PNG comes with a sidecar (near, far, unit, camera); manifest.csv lists the samples with split and yaw.
"""

import functools

from splathead import cli
from splathead.samples import STAGE_NAMES, list_subjects
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/05_make_pairs.py",
    "python scripts/05_make_pairs.py --lr_bits 6 7 8 9 10 16",
    "python scripts/05_make_pairs.py --lr_mode antialiased --jobs 2",
]


def run() -> None:
    """Write the pairs of every subject of stage 04 and the manifest."""
    run = cli.parse(__doc__, "pairs", EXAMPLES)
    from splathead.maps.pairs import make_subject_pairs, write_manifest

    config = run.config
    name, inputs = STAGE_NAMES[5], [STAGE_NAMES[4]]
    stage = Stage.open(config.run_folder, name, config.pairs, inputs, force=run.force, seed=config.seed)
    subjects = list_subjects(config, limit=run.max_subjects)
    stage.run_items(functools.partial(make_subject_pairs, config), subjects, jobs=run.jobs, unit="head")
    manifest = write_manifest(config)
    stage.close()
    print(f"{name}: pairs of {len(subjects)} heads in {stage.folder}, listed in {manifest}")


if __name__ == "__main__":
    cli.main(run)
