"""``report.html`` of a result folder: one file, works offline; the same folder gives the same bytes but for durations."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from splathead.fusion import FusedMesh
from splathead.images import atomic_path
from splathead.report.panels import DEPTH_COLOURS, ERROR_COLOURS, colour_gradient
from splathead.report.shell import button_group, card, cards, page_text, picture_tag, tile
from splathead.report.viewer import decimated_with_colours, viewer_json, viewer_markup
from splathead.result_view.folder import FILES, ROLES, ResultFolder, open_result
from splathead.result_view.meshes import MeshPair, load_meshes, mesh_pair
from splathead.result_view.pictures import (
    FrontView,
    before_after,
    change_picture,
    load_front_view,
    nice_range,
    opaque,
    read_front,
)
from splathead.threads import thread_map
from splathead.wording import counted

REPORT_FACES = 60_000
PICTURE_PX = 1024
KIND_NAMES = {"splats": "Gaussians", "depth": "a depth map", "capture": "a posed capture", "photo": "one photo"}
UNSTABLE = ("report", "turntable")
"""files whose size may differ between two runs on the same input"""


def write_report(out: Path, drawn: DrawnReport | None = None) -> Path:
    """Write ``out/report.html`` from the other files of a result folder and return its path.

    ``drawn``: its parts, where they were made before; None = they are made here. Raises FileNotFoundError or ValueError with
    one sentence for a folder that is no result, or a damaged one.
    """
    result = open_result(out)
    if drawn is None:
        view, meshes = draw_front(result), load_meshes(result)
        drawn = DrawnReport(*view, draw_meshes(result.input_name, result.unit_label, meshes) if meshes else "")
    text = page_text(
        f"{result.input_name}, enhanced",
        description=_description(result), facts=cards(_cards(result, drawn.view)),
        sections=[
            ("front", "Front view", drawn.front),
            ("meshes", "Meshes", drawn.meshes),
            ("done", "What was understood and done", done_section(result)),
            ("files", "Files", files_section(result)),
        ],
        footer=_footer(result), scripts=["maps.js", "slider.js"] + ["viewer.js"] * bool(drawn.meshes),
    )  # fmt: skip
    path = result.path / FILES["report"]
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class DrawnReport:
    """The parts of a report that take time: they may be made while other files of the folder are written."""

    view: FrontView | None
    front: str
    """of :func:`draw_front`"""
    meshes: str
    """of :func:`draw_meshes`"""


def draw_front(result: ResultFolder) -> tuple[FrontView | None, str]:
    """The front view and the section that shows it, from a folder's maps; None and nothing where it has none."""
    view = load_front_view(result)
    return view, _front_section(result, view) if view else ""


def small_mesh(mesh: FusedMesh) -> FusedMesh:
    """The mesh as the report shows it."""
    return decimated_with_colours(mesh, REPORT_FACES)


def draw_pair(name: str, unit: str, after: FusedMesh, before: FusedMesh, small: tuple[FusedMesh, FusedMesh]) -> str:
    """:func:`draw_meshes` of two meshes, in one call for another process; ``small``: :func:`small_mesh` of both."""
    small_after, small_before = small
    return draw_meshes(name, unit, replace(mesh_pair(after, before), small_after=small_after, small_before=small_before))


def draw_meshes(name: str, unit: str, meshes: MeshPair) -> str:
    """The section with the meshes of the input ``name``; ``unit`` as it is shown beside a number."""
    data = viewer_json([meshes.viewer_data(name, REPORT_FACES)])
    about = "Drag to turn, Shift-drag to move, click and scroll (or pinch, or + and −) to zoom, double-click to start over."
    if len(meshes.after.faces) > REPORT_FACES:
        about = f"Simplified to at most {REPORT_FACES // 1000}k triangles for this page. {about}"
    change = "change" if meshes.before is not None else ""
    return f'<p class="about">{about}</p>' + viewer_markup(data, change, meshes.scale_texts(unit))


def _description(result: ResultFolder) -> str:
    views = f", {counted(len(result.views), 'view')}" if result.views else ""
    nominal = "its size is a guess" if result.unit == "mm" else "its unit is unknown"
    size = "its size is known" if result.scale == "metric" else nominal
    return f"Made from {KIND_NAMES[result.kind]} by the method “{result.method}”{views}; {size}."


def _cards(result: ResultFolder, view: FrontView | None) -> list[str]:
    shown = []
    if view is not None and view.before is not None:
        change = np.abs(view.change[np.isfinite(view.change)])
        if change.size:
            typical, most = (f"{value:.3g} {result.unit_label}" for value in np.quantile(change, (0.5, 0.9)))
            shown.append(card(typical, f"median change of depth in the front view; 90 % of it changed by less than {most}"))
    if "faces" in result.mesh:
        shown.append(card(f"{int(result.mesh['faces']):,}".replace(",", " "), _mesh_text(result.mesh, result.unit_label)))
    if result.seconds:
        slowest = max(result.seconds, key=result.seconds.get)
        shown.append(card(f"{sum(result.seconds.values()):.1f} s", f"in all; the longest step: {slowest}"))
    return shown


def _mesh_text(mesh: dict, unit: str) -> str:
    if mesh.get("watertight"):
        return "triangles; watertight"
    holes = int(mesh.get("holes") or 0)
    largest = mesh.get("largest_hole")
    size = f", the largest {float(largest):.3g} {unit} across" if holes and largest is not None else ""
    return f"triangles; {counted(holes, 'hole') if holes else 'no holes'}{size}"


