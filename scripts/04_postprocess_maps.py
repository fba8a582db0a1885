"""Stage 04: clean the rendered maps: mask, floaters, components, holes (in float), normals from depth.

Optional: the source photo aligned to its view, depth relative to the nose tip, bilateral smoothing of normals.
"""

import functools

from splathead import cli
from splathead.samples import STAGE_NAMES, list_subjects
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/04_postprocess_maps.py",
    "python scripts/04_postprocess_maps.py --alpha_threshold 0.3 --large_holes nearest --bilateral",
    "python scripts/04_postprocess_maps.py --nose_relative --jobs 2",
]


def run() -> None:
    """Clean the maps of every subject of stage 03."""
    run = cli.parse(__doc__, "postprocess", EXAMPLES)
    from splathead.maps.postprocess import postprocess_subject

    config, detector = run.config, None
    if config.postprocess.align or config.postprocess.nose_relative:  # for heads whose landmarks nobody knows
        from splathead.photos.detect import face_landmarks as detector
    name, inputs = STAGE_NAMES[4], [STAGE_NAMES[3]]
    stage = Stage.open(config.run_folder, name, config.postprocess, inputs, force=run.force, seed=config.seed)
    subjects = list_subjects(config, limit=run.max_subjects)
    clean = functools.partial(postprocess_subject, config, detector=detector)
    stage.run_items(clean, subjects, jobs=run.jobs, unit="head")
    stage.close()
    print(f"{name}: clean maps of {len(subjects)} heads in {stage.folder}")
    print(f"look at {stage.folder / subjects[0]}/*/preview.png")


if __name__ == "__main__":
    cli.main(run)
