"""Look at a result folder in a browser: splats, the mesh before and the enhanced mesh side by side, and what changed.

    python scripts/21_view.py out/
    python scripts/21_view.py out/ --port 0 --no_browser       any free port; open the address yourself

Only this machine can open the page unless --host says otherwise, and nothing outside of the folder is served.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from splathead import cli
from splathead.web import Server, add_server_flags, serve


def run() -> None:
    """Read the folder, then serve its page until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder that scripts/20_enhance_head.py wrote")
    add_server_flags(parser, port=8021)
    options = parser.parse_args()
    from splathead.result_view.viewer_page import ViewerHandler, ViewerSite, site_labels

    site = ViewerSite.build(options.out)
    server = Server(options.host, options.port, ViewerHandler, site)
    print(f"{options.out}: {', '.join(site_labels(site))}")
    serve(server, open_browser=not options.no_browser)


if __name__ == "__main__":
    cli.main(run)
