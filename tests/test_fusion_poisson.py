"""Poisson reconstruction: a closed ellipsoid, Gaussian centres, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_mesh
from test_enhance import splatted_ellipsoid

from splathead.config import Config
from splathead.fusion.poisson import load_open3d, poisson_mesh, poisson_of_gaussians
from splathead.fusion.stage import list_items
from splathead.metrics.surface import Surface
from splathead.subjects.base import vertex_normals


@pytest.fixture(autouse=True)
def _needs_open3d(request):
    if "refused" in request.node.name:
        return
    try:
        load_open3d()
    except RuntimeError as error:
        pytest.skip(str(error))


def distances(vertices: np.ndarray) -> np.ndarray:
    squared, _ = Surface.build(*ellipsoid_mesh(6)).tree.closest(vertices.astype(np.float64))
    return np.sqrt(squared)


def test_a_closed_surface_through_its_own_vertices():
    vertices, faces = ellipsoid_mesh(5)
    mesh = poisson_mesh(vertices, vertex_normals(vertices, faces), depth=7)
    assert np.median(distances(mesh.vertices)) < 0.3
    edges, uses = np.unique(np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0, return_counts=True)
    assert (uses == 2).all() and len(edges) > 1000
    again = poisson_mesh(vertices, vertex_normals(vertices, faces), depth=7)
    assert np.array_equal(mesh.vertices, again.vertices) and np.array_equal(mesh.faces, again.faces)


def test_centres_of_solid_gaussians_turned_outwards():
    gaussians = splatted_ellipsoid(8000)
    gaussians.means[:50] *= 3  # haze far outside
    gaussians.opacity_logits[:50] = -4
    mesh = poisson_of_gaussians(gaussians)
    assert np.quantile(distances(mesh.vertices), 0.9) < 1.5
    assert np.abs(mesh.vertices).max() < 1.2 * HEAD_AXES_MM.max()


def test_few_points_and_runs_without_depth_maps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Poisson of 3 points and 3 normals, expected as many, at least 100"):
        poisson_mesh(np.zeros((3, 3)), np.zeros((3, 3)))
    config = Config(runs_dir=str(tmp_path))
    config.fuse.methods = ["poisson_centres"]
    with pytest.raises(ValueError, match="expected at least one method with depth maps"):
        list_items(config)
