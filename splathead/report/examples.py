"""The paper's figure of examples: normals and signed errors of every method, with one shared colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from splathead.report.data import method_label
from splathead.report.figures import new_figure
from splathead.report.panels import ERROR_COLOURS, ViewMaps, depth_picture, method_picture, normals_picture, shrunk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 2
PICTURE_PX = 320


def examples_figure(views: Sequence[ViewMaps], error_range: float) -> Figure:
    """Two rows per view (normals above, errors below): RGB and input, truth, then the methods."""
    import matplotlib
    from matplotlib.colors import Normalize

    views = list(views[:EXAMPLES])
    methods = list(views[0].methods)
    columns = 2 + len(methods)
    figure, axes = new_figure(1.45 * columns, 1.75 * 2 * len(views) + 0.5, columns, 2 * len(views))
    grid = np.array(axes, dtype=object).reshape(2 * len(views), columns)
    for index, view in enumerate(views):
        upper, lower = grid[2 * index], grid[2 * index + 1]
        truth = view.truth if view.truth is not None else view.lr_depth
        pictures = [(view.rgba, depth_picture(view.lr_depth, view.depth_range))]
        pictures.append((normals_picture(truth, view.camera), depth_picture(truth, view.depth_range)))
        for method in methods:
            error = method_picture(view, method, "error", error_range)
            normals = method_picture(view, method, "normals", error_range)
            pictures.append((normals, error if error is not None else method_picture(view, method, "depth", error_range)))
        for column, pair in enumerate(pictures):
            for axis, picture in zip((upper[column], lower[column]), pair):
                axis.imshow(shrunk(picture, PICTURE_PX), interpolation="none")
    names = ["RGB / input", "truth" if views[0].truth is not None else "input", *map(method_label, methods)]
    for axis, name in zip(grid[0], names):
        axis.set_title(name.split(" (")[0], fontsize=8)
    for axis in axes:
        axis.set_axis_off()
    if any(view.truth is not None for view in views):
        scale = matplotlib.cm.ScalarMappable(Normalize(-error_range, error_range), ERROR_COLOURS)
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.025, pad=0.01, aspect=50)
        bar.set_label("signed depth error (mm): blue in front, red behind", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure
