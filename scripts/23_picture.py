"""One picture of several result folders: a row for each head, with its colours, depth before and enhanced, and mesh.

    python scripts/23_picture.py out/ --out out.png
    python scripts/23_picture.py head/ scan/ capture/ lam/ --out figures/enhanced_heads.png       as the README's is made

Only what lies in the folders is drawn; nothing is enhanced or rendered from Gaussians again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from splathead import cli
from splathead.wording import counted


def run() -> None:
    """Draw the results, say where the picture is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT", help="folders that scripts/20_enhance_head.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    options = parser.parse_args()
    if options.out.suffix.lower() != ".png":
        parser.error(f"--out {options.out}: expected the name of a PNG file, ending in .png")
    from splathead.images import write_png
    from splathead.result_view.sheet import results_sheet

    write_png(options.out, results_sheet(options.results))
    print(f"{options.out}: {counted(len(options.results), 'row')}")


if __name__ == "__main__":
    cli.main(run)
