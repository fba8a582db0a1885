"""Gaussians put together from a file's rows, a chunk at a time: checked, thinned, in one allocation.

Every splat format ends here, so that what is a valid Gaussian, which ones are too transparent to matter and how many
fit are decided once. Nothing but the chunk at hand exists twice: five million Gaussians of degree 3 take the 1.2 GB
that they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from splathead.gaussians import Gaussians

MAX_GAUSSIANS = 5_000_000
CHUNK_ROWS = 2**16
"""Rows that a reader decodes at a time."""

MAX_SH_DEGREE = 3
FACELIFT_LAYOUT = "FaceLift PLY"

_MAX_LOG_SCALE = math.log(float(np.finfo(np.float32).max))
_OPACITY_MARGIN = 1e-6


@dataclass(frozen=True)
class LoadOptions:
    """What of a file is wanted.

    ``min_opacity``: Gaussians below it are left out; up to 1/255 (``raster.interface.ALPHA_MIN``) that changes no
    rendered pixel. ``max_sh_degree``: higher bands of the harmonics are left out, 0 keeps the mean colour only.
    ``max_broken``: the largest share of rows that may be no Gaussian (NaN, infinity, no rotation), which are left out.
    """

    max_gaussians: int = MAX_GAUSSIANS
    min_opacity: float = 0.0
    max_sh_degree: int = MAX_SH_DEGREE
    max_broken: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_opacity < 1:
            raise ValueError(f"min_opacity {self.min_opacity}, expected a number in [0, 1)")
        if not 0 <= self.max_sh_degree <= MAX_SH_DEGREE:
            raise ValueError(f"max_sh_degree {self.max_sh_degree}, expected 0 to {MAX_SH_DEGREE}")
        if not 0 <= self.max_broken < 1:
            raise ValueError(f"max_broken {self.max_broken}, expected a number in [0, 1)")

    def check_count(self, count: int) -> None:
        """ValueError unless a file may hold ``count`` Gaussians."""
        if not 0 < count <= self.max_gaussians:
            raise ValueError(f"{count} Gaussians, expected 1 to {self.max_gaussians} (reconstruct.max_gaussians)")


@dataclass(frozen=True)
class SplatFile:
    """What a reader made of a file. ``layout`` is its name for the user; ``notes`` say what was left out or changed."""

    gaussians: Gaussians
    layout: str
    notes: tuple[str, ...] = ()

    @property
    def is_facelift(self) -> bool:
        """FaceLift wrote it, so its axes and unit are known."""
        return self.layout == FACELIFT_LAYOUT


@dataclass
class _Fault:
    """Rows that are no Gaussian: what is wrong with them, how many, and the first."""

    expected: str
    count: int = 0
    first: int = -1


class GaussianBuilder:
    """Collects ``count`` Gaussians of ``sh_degree``, of which ``options`` may leave some out."""

    def __init__(self, count: int, sh_degree: int, options: LoadOptions) -> None:
        self.options, self.sh_degree, self._file_degree = options, min(sh_degree, options.max_sh_degree), sh_degree
        shapes = {
            "means": (3,), "log_scales": (3,), "quaternions": (4,), "opacity_logits": (),
            "sh": ((self.sh_degree + 1) ** 2, 3),
        }  # fmt: skip
        # pages that are never written to are never resident: rows that are left out cost nothing
        self._arrays = {name: np.empty((count, *shape), np.float32) for name, shape in shapes.items()}
        self._read, self._kept, self._broken, self._faults = 0, 0, 0, {}

    def add(
        self, means: np.ndarray, log_scales: np.ndarray, quaternions: np.ndarray, opacity_logits: np.ndarray, sh: np.ndarray
    ) -> None:
        """The next n rows: [n, 3], [n, 3], [n, 4] (w x y z), [n], [n, at least (degree + 1)^2, 3]."""
        columns = {
            "means": means, "log_scales": log_scales, "quaternions": quaternions, "opacity_logits": opacity_logits,
            "sh": sh[:, : (self.sh_degree + 1) ** 2],
        }  # fmt: skip
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinity, which is a fault
            columns = {name: np.asarray(column, np.float32) for name, column in columns.items()}
        broken = self._check(columns)
        keep = ~broken
        if self.options.min_opacity > 0:
            limit = math.log(self.options.min_opacity / (1 - self.options.min_opacity))
            keep &= ~(columns["opacity_logits"] < limit)
        for name, column in columns.items():
            kept = column[keep]
            self._arrays[name][self._kept : self._kept + len(kept)] = kept
        self._read, self._kept = self._read + len(opacity_logits), self._kept + len(kept)
        self._broken += int(broken.sum())

    def _check(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Which rows are no Gaussian, bool [n]."""
        broken = np.zeros(len(columns["opacity_logits"]), bool)
        names = {
            "means": "x y z", "log_scales": "scale_*", "quaternions": "rot_*", "opacity_logits": "opacity",
            "sh": "f_dc_* f_rest_*",
        }  # fmt: skip
        for attribute, properties in names.items():
            self._note(broken, np.isfinite(columns[attribute]), f"NaN or infinity in {properties}", "finite values")
        good = ~(columns["log_scales"] > _MAX_LOG_SCALE)
        self._note(broken, good, "scale_* overflows exp()", "the natural logarithm of a standard deviation")
        self._note(broken, columns["quaternions"].any(axis=1), "rot_* is all zero", "a quaternion w x y z")
        return broken

    def _note(self, broken: np.ndarray, good: np.ndarray, found: str, expected: str) -> None:
        fault = self._faults.setdefault(found, _Fault(expected))
        if good.all():
            return
        bad = ~good.reshape(len(good), -1).all(axis=1)
        broken |= bad
        if not fault.count:
            fault.first = self._read + int(np.flatnonzero(bad)[0])
        fault.count += int(bad.sum())

    def finish(self, layout: str, unit: str = "scene", notes: tuple[str, ...] = ()) -> SplatFile:
        """The Gaussians and what was left out. ValueError when too many rows were no Gaussian, or all too transparent."""
        if self._broken > (allowed := int(self.options.max_broken * self._read)):
            found, fault = next((found, fault) for found, fault in self._faults.items() if fault.count)
            more = f"; {self._broken} such Gaussians in all, at most {allowed} are left out" if self.options.max_broken else ""
            where = f"for {fault.count} of {self._read} Gaussians (first at index {fault.first})"
            raise ValueError(f"{found} {where}, expected {fault.expected}{more}")
        if self._broken:
            faults = {found: fault for found, fault in self._faults.items() if fault.count}
            what = ", ".join(f"{found} ({fault.count}, first at index {fault.first})" for found, fault in faults.items())
            notes += (f"{self._broken} of {self._read} Gaussians are broken, left out: {what}",)
        limit, whole = f"below opacity {self.options.min_opacity:.6g}", self._read - self._broken
        if not self._kept:
            raise ValueError(f"all {whole} Gaussians are {limit}, expected visible ones")
        if self._kept < whole:
            notes += (f"{whole - self._kept} of {self._read} Gaussians are {limit}, left out",)
        if self.sh_degree < self._file_degree:
            notes += (f"spherical harmonics of degree {self._file_degree}, cut to {self.sh_degree}",)
        tensors = {name: torch.from_numpy(array[: self._kept]) for name, array in self._arrays.items()}
        return SplatFile(Gaussians(**tensors, unit=unit), layout, notes)


def opacity_logit(opacity: np.ndarray) -> np.ndarray:
    """Logits of opacities in [0, 1] from a quantised file, whose 0 and 1 are kept finite."""
    inside = np.clip(opacity.astype(np.float64), _OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
    return np.log(inside / (1 - inside)).astype(np.float32)


def harmonics_from_rest(dc: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Harmonics [n, K, 3] from ``f_dc`` [n, 3] and channel-major ``f_rest`` [n, 3 (K - 1)]."""
    return np.concatenate([dc[:, None], rest.reshape(len(rest), 3, rest.shape[1] // 3).transpose(0, 2, 1)], axis=1)


def complete_quaternions(largest: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Unit quaternions [n, 4] from which component is largest [n] (0 to 3) and the others [n, 3], in the file's order."""
    order = np.array([[k, *(j for j in range(4) if j != k)] for k in range(4)])[largest]
    rows = np.arange(len(small))[:, None]
    quaternions = np.empty((len(small), 4), np.float32)
    quaternions[rows, order[:, 1:]] = small
    quaternions[rows, order[:, :1]] = np.sqrt(np.maximum(0, 1 - (small**2).sum(axis=1, keepdims=True)))
    return quaternions
