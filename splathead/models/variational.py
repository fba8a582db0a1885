"""Training-free super-resolution: the smoothest surface whose cell means stay within the code's intervals.

Minimised over the pixels z of the head's mask, in steps of the code and lengths of a low-resolution pixel:

    E(z) = scale^2 sum (z_xx^2 + 2 z_xy^2 + z_yy^2) + hinge * sum_cells max(0, |mean(z) - decoded| - 1/2)^2

with second differences of neighbouring pixels. The first sum is a thin plate's bending energy (Duchon 1977; Terzopoulos,
PAMI 1988) over the stencils that lie wholly inside the mask, which makes the boundary free: nothing bends towards what is
outside. Stencils across a depth jump do not count either; what that leaves undetermined (the tilt of a lone cell) stays as
bilinear interpolation has it. The second sum is a dead zone: a quantised value says "within half a step", so a mean inside
of that costs nothing; outside the cost is soft, because a classic rasterisation at low resolution is no area mean.

Solved by a semi-smooth Newton method (Qi and Sun, Mathematical Programming 1993) with conjugate gradients, from the
low-resolution grid to the high-resolution one (cascadic multigrid, Bornemann and Deuflhard 1996). One core, float64,
the same bytes every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from splathead.maps.fill import extend_depth
from splathead.metrics.zones import bounding_box
from splathead.models.interpolation import upsample_depth, upsample_mask


@dataclass(frozen=True)
class VariationalSettings:
    """Balance and accuracy. The defaults were chosen on the analytic heads of ``splathead.synthetic``."""

    hinge: float = 100.0
    """weight of an excess over half a step against bending, see the module's formula; larger = harder"""
    jump01: float = 0.08
    """neighbouring cells that differ by more, as a fraction of near..far, are different surfaces"""
    tolerance: float = 0.01
    """stop at a resolution once a Newton step changes no pixel by more than this, in steps of the code"""
    newton_steps: int = 12
    """at most so many at each resolution"""
    cg_steps: int = 60
    """conjugate gradient steps in each of them, at most"""

    def __post_init__(self) -> None:
        for name in ("hinge", "jump01", "tolerance", "newton_steps", "cg_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"variational {name} = {getattr(self, name)}, expected above 0")


def variational_depth(
    depth01: np.ndarray, mask: np.ndarray, scale: int, step01: float, settings: VariationalSettings | None = None
) -> np.ndarray:
    """Depth [h * scale, w * scale] float32 in the input's normalisation; beyond the mask it is the bilinear map.

    Args:
        depth01: [h, w] float32, low-resolution depth extended beyond its mask (``training_data.prepare_input``).
        mask: [h, w] bool, cells with a surface.
        scale: super-resolution factor.
        step01: step of the depth code in the same normalisation, 1 / (2^bits - 2).
        settings: see :class:`VariationalSettings`.

    Raises ValueError for maps that do not fit together, an empty mask or a step that is not positive.
    """
    if depth01.ndim != 2 or mask.shape != depth01.shape:
        raise ValueError(f"variational: depth of shape {depth01.shape}, mask of shape {mask.shape}, expected the same [h, w]")
    if not mask.any():
        raise ValueError("variational: empty mask, there is nothing to super-resolve")
    if not (np.isfinite(step01) and step01 > 0):
        raise ValueError(f"variational: step of the code {step01}, expected above 0")
    settings = settings or VariationalSettings()
    result = upsample_depth(depth01, scale, "bilinear")
    box = bounding_box(mask, margin=1)
    cells, known = depth01[box].astype(np.float64) / step01, mask[box]
    jump = settings.jump01 / step01
    factors = [scale]
    while factors[0] % 2 == 0:
        factors.insert(0, factors[0] // 2)
    surface, inside = cells, known
    for level, factor in enumerate(factors):
        start = _enlarge(surface, inside, factor // (factors[level - 1] if level else 1))
        inside = upsample_mask(known, factor) | np.kron(known, np.ones((factor, factor), bool))
        problem = _Problem.build(cells, known, inside, factor, jump, settings.hinge)
        surface = np.where(inside, 0.0, start)
        surface[inside] = _solve(problem, start[inside], settings)
    corner = tuple(slice(side.start * scale, side.stop * scale) for side in box)
    result[corner][inside] = (surface[inside] * step01).astype(np.float32)
    return result


def _enlarge(surface: np.ndarray, inside: np.ndarray, factor: int) -> np.ndarray:
    """The start at the next resolution: bilinear, from values extended beyond ``inside``."""
    offset = surface[inside].mean()
    extended = extend_depth(np.where(inside, surface - offset, 0).astype(np.float32), inside).astype(np.float64)
    extended[inside] = surface[inside] - offset
    height, width = extended.shape
    return cv2.resize(extended, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR) + offset


@dataclass(frozen=True)
class _Problem:
    """E over the N pixels of a grid with ``factor`` pixels to a cell's side: z'Bz / 2 + hinge / 2 * excess^2 (E halved)."""

    bending: sparse.csr_matrix  # [N, N]
    means: sparse.csr_matrix  # [M, N]
    decoded: np.ndarray  # [M]
    hinge: float

    @classmethod
    def build(
        cls, cells: np.ndarray, known: np.ndarray, inside: np.ndarray, factor: int, jump: float, hinge: float
    ) -> _Problem:
        """Matrices for the cells [h, w] (in code steps) and the pixels ``inside`` [h * factor, w * factor]."""
        index = np.full(inside.shape, -1)
        index[inside] = np.arange(np.count_nonzero(inside))
        blocks = index.reshape(known.shape[0], factor, known.shape[1], factor).transpose(0, 2, 1, 3)[known]
        members = blocks.reshape(len(blocks), -1)
        rows = np.repeat(np.arange(len(members)), members.shape[1])
        share = np.full(members.size, 1 / members.shape[1])
        means = sparse.csr_matrix((share, (rows, members.ravel())), shape=(len(members), index.max() + 1))
        return cls(_bending(cells, index, factor, jump), means, cells[known], hinge)

    def excess(self, mean: np.ndarray) -> np.ndarray:
        """By how much means [M] leave their interval, with sign."""
        difference = mean - self.decoded
        return difference - np.clip(difference, -0.5, 0.5)


def _bending(cells: np.ndarray, index: np.ndarray, factor: int, jump: float) -> sparse.csr_matrix:
    """Matrix [N, N] of the bending energy over the stencils whose pixels all have an ``index`` and span no jump."""
    value = np.kron(cells, np.ones((factor, factor)))
    parts = []
    for offsets, coefficients, weight in _STENCILS:
        height, width = (n - max(o[axis] for o in offsets) for axis, n in enumerate(index.shape))
        pixels = np.stack([index[dy : dy + height, dx : dx + width].ravel() for dy, dx in offsets])
        level = np.stack([value[dy : dy + height, dx : dx + width].ravel() for dy, dx in offsets])
        pixels = pixels[:, (pixels >= 0).all(0) & (np.ptp(level, axis=0) <= jump)]
        entries = np.broadcast_to(np.array(coefficients)[:, None] * (np.sqrt(weight) * factor), pixels.shape)
        rows = np.broadcast_to(np.arange(pixels.shape[1]), pixels.shape)
        parts.append(sparse.csr_matrix((entries.ravel(), (rows.ravel(), pixels.ravel())), (pixels.shape[1], index.max() + 1)))
    stacked = sparse.vstack(parts, format="csr")
    return (stacked.T @ stacked).tocsr()


_STENCILS = (
    (((0, 0), (0, 1), (0, 2)), (1.0, -2.0, 1.0), 1.0),
    (((0, 0), (1, 0), (2, 0)), (1.0, -2.0, 1.0), 1.0),
    (((0, 0), (0, 1), (1, 0), (1, 1)), (1.0, -1.0, -1.0, 1.0), 2.0),
)
"""(row, column) of each pixel, its coefficient; weight in the energy: z_xx, z_yy, z_xy"""


def _solve(problem: _Problem, start: np.ndarray, settings: VariationalSettings) -> np.ndarray:
    """Minimiser [N] by Newton steps over the cells that leave their interval, from ``start`` [N]."""
    z, mean = start.copy(), problem.means @ start
    diagonal = problem.bending.diagonal() + problem.hinge / (problem.means.shape[1] / problem.means.shape[0]) ** 2
    for _ in range(settings.newton_steps):
        excess = problem.excess(mean)
        gradient = problem.bending @ z + problem.hinge * (problem.means.T @ excess)
        active = problem.means[np.flatnonzero(excess)]
        step = _conjugate_gradients(problem, active, -gradient, diagonal, settings.cg_steps)
        mean_step, bent = problem.means @ step, problem.bending @ step
        length = _line_search(problem, mean, mean_step, _dot(z, bent), _dot(step, bent))
        z, mean = z + length * step, mean + length * mean_step
        if length * np.abs(step).max() < settings.tolerance:
            break
    return z


def _conjugate_gradients(
    problem: _Problem, active: sparse.csr_matrix, right_side: np.ndarray, diagonal: np.ndarray, steps: int
) -> np.ndarray:
    """About the solution [N] of (B + hinge * active' active) x = right_side, preconditioned by the diagonal."""
    x, r = np.zeros_like(right_side), right_side.copy()
    scaled = r / diagonal
    p, product = scaled.copy(), _dot(r, scaled)
    goal = 1e-6 * product
    for _ in range(steps):
        if product <= goal:
            break
        image = problem.bending @ p + problem.hinge * (active.T @ (active @ p))
        length = product / _dot(p, image)
        x += length * p
        r -= length * image
        scaled = r / diagonal
        before, product = product, _dot(r, scaled)
        p = scaled + (product / before) * p
    return x


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Not by BLAS, whose order of summation depends on its number of threads."""
    return float(np.einsum("i,i->", a, b))


def _line_search(problem: _Problem, mean: np.ndarray, mean_step: np.ndarray, slope: float, curvature: float) -> float:
    """The step length at which E is smallest: a root of its derivative, which is piecewise linear and rises."""

    def derivative(t: float) -> float:
        return slope + t * curvature + problem.hinge * _dot(mean_step, problem.excess(mean + t * mean_step))

    low, high = 0.0, 1.0
    while derivative(high) < 0 and high < 64:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(middle) < 0 else (low, middle)
    return (low + high) / 2