def _front_section(result: ResultFolder, view: FrontView) -> str:
    layers = ["shaded", "depth"] + ["change"] * (view.before is not None)
    drawn = thread_map(partial(_layer, result, view), layers)
    panes = "".join(f'<div data-layer="{layer}">{picture}</div>' for layer, picture in zip(layers, drawn))
    compared = ": before left of the line, enhanced right of it. Drag the line, or use the arrow keys"
    about = f"The depth map itself, lit as a surface{compared if view.before is not None else ''}."
    return (
        f'<p class="about">{about}</p><div id="maps"><div class="controls">'
        f'{button_group("layer", "Show", {layer: layer for layer in layers})}</div>'
        f'<div class="front"><div>{panes}</div><div class="tiles">{"".join(_tiles(result, view))}</div></div></div>'
    )


def _layer(result: ResultFolder, view: FrontView, layer: str) -> str:
    if layer == "change":
        limit = nice_range(view.change)
        text = f"{limit:g} {result.unit_label}"
        ends = (f"−{text}, came forward", f"+{text}, moved back; saturated beyond")
        picture = picture_tag(change_picture(view.change, limit), "change of depth", max_side_px=PICTURE_PX)
        return f'<div class="compare">{picture}</div>{_bar(*ends, ERROR_COLOURS)}'
    after, before = before_after(view, layer)
    compared = _slider(before, after, layer)
    if layer == "shaded":
        return compared
    near, far = (f"{value:.4g} {result.unit_label}" for value in view.depth_range)
    return compared + _bar(near, f"{far} and farther", DEPTH_COLOURS)


def _bar(low: str, high: str, colours: str) -> str:
    return f'<div class="bar"><span>{low}</span><i style="background:{colour_gradient(colours)}"></i><span>{high}</span></div>'


def _slider(before: np.ndarray | None, after: np.ndarray, layer: str) -> str:
    enhanced = picture_tag(after, f"{layer}, enhanced", max_side_px=PICTURE_PX, quality=92)
    if before is None:
        return f'<div class="compare">{enhanced}</div>'
    previous = picture_tag(before, f"{layer}, before", max_side_px=PICTURE_PX, quality=92)
    return (
        f'<div class="compare" data-slider>{enhanced}<div class="over">{previous}</div><b>before</b><b>enhanced</b>'
        f'<input type="range" min="0" max="100" step="0.1" value="50" aria-label="Where before ends and enhanced begins"></div>'
    )


def _tiles(result: ResultFolder, view: FrontView) -> list[str]:
    """Colour, normals and confidence of the front view, where the result has them."""
    wanted = {
        "rgb": (3, "Colour", "of the input" if result.kind == "depth" else "of the Gaussians"),
        "normal": (3, "Normals", "of the enhanced depth"), "confidence": (1, "Confidence", "white: certain"),
    }  # fmt: skip
    tiles = []
    for role, (channels, name, detail) in wanted.items():
        if role in result.files:
            image = read_front(result, view, role, channels)
            shown = image.any(-1) if role == "normal" else view.after > 0  # black is no normal
            tiles.append(tile(opaque(image, shown), name, detail))
    return tiles


def done_section(result: ResultFolder) -> str:
    """HTML: what was understood of the input, the method, views, and how long each step took."""
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in result.understood)
    views = ", ".join(f"{html.escape(name)} ({yaw:+.0f}°)" for name, yaw in result.views)
    facts = {"Method": html.escape(result.method), "Views": views, "Unit": f"{result.unit} ({result.scale} scale)"}
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in facts.items() if value)
    total = sum(result.seconds.values())
    steps = "".join(
        f'<tr><th scope="row">{html.escape(step)}</th><td>{value:.2f} s</td><td>{value / max(total, 1e-9):.0%}</td></tr>'
        for step, value in result.seconds.items()
    )
    durations = f"<table><thead><tr><th>Step</th><th>Time</th><th>Share</th></tr></thead><tbody>{steps}</tbody></table>"
    tables = [f'<table class="text"><tbody>{rows}</tbody></table>'] + [durations] * bool(steps)
    columns = "".join(f'<div class="scroll">{table}</div>' for table in tables)
    return f'<ul class="lines">{lines}</ul><div class="columns">{columns}</div>'


def files_section(result: ResultFolder) -> str:
    """HTML: the files of a result, each with a link and what it holds."""
    rows = []
    for role, (_, text) in ROLES.items():
        if role in result.files:
            file = result.files[role]
            name = html.escape(file.relative_to(result.path).as_posix())
            size = "" if role in UNSTABLE else _size_text(file.stat().st_size)
            rows.append(f'<tr><th scope="row"><a href="{name}">{name}</a></th><td>{text}</td><td>{size}</td></tr>')
    others = len(list(result.path.glob("views/*.png")))
    if others:
        about = f"enhanced depth of {counted(others, 'view')}"
        rows.append(f'<tr><th scope="row">views/</th><td>{about}</td><td></td></tr>')
    return f'<div class="scroll"><table class="text"><tbody>{"".join(rows)}</tbody></table></div>'


def _size_text(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def _footer(result: ResultFolder) -> str:
    digest = f", SHA-256 <code>{html.escape(result.input_sha256)}</code>" if result.input_sha256 else ""
    name = html.escape(result.input_name)
    return f"Input <code>{name}</code>{digest}. Numbers on this page come from result.json and the maps."
