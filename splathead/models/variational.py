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
the same bytes every time. What is done for every pixel is compiled (:mod:`splathead.models.variational_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from splathead.maps.fill import extend_depth
from splathead.metrics.zones import bounding_box
from splathead.models.interpolation import upsample_depth, upsample_mask
from splathead.models.variational_kernels import XX, XY, YY, apply_energy, conjugate_gradients, dot, find_stencils

CG_GOAL = 1e-6
"""Conjugate gradients end at this share of the first residual's square"""


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
        depth01: [h, w] float32, low-resolution depth extended beyond its mask (``training.pairs.prepare_input``).
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
        surface = np.where(inside, _solve(problem, np.where(inside, start, 0.0), settings), start)
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
    """E over a grid [H, W] with ``factor`` pixels to a cell's side: z'Bz / 2 + hinge / 2 * excess^2 (E halved)."""

    stencils: np.ndarray  # [H, W] uint8, see variational_kernels
    diagonal: np.ndarray  # [H, W] what conjugate gradients divide by: B's diagonal and the pull of a cell that is out
    decoded: np.ndarray  # [h, w]
    known: np.ndarray  # [h, w] bool, cells whose means count
    hinge: float

    @classmethod
    def build(
        cls, cells: np.ndarray, known: np.ndarray, inside: np.ndarray, factor: int, jump: float, hinge: float
    ) -> _Problem:
        """For the cells [h, w] (in code steps) and the pixels ``inside`` [h * factor, w * factor]."""
        stencils = find_stencils(inside, cells, factor, jump)
        share = np.count_nonzero(known) / np.count_nonzero(inside)
        return cls(stencils, _bending_diagonal(stencils, factor) + hinge * share**2, cells, known, hinge)

    @property
    def factor(self) -> int:
        """Pixels to a cell's side."""
        return self.stencils.shape[0] // self.decoded.shape[0]

    def means(self, z: np.ndarray) -> np.ndarray:
        """Means [h, w] of the cells."""
        height, width = self.decoded.shape
        return z.reshape(height, self.factor, width, self.factor).mean(axis=(1, 3))

    def excess(self, mean: np.ndarray) -> np.ndarray:
        """By how much means [h, w] leave their interval, with sign; 0 where nothing is known."""
        difference = mean - self.decoded
        return np.where(self.known, difference - np.clip(difference, -0.5, 0.5), 0.0)

    def bend(self, z: np.ndarray) -> np.ndarray:
        """B z [H, W]."""
        out = np.empty_like(z)
        apply_energy(z, self.stencils, np.zeros_like(self.decoded), out)
        return out


def _bending_diagonal(stencils: np.ndarray, factor: int) -> np.ndarray:
    """Diagonal [H, W] of the bending energy's matrix."""
    diagonal = np.zeros(stencils.shape)
    for bit, weight, offsets in _DIAGONAL:
        found = (stencils & bit > 0) * float(weight * factor**2)
        for dy, dx, square in offsets:
            height, width = stencils.shape[0] - dy, stencils.shape[1] - dx
            diagonal[dy:, dx:] += square * found[:height, :width]
    return diagonal


_DIAGONAL = (
    (XX, 1, ((0, 0, 1), (0, 1, 4), (0, 2, 1))),
    (YY, 1, ((0, 0, 1), (1, 0, 4), (2, 0, 1))),
    (XY, 2, ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1))),
)
"""Stencil, its weight in the energy, and of each pixel row, column and squared coefficient"""


def _solve(problem: _Problem, start: np.ndarray, settings: VariationalSettings) -> np.ndarray:
    """Minimiser [H, W] by Newton steps over the cells that leave their interval, from ``start`` [H, W]."""
    z, mean, pixels = start.copy(), problem.means(start), problem.factor**2
    block = np.ones((problem.factor, problem.factor))
    for _ in range(settings.newton_steps):
        excess = problem.excess(mean)
        gradient = problem.bend(z) + np.kron(excess * (problem.hinge / pixels), block)
        pull = np.where(excess != 0, problem.hinge / pixels, 0.0)
        step = conjugate_gradients(-gradient, problem.diagonal, problem.stencils, pull, settings.cg_steps, CG_GOAL)
        mean_step, bent = problem.means(step), problem.bend(step)
        slope, curvature = dot(z.ravel(), bent.ravel()), dot(step.ravel(), bent.ravel())
        length = _line_search(problem, mean, mean_step, slope, curvature)
        z, mean = z + length * step, mean + length * mean_step
        if length * np.abs(step).max() < settings.tolerance:
            break
    return z


def _line_search(problem: _Problem, mean: np.ndarray, mean_step: np.ndarray, slope: float, curvature: float) -> float:
    """The step length at which E is smallest: a root of its derivative, which is piecewise linear and rises."""

    def derivative(t: float) -> float:
        excess = problem.excess(mean + t * mean_step)
        return slope + t * curvature + problem.hinge * dot(mean_step.ravel(), excess.ravel())

    low, high = 0.0, 1.0
    while derivative(high) < 0 and high < 64:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(middle) < 0 else (low, middle)
    return (low + high) / 2
