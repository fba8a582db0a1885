"""Stage 11: fuse each method's depth maps of a head into one coloured mesh, and score it against the true one.

Writes <method>/<subject>/<variant>/mesh.{ply,glb,obj} (PLY and OBJ in mm, GLB in metres; +Y up, +Z out of the face)
and fused.csv. Depth is what stage 06 predicted, and nothing else.
"""

import functools
from dataclasses import asdict

from splathead import cli
from splathead.samples import STAGE_NAMES
from splathead.stages import Stage

EXAMPLES = [
    "python scripts/11_fuse_meshes.py",
    "python scripts/11_fuse_meshes.py --voxel_mm 0.5 --target_faces 400000 --formats ply glb obj",
    "python scripts/11_fuse_meshes.py --methods raw_splat unet --subjects 2",
]


def run() -> None:
    """Fuse and score every method's heads."""
    run = cli.parse(__doc__, "fuse", EXAMPLES)
    from splathead.fusion.scores import result_rows
    from splathead.fusion.stage import fuse_item, list_items
    from splathead.results import write_results

    config = run.config
    name, inputs = STAGE_NAMES[11], [STAGE_NAMES[4], STAGE_NAMES[6]]
    evaluate = {key: getattr(config.evaluate, key) for key in ("splits", "bootstrap", "mesh_samples")}
    settings = {"fuse": asdict(config.fuse), "evaluate": evaluate, "jump_mm": config.pairs.jump_mm}
    items = list_items(config, run.max_subjects)
    stage = Stage.open(config.run_folder, name, settings, inputs, extra=items, force=run.force, seed=config.seed)
    if stage.finished:
        print(f"{name}: nothing to do, {len(items)} meshes in {stage.folder}")
        return
    stage.run_items(functools.partial(fuse_item, config), items, jobs=run.jobs, unit="mesh")
    write_results(stage.folder / "fused.csv", result_rows(config, items))
    stage.close()
    print(f"{name}: {len(items)} meshes in {stage.folder}, scores in {stage.folder / 'fused.csv'}")


if __name__ == "__main__":
    cli.main(run)
