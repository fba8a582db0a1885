"""Your own head: splats, a depth map, a posed capture or one photo become clean depth, normals, a mesh and a report.

Writes a folder: depth.png (16 bit, with its sidecar), depth.exr, normal.png, confidence.png, mesh.ply/.glb/.obj with colours,
turntable.mp4, report.html (open it in a browser), result.json. What was understood of the input is printed; flags override it.

examples:
  python scripts/20_enhance_head.py my_head.ply --out out/
  python scripts/20_enhance_head.py depth.png --near 1.9 --far 2.6 --hfov 50 --rgb photo.png --out out/
  python scripts/20_enhance_head.py captures/me/ --out out/
  python scripts/20_enhance_head.py selfie.jpg --out out/
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from splathead import cli
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.workers import start_workers, stop_workers
from splathead.wording import counted


@dataclass
class Arguments:
    """Command line."""

    input: Annotated[Path, tyro.conf.Positional]
    """splats (PLY, .splat, .spz), a depth map (PNG, EXR, NPY, TIFF), the folder of a posed capture, or a photo"""
    out: Path
    """folder to write into"""
    options: tyro.conf.OmitArgPrefixes[EnhanceOptions] = field(default_factory=EnhanceOptions)


def run() -> None:
    """Enhance the input, say where the result is."""
    cli.exit_on_termination()
    argv = cli.join_negative_axes(sys.argv[1:])
    arguments = tyro.cli(Arguments, args=argv, description=__doc__, use_underscores=True)
    jobs = arguments.options.jobs or cli.core_count()
    try:
        with cli.quick_imports():
            if arguments.input.exists():
                start_workers(jobs)
            from splathead.enhance.tool import enhance
            from splathead.result_view.folder import unit_label

        record = enhance(arguments.input, arguments.out, arguments.options)
    finally:
        stop_workers(jobs)
    mesh = record["mesh"]
    largest = f"the largest {mesh['largest_hole']:.3g} {unit_label(record['unit'])}"
    holes = f"{counted(mesh['holes'], 'hole')}, {largest}" if mesh["holes"] else "no holes"
    print(f"{counted(mesh['faces'], 'face')}, {holes}; {sum(record['seconds'].values()):.0f} s")
    print(f"open {arguments.out / record['files']['report']} in a browser, or: python scripts/21_view.py {arguments.out}")


if __name__ == "__main__":
    cli.main(run)
