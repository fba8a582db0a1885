"""Stage 06: train a depth super-resolution network and write its and the baselines' predictions.

A finished training is skipped, an interrupted one resumes. Several GPUs: accelerate launch scripts/06_train_depth_sr.py ...
"""

from splathead import cli

EXAMPLES = [
    "python scripts/06_train_depth_sr.py",
    "python scripts/06_train_depth_sr.py --model unet --base_ch 32 --batch_size 2 --grad_accum 4 --epochs 100 --amp",
    "python scripts/06_train_depth_sr.py --target render --method unet_render",
    "python scripts/06_train_depth_sr.py --lr_input 16bit --method unet_16bit",
    "python scripts/06_train_depth_sr.py --config configs/capture.yaml --weights model.safetensors",
    "python scripts/06_train_depth_sr.py --init_weights splathead/weights/splathead_surface.safetensors --method mine "
    "--model splathead --model.base limited --model.range_mm 140 --learning_rate 1e-4",
    "python scripts/06_train_depth_sr.py --only_apply",
    "python scripts/06_train_depth_sr.py --only_apply --multiview unet bilinear",
    "python scripts/06_train_depth_sr.py --config configs/paper.yaml --finished_only",
    "python scripts/06_train_depth_sr.py --only_apply --interval.methods bilinear unet --interval.operator antialiased",
]


def run() -> None:
    """Train, apply, and say what came out."""
    run = cli.parse(__doc__, "train", EXAMPLES)
    from splathead.depth_sr import run_stage

    for line in run_stage(run.config, jobs=run.jobs, force=run.force, limit=run.max_subjects):
        print(line)


if __name__ == "__main__":
    cli.main(run)
