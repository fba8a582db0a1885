"""The viewer's page and what its server answers: Gaussians, the mesh before and the enhanced one, side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from splathead.report.shell import page_text
from splathead.report.viewer import viewer_json, viewer_markup
from splathead.result_view.folder import ResultFolder, open_result
from splathead.result_view.meshes import load_meshes
from splathead.result_view.report import done_section, files_section
from splathead.result_view.splats import load_visible_splats, packed_splats
from splathead.web import Handler, Refused

VIEWER_FACES = 400_000
DATA, SPLATS = "viewer.json", "splats.bin"


@dataclass(frozen=True)
class ViewerSite:
    """Everything that the viewer's server answers with."""

    page: str
    data: str
    splats: bytes
    """as in :mod:`splathead.result_view.splats`; empty where the result has none"""
    files: dict[str, Path]
    """path in the address -> file: those of the result, and nothing else"""

    @classmethod
    def build(cls, out: Path) -> ViewerSite:
        """Read a result folder. Errors: those of :func:`open_result`, and ValueError for one without a mesh."""
        result = open_result(out)
        meshes = load_meshes(result)
        if meshes is None:
            raise ValueError(f"{result.path}: this result has no mesh to look at")
        subject = meshes.viewer_data(result.input_name, VIEWER_FACES)
        packed = b""
        if "splats" in result.files:
            packed = packed_splats(load_visible_splats(result.files["splats"]))
            subject["meshes"].insert(0, {"label": "splats", "splats": SPLATS})
        change = "change" if meshes.before is not None else ""
        markup = viewer_markup(error_name=change, scale=meshes.scale_texts(result.unit_label), source=DATA)
        page = page_text(
            result.input_name,
            description="Drag to turn, Shift-drag to move, click and scroll (or pinch, or + and −) to zoom, double-click to "
            "start over. All panes move together.",
            sections=[
                ("look", "Side by side", markup), ("done", "What was understood and done", done_section(result)),
                ("files", "Files", files_section(result)),
            ],
            scripts=["splats.js", "viewer.js"], fetches=True,
        )  # fmt: skip
        return cls(page, viewer_json([subject]), packed, served_files(result))


def served_files(result: ResultFolder) -> dict[str, Path]:
    """Path in an address -> file of a result: those that result.json names, their sidecars and result.json itself."""
    root = result.path.resolve()
    files = [*result.files.values(), *(path.with_suffix(".json") for path in result.files.values()), root / "result.json"]
    found = {path.resolve() for path in files}
    return {path.relative_to(root).as_posix(): path for path in found if path.is_relative_to(root)}


class ViewerHandler(Handler):
    """Answers with the parts of a :class:`ViewerSite`."""

    def answer_get(self, path: str) -> None:
        site: ViewerSite = self.server.site
        name = path.lstrip("/")
        if not name:
            self.send_text(site.page, content_type="text/html; charset=utf-8")
        elif name == DATA:
            self.send_text(site.data, content_type="application/json")
        elif name == SPLATS:
            self.send_bytes(site.splats, "application/octet-stream")
        elif name in site.files:
            self.send_file(site.files[name])
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing here")


def site_labels(site: ViewerSite) -> list[str]:
    """The panes of the viewer, left to right."""
    return [mesh["label"] for mesh in json.loads(site.data)["subjects"][0]["meshes"]]
