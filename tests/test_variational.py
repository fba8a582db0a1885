"""The training-free variational method: against a slow dense solver, on planes, analytic heads and depth jumps."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from analytic_surfaces import head_view

from splathead.cameras import Camera
from splathead.images import DepthEncoding, DepthMap
from splathead.maps.degrade import downsample
from splathead.maps.fill import extend_depth
from splathead.maps.normals import normals_from_depth
from splathead.metrics.zones import compute_zones
from splathead.models.interpolation import upsample_depth, upsample_mask
from splathead.models.variational import VariationalSettings, _Problem, variational_depth
from splathead.models.variational_kernels import apply_energy, conjugate_gradients, dot
from splathead.synthetic import synthetic_view
from splathead.training.pairs import LowResolutionInput, prepare_input

TIGHT = VariationalSettings(tolerance=1e-7, newton_steps=60, cg_steps=3000)


def area_sampled(depth: np.ndarray, mask: np.ndarray, camera: Camera) -> tuple[DepthMap, LowResolutionInput]:
    """The 8-bit code of the area means of 4x4 pixels, and what a method sees of it."""
    low, low_mask = downsample(depth, mask, 4, "area")
    encoding = DepthEncoding.from_depth(low, low_mask, 8, "mm")
    decoded, _ = encoding.decode(encoding.encode(low, low_mask))
    lr = DepthMap(decoded, low_mask, encoding, camera.resized(mask.shape[1] // 4), "area mean")
    return lr, prepare_input(lr)


def cell_excess(depth01: np.ndarray, lr01: np.ndarray, mask: np.ndarray, step01: float) -> np.ndarray:
    """By how many code steps the means of the cells of ``mask`` leave their interval."""
    scale = depth01.shape[0] // mask.shape[0]
    means = depth01.astype(np.float64).reshape(mask.shape[0], scale, mask.shape[1], scale).mean(axis=(1, 3))
    return np.maximum(np.abs(means - lr01)[mask] / step01 - 0.5, 0)


def dense_minimiser(cells: np.ndarray, known: np.ndarray, inside: np.ndarray, scale: int, hinge: float) -> np.ndarray:
    """The same energy by loops and dense Newton steps with halving, in steps of the code."""
    index = {tuple(p): k for k, p in enumerate(np.argwhere(inside))}
    size = len(index)
    rows = []

    def stencil(terms: dict[tuple[int, int], float], weight: float) -> None:
        if all(p in index for p in terms):
            row = np.zeros(size)
            for p, coefficient in terms.items():
                row[index[p]] = coefficient * scale * np.sqrt(weight)
            rows.append(row)

    for y, x in index:
        stencil({(y, x - 1): 1, (y, x): -2, (y, x + 1): 1}, 1)
        stencil({(y - 1, x): 1, (y, x): -2, (y + 1, x): 1}, 1)
        stencil({(y, x): 1, (y, x + 1): -1, (y + 1, x): -1, (y + 1, x + 1): 1}, 2)
    bending = np.array(rows).T @ np.array(rows)
    means = np.zeros((int(known.sum()), size))
    for cell, (i, j) in enumerate(np.argwhere(known)):
        for dy in range(scale):
            for dx in range(scale):
                means[cell, index[i * scale + dy, j * scale + dx]] = scale**-2
    decoded = cells[known]

    def energy(z: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        difference = means @ z - decoded
        excess = np.sign(difference) * np.maximum(np.abs(difference) - 0.5, 0)
        value = 0.5 * z @ bending @ z + 0.5 * hinge * excess @ excess
        return value, bending @ z + hinge * means.T @ excess, means[excess != 0]

    z = np.kron(cells, np.ones((scale, scale)))[inside]
    for _ in range(200):
        value, gradient, active = energy(z)
        if np.abs(gradient).max() < 1e-9:
            break
        step = -np.linalg.solve(bending + hinge * active.T @ active + 1e-10 * np.eye(size), gradient)
        length = 1.0
        while energy(z + length * step)[0] > value and length > 1e-8:
            length /= 2
        z = z + length * step
    return z


@pytest.mark.parametrize("scale", [2, 3])
def test_agrees_with_a_slow_dense_solver(scale):
    y, x = np.mgrid[:9, :9]
    known = (x - 4) ** 2 + (y - 4) ** 2 < 18
    cells = np.rint(60 + 0.9 * x + 0.35 * (y - 3) ** 2 - 0.2 * x * y)
    step01 = 1 / 254
    depth01 = prepare_like(cells * step01, known)
    ours = variational_depth(depth01, known, scale, step01, TIGHT)
    inside = upsample_mask(known, scale) | np.kron(known, np.ones((scale, scale), bool))
    reference = dense_minimiser(depth01 / np.float64(step01), known, inside, scale, TIGHT.hinge)
    assert np.abs(ours[inside] / step01 - reference).max() < 2e-3
    assert np.ptp(reference) > 5  # of a surface that is anything but flat
    outside = ~inside
    np.testing.assert_array_equal(ours[outside], upsample_depth(depth01, scale, "bilinear")[outside])


def bending_rows(inside: np.ndarray, cells: np.ndarray, factor: int, jump: float) -> np.ndarray:
    """One row [H * W] for each stencil of the energy, by loops."""
    rows, value = [], np.kron(cells, np.ones((factor, factor)))
    shapes = (({(0, 0): 1, (0, 1): -2, (0, 2): 1}, 1), ({(0, 0): 1, (1, 0): -2, (2, 0): 1}, 1),
              ({(0, 0): 1, (0, 1): -1, (1, 0): -1, (1, 1): 1}, 2))  # fmt: skip
    for terms, weight in shapes:
        for y, x in np.ndindex(inside.shape):
            pixels = [(y + dy, x + dx) for dy, dx in terms]
            if any(p[0] >= inside.shape[0] or p[1] >= inside.shape[1] or not inside[p] for p in pixels):
                continue
            if np.ptp([value[p] for p in pixels]) <= jump:
                row = np.zeros(inside.shape)
                for p, coefficient in zip(pixels, terms.values()):
                    row[p] = coefficient * factor * np.sqrt(weight)
                rows.append(row.ravel())
    return np.array(rows)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_kernels_are_the_matrix_of_the_energy(factor):
    rng = np.random.default_rng(factor)
    cells, known = rng.normal(0, 8, (7, 6)), rng.random((7, 6)) < 0.8
    inside = np.kron(known, np.ones((factor, factor), bool)) | (rng.random((7 * factor, 6 * factor)) < 0.1)
    problem = _Problem.build(cells, known, inside, factor, 12.0, 100.0)
    rows = bending_rows(inside, cells, factor, 12.0)
    everywhere = bending_rows(inside, cells, factor, np.inf)
    assert 0 < len(rows) < len(everywhere)  # some stencils span a jump
    pull = np.where(known & (rng.random(known.shape) < 0.5), 3.0, 0.0)
    spread = np.kron(np.eye(cells.size), np.ones(factor**2)) / factor**2  # cell means, of pixels in the cells' order
    order = np.arange(inside.size).reshape(7, factor, 6, factor).transpose(0, 2, 1, 3).ravel()
    means = np.zeros((cells.size, inside.size))
    means[:, order] = spread
    matrix = rows.T @ rows + factor**2 * means.T @ np.diag(pull.ravel()) @ means
    z, out = np.where(inside, rng.normal(size=inside.shape), 0.0), np.full(inside.shape, np.nan)
    energy = apply_energy(z, problem.stencils, pull, out)
    np.testing.assert_allclose(out.ravel(), matrix @ z.ravel(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(energy, z.ravel() @ matrix @ z.ravel(), rtol=1e-12)
    np.testing.assert_allclose(dot(z.ravel(), out.ravel()), energy, rtol=1e-12)
    share = known.sum() / inside.sum()
    np.testing.assert_allclose(problem.diagonal.ravel(), (rows**2).sum(0) + 100.0 * share**2, atol=1e-11)
    right_side = (matrix @ z.ravel()).reshape(z.shape)
    solved = conjugate_gradients(right_side, problem.diagonal, problem.stencils, pull, 2000, 1e-24)
    np.testing.assert_allclose(matrix @ solved.ravel(), right_side.ravel(), atol=1e-8)


def prepare_like(values01: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return extend_depth(values01.astype(np.float32), mask)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_plane_stays_a_plane(bits):
    height, width, scale = 14, 12, 4
    y, x = (np.mgrid[: height * scale, : width * scale] + 0.5) / scale
    plane = 0.2 + 0.021 * x + 0.027 * y
    mask = np.zeros((height, width), bool)
    mask[2:-3, 3:-2] = True
    mask[:6, 7:] = False
    step01 = 1 / (2**bits - 2)
    means = plane.reshape(height, scale, width, scale).mean(axis=(1, 3))
    quantised = np.rint(means / step01) * step01
    depth = variational_depth(prepare_like(quantised, mask), mask, scale, step01, TIGHT)
    inside = upsample_mask(mask, scale)
    fitted = np.stack([np.ones(inside.sum()), x[inside], y[inside]], 1)
    residual = depth[inside] - fitted @ np.linalg.lstsq(fitted, depth[inside], rcond=None)[0]
    assert np.abs(residual).max() < 5e-3 * step01 + 5e-7  # bends nowhere: exact but for float32's digits
    assert np.abs(depth - plane)[inside].max() < 0.5 * step01 + 5e-7
    assert cell_excess(depth, quantised, mask, step01).max() < 5e-3 + 2e-7 / step01


def test_beats_bilinear_on_an_eight_bit_head_and_keeps_to_the_code():
    camera, truth = head_view(512)
    lr, prepared = area_sampled(truth, truth > 0, camera)
    step01 = 1 / lr.encoding.steps
    zone = compute_zones(truth).interior & upsample_mask(lr.mask, 4)
    start = time.process_time()
    ours = variational_depth(prepared.depth01, lr.mask, 4, step01)
    assert time.process_time() - start < 5
    true_normals, _ = normals_from_depth(truth, truth > 0, camera, jump=np.inf)
    rmse, angle = {}, {}
    for name, depth01 in (("ours", ours), ("bilinear", upsample_depth(prepared.depth01, 4, "bilinear"))):
        depth = (prepared.near + depth01 * np.float64(prepared.range)).astype(np.float32)
        rmse[name] = np.sqrt(np.mean((depth - truth)[zone].astype(np.float64) ** 2))
        normals, _ = normals_from_depth(depth, upsample_mask(lr.mask, 4), camera, jump=np.inf)
        cosine = (normals * true_normals)[zone].sum(-1)
        angle[name] = np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()
    assert rmse["ours"] < 0.6 * rmse["bilinear"] and angle["ours"] < 0.25 * angle["bilinear"]
    eroded = cv2.erode(lr.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    excess = cell_excess(ours, prepared.depth01, eroded, step01)
    assert np.mean(excess > 0.1) < 0.01
    np.testing.assert_array_equal(ours, variational_depth(prepared.depth01, lr.mask, 4, step01))


def test_a_harder_hinge_leaves_the_interval_less():
    surface = synthetic_view(0, 0.0, size=256)["surface"]
    lr, prepared = area_sampled(surface.depth, surface.mask, surface.camera)
    step01 = 1 / lr.encoding.steps
    excess = [
        cell_excess(variational_depth(prepared.depth01, lr.mask, 4, step01, settings), prepared.depth01, lr.mask, step01).mean()
        for settings in (VariationalSettings(hinge=1.0), VariationalSettings(), VariationalSettings(hinge=1e4))
    ]
    assert excess[0] > 3 * excess[1] > 9 * excess[2]


def test_the_default_is_converged():
    surface = synthetic_view(5, 0.0, size=256)["surface"]
    lr, prepared = area_sampled(surface.depth, surface.mask, surface.camera)
    interior, step01 = compute_zones(surface.depth).interior, 1 / lr.encoding.steps
    fast = variational_depth(prepared.depth01, lr.mask, 4, step01)
    settings = VariationalSettings(tolerance=1e-5, newton_steps=30, cg_steps=600)
    slow = variational_depth(prepared.depth01, lr.mask, 4, step01, settings)
    assert np.sqrt(np.mean((fast - slow)[interior] ** 2)) < 0.03 * step01


def test_does_not_smooth_across_a_depth_jump():
    mask = np.ones((16, 16), bool)
    low = np.full((16, 16), 0.2, np.float32)
    low[:, 8:] = 0.8
    depth = variational_depth(low, mask, 4, 1 / 254)
    assert np.abs(depth[:, :32] - 0.2).max() < 0.6 / 254 and np.abs(depth[:, 32:] - 0.8).max() < 0.6 / 254
    smoothed = variational_depth(low, mask, 4, 1 / 254, VariationalSettings(jump01=1.0))
    assert np.abs(smoothed[:, 30:34] - depth[:, 30:34]).max() > 10 / 254


def test_bad_input_is_refused():
    low, mask = np.full((4, 4), 0.5, np.float32), np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="expected the same"):
        variational_depth(low, mask[:3], 4, 0.01)
    with pytest.raises(ValueError, match="empty mask"):
        variational_depth(low, ~mask, 4, 0.01)
    with pytest.raises(ValueError, match=r"step of the code 0\.0"):
        variational_depth(low, mask, 4, 0.0)
    with pytest.raises(ValueError, match="hinge = 0"):
        VariationalSettings(hinge=0)
