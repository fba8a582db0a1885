"""A page to drop a head on: what scripts/20_enhance_head.py does, with the result's report, in a browser.

    python scripts/22_demo.py
    python scripts/22_demo.py --port 0 --no_browser --max_upload_mb 200

Only this machine can open the page unless --host says otherwise. Uploads and results lie in a temporary folder that is
removed when the page is closed (Ctrl-C); one head is worked on at a time, others wait.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from splathead import cli
from splathead.web import Server, add_server_flags, serve


def run() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_flags(parser, port=8022)
    limits = {"max_upload_mb": (512, "largest upload in MiB"), "time_limit": (1800, "seconds after which a job is stopped")}
    for name, (default, about) in limits.items():
        flags = (f"--{name}", f"--{name.replace('_', '-')}")
        parser.add_argument(*flags, type=float, default=default, help=f"{about} (default {default})")
    options = parser.parse_args()
    if not options.max_upload_mb > 0 or not options.time_limit > 0:
        raise ValueError(f"--max_upload_mb {options.max_upload_mb}, --time_limit {options.time_limit}, expected above 0")
    from splathead.demo.jobs import JobQueue, enhance_with_tool
    from splathead.demo.server import DemoHandler, DemoSite

    with tempfile.TemporaryDirectory(prefix="splathead_demo_", ignore_cleanup_errors=True) as root:
        jobs = JobQueue(enhance_with_tool, Path(root) / "jobs", limit_s=options.time_limit)
        try:
            server = Server(options.host, options.port, DemoHandler, DemoSite(jobs, int(options.max_upload_mb * 2**20)))
            serve(server, open_browser=not options.no_browser)
        finally:
            jobs.close()


if __name__ == "__main__":
    cli.main(run)
