"""Speed of the rasteriser, the pipeline's steps and training, as ratios measured in one run, with peers where installed.

    python scripts/90_benchmark.py                      everything for this machine
    python scripts/90_benchmark.py --only raster        raster | steps | inference | fit | training; the first two run on
                                                        the CPU: beside a GPU add --device cpu
    python scripts/90_benchmark.py --device cuda --out eval/benchmark_h200.csv
    python scripts/90_benchmark.py --device cuda --only training --out eval/paper_training_benchmark.csv
                                                        also without mixed precision: what a claim of the paper is judged by
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from splathead import cli

if TYPE_CHECKING:
    import torch

GROUPS = {"cpu": ("raster", "steps", "inference", "fit"), "cuda": ("inference", "fit", "training")}
CPU_ONLY = ("raster", "steps")
CHOICES = ("raster", "steps", "inference", "fit", "training")


def run() -> None:
    """Measure, print, write eval/benchmark_<device>.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CHOICES, help="groups to measure")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per measurement (default 2)")
    parser.add_argument("--subject", type=Path, help="fit this subject folder of stage 01 instead of an embedded head")
    parser.add_argument("--out", type=Path, help="CSV file (default eval/benchmark_<device>.csv)")
    options = parser.parse_args()
    from splathead.benchmarks.table import to_lines, to_results
    from splathead.devices import compute_device
    from splathead.results import write_results

    device = compute_device(options.device)
    groups, rows = options.only or GROUPS[device.type], []
    for group in groups:
        if group in CPU_ONLY and device.type != "cpu":  # its rows would name the GPU
            parser.error(f"--only {group}: it runs on the CPU and would be listed as the GPU's, add --device cpu")
    for group in groups:
        made = measure(group, options.budget, options.subject, device)
        print("\n".join(to_lines(made)), flush=True)
        rows += made
    path = options.out or Path("eval") / f"benchmark_{device.type}.csv"
    write_results(path, to_results(rows, device.type))
    print(f"{len(rows)} rows in {path}")


def measure(group: str, budget: float, subject: Path | None, device: torch.device) -> list:
    """Rows of one group; modules are imported here, so that a group needs only its own packages."""
    if group == "raster":
        from splathead.benchmarks.raster import compile_rows, raster_rows

        return [*compile_rows(), *raster_rows(budget)]
    if group == "inference":
        from splathead.benchmarks.inference import inference_rows

        return inference_rows(budget, device)
    if group == "training":
        from splathead.benchmarks.training import training_rows

        return training_rows(device, 5 * budget)
    from splathead.benchmarks.pipeline import fit_rows, step_rows

    return fit_rows(device, subject) if group == "fit" else step_rows(budget)


if __name__ == "__main__":
    cli.main(run)
