"""What the demo's server answers: the page, uploads, the state of jobs, and the files of results."""

from __future__ import annotations

import math
import re
import shutil
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from splathead.demo.jobs import Job, JobQueue, Options, QueueFullError
from splathead.enhance.options import AXES
from splathead.report.shell import asset, page_text
from splathead.result_view.folder import open_result
from splathead.result_view.viewer_page import served_files
from splathead.web import Handler, Refused

SUFFIXES = (".ply", ".splat", ".spz", ".png", ".jpg", ".jpeg", ".exr", ".npy", ".tif", ".tiff")
NUMBERS = ("near", "far", "hfov", "scale_mm")
"""what a visitor may give as a positive number"""
DIRECTIONS = ("up", "front")
"""what a visitor may choose an axis for"""
CHUNK_BYTES = 2**20
WAIT_S = 1.0
MAX_UPLOADS = 2
"""uploads that are received at the same time"""


@dataclass
class DemoSite:
    """What the handlers share."""

    jobs: JobQueue
    max_upload_bytes: int
    uploads: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_UPLOADS))

    def page(self) -> str:
        """The page to drop a file on."""
        limit = f"{self.max_upload_bytes / 2**20:.0f} MiB"
        form = asset("demo.html").replace("{{suffixes}}", ",".join(SUFFIXES)).replace("{{limit}}", limit)
        axes = "".join(f"<option>{axis}</option>" for axis in AXES if axis != "auto")
        form = form.replace("{{bytes}}", str(self.max_upload_bytes)).replace("{{axes}}", axes)
        return page_text(
            "Enhance a head",
            description="Drop a splatted head, a depth map or a photo: sharp depth, normals and a mesh come back. "
            "The file stays on the machine that runs this page and is removed when the page is closed.",
            sections=[("drop", "Your file", form)],
            scripts=["demo.js"], fetches=True,
        )  # fmt: skip


class DemoHandler(Handler):
    """Answers for a :class:`DemoSite`."""

    def answer_get(self, path: str) -> None:
        parts = path.strip("/").split("/", 2)
        if parts == [""]:
            self.send_text(self.server.site.page(), content_type="text/html; charset=utf-8")
            return
        job = self.server.site.jobs.get(parts[1]) if parts[0] == "jobs" and len(parts) > 1 else None
        if job is None:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing here, or not any more")
        if len(parts) == 2:
            self.send_json(self._state(job))
            return
        files = _files(job)
        if parts[2] not in files:
            raise Refused(HTTPStatus.NOT_FOUND, "no such file in this result")
        self.send_file(files[parts[2]])

    def answer_post(self, path: str) -> None:
        if path != "/jobs":
            raise Refused(HTTPStatus.NOT_FOUND, "nothing to send to here")
        query = parse_qs(urlsplit(self.path).query, max_num_fields=20)
        name = upload_name(query.get("name", [""])[0])
        options = parse_options({key: values[0] for key, values in query.items() if key != "name"})
        length = self._upload_length()
        site: DemoSite = self.server.site
        if not site.uploads.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "others are uploading; try again in a moment")
        try:
            job = self._receive(site.jobs, name, options, length)
        except QueueFullError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        finally:
            site.uploads.release()
        self.send_json({"job": job.key}, HTTPStatus.CREATED)

    def _upload_length(self) -> int:
        limit = self.server.site.max_upload_bytes
        text = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,15}", text) or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "an upload without its length")
        if int(text) > limit:
            large = f"a file of {math.ceil(int(text) / 2**20 * 10) / 10:.1f} MiB, expected at most {limit / 2**20:.1f} MiB"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large)
        if int(text) == 0:
            raise Refused(HTTPStatus.BAD_REQUEST, "an empty file")
        return int(text)

    def _receive(self, jobs: JobQueue, name: str, options: Options, length: int) -> Job:
        """Write the request's body to a new folder, piece by piece and not more than it announced, and queue it."""
        folder = jobs.new_folder()
        try:
            job = Job(folder, name, options)
            with job.input.open("xb") as stream:
                left = length
                while left:
                    piece = self.rfile.read(min(CHUNK_BYTES, left))
                    if not piece:
                        raise ConnectionResetError("the upload ended early")
                    stream.write(piece)
                    left -= len(piece)
            jobs.submit(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def _state(self, job: Job) -> dict:
        """How far a job is; the answer waits a second for one that is not finished, so that pages need not ask often."""
        job.finished.wait(WAIT_S)
        position = self.server.site.jobs.position(job)
        return {
            "state": job.state, "name": job.name, "message": job.message, "before": position, "seconds": round(job.seconds, 1),
        }  # fmt: skip


def upload_name(name: str) -> str:
    """A harmless file name with one of :data:`SUFFIXES`, made from the visitor's; Refused for another kind of file."""
    path = Path(name.replace("\\", "/"))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        found = f"a file of type {suffix[:12] or 'none'}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{found}, expected {', '.join(SUFFIXES)}")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._-")[:80]
    return f"{stem or 'upload'}{suffix}"


def parse_options(texts: dict[str, str]) -> Options:
    """What was given of :data:`NUMBERS` and :data:`DIRECTIONS`; Refused for anything else."""
    options: Options = {}
    for key, text in texts.items():
        if key in DIRECTIONS:
            if text not in AXES:
                raise Refused(HTTPStatus.BAD_REQUEST, f"{key} is {text[:20]!r}, expected one of {', '.join(AXES)}")
            options[key] = text
            continue
        if key not in NUMBERS:
            raise Refused(HTTPStatus.BAD_REQUEST, f"option {key[:20]!r}, expected one of {', '.join(NUMBERS + DIRECTIONS)}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{key} is {text[:20]!r}, expected a positive number")
        options[key] = value
    return options


def _files(job: Job) -> dict[str, Path]:
    """Files of a finished job by their path in the address."""
    if job.state != "done":
        return {}
    try:
        return {**served_files(open_result(job.out)), "report.html": job.out / "report.html"}
    except (OSError, ValueError):  # forgotten in this very moment
        return {}
