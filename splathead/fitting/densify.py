"""Adaptive density control (Kerbl et al. 2023, section 5.2) under an upper bound on the number of Gaussians."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.config import FitConfig
from splathead.fitting.optimiser import GaussianOptimiser
from splathead.gaussians import quaternion_to_matrix

SPLIT_SHRINK = 1.6
"""A split Gaussian's two halves are smaller by this factor."""

RESET_OPACITY_FACTOR = 2.0
"""Opacity resets go to this many times the pruning threshold, so that what is seen can survive the next pruning."""

MAX_SCALE = 0.08
"""Gaussians larger than this fraction of the scene's extent are removed."""


class DensityControl:
    """Collects how hard the loss pulls at each Gaussian's projected centre, and clones, splits and prunes."""

    def __init__(self, optimiser: GaussianOptimiser, config: FitConfig, extent: float, rng: np.random.Generator) -> None:
        self._optimiser, self._config, self._extent, self._rng = optimiser, config, extent, rng
        self.first = round(config.densify_from * config.iterations)
        self.last = round(config.densify_until * config.iterations)
        self._clear()

    def _clear(self) -> None:
        means = self._optimiser.parameters["means"]
        self._gradient_sum = torch.zeros(len(means), device=means.device)
        self._seen = torch.zeros(len(means), device=means.device)

    def collecting(self, step: int) -> bool:
        """Whether the gradient of the centres is needed in this step (0-based)."""
        return self._config.densify and step < self.last

    def collect(self, centre_gradient: Tensor, radii: Tensor, camera: Camera) -> None:
        """Add one view's dL/d(projected centre) [N, 2] in px, as normalised device units; ``radii`` [N] px, 0 = not seen."""
        half_width, half_height = 0.5 * camera.width, 0.5 * camera.height
        x, y = centre_gradient.unbind(1)
        self._gradient_sum += torch.sqrt((x * half_width) ** 2 + (y * half_height) ** 2)
        self._seen += radii > 0

    def after_step(self, step: int) -> None:
        """Refine and reset opacities where the schedule says so; ``step`` is the 0-based step just made."""
        done, config = step + 1, self._config
        if not config.densify or done > self.last:
            return
        if done >= self.first and done % config.densify_every == 0:
            self.refine()
        if config.opacity_reset_every and done % config.opacity_reset_every == 0 and done < self.last:
            self._optimiser.limit_opacity(min(0.99, RESET_OPACITY_FACTOR * config.prune_opacity))

    def survivors(self) -> Tensor:
        """Mask [N] of Gaussians that are neither transparent nor far too large."""
        values = self._optimiser.parameters
        with torch.no_grad():
            visible = values["opacity_logits"] > math.log(self._config.prune_opacity / (1 - self._config.prune_opacity))
            return visible & (values["log_scales"].amax(1) < math.log(MAX_SCALE * self._extent))

    def prune(self) -> None:
        """Remove all but the survivors."""
        kept = self.survivors().nonzero()[:, 0]
        self._optimiser.replace(kept, {name: value.detach()[:0] for name, value in self._optimiser.parameters.items()})
        self._clear()

    def refine(self) -> None:
        """Clone small and split large Gaussians where the loss pulls hard, strongest first, and prune."""
        alive = self.survivors()
        pull = torch.where(alive, self._gradient_sum / self._seen.clamp_min(1), 0.0)
        budget = max(0, self._config.max_gaussians - int(alive.sum()))
        strongest = torch.argsort(pull, descending=True, stable=True)[:budget]
        growing = strongest[pull[strongest] > self._config.densify_grad]
        values = {name: value.detach() for name, value in self._optimiser.parameters.items()}
        large = values["log_scales"][growing].amax(1) > math.log(self._config.split_scale * self._extent)
        cloned, split = growing[~large], growing[large]
        alive[split] = False  # two halves take its place
        halves = self._halves({name: value[split] for name, value in values.items()})
        added = {name: torch.cat([value[cloned], halves[name]]) for name, value in values.items()}
        self._optimiser.replace(alive.nonzero()[:, 0], added)
        self._clear()

    def _halves(self, parents: dict[str, Tensor]) -> dict[str, Tensor]:
        """Two smaller Gaussians drawn from each parent's distribution."""
        halves = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in parents.items()}
        scales = halves["log_scales"].exp()
        draws = torch.from_numpy(self._rng.normal(size=tuple(scales.shape)).astype(np.float32)).to(scales)
        offsets = quaternion_to_matrix(halves["quaternions"]) * (scales * draws)[:, None, :]
        halves["means"] = halves["means"] + offsets.sum(-1)
        halves["log_scales"] = halves["log_scales"] - math.log(SPLIT_SHRINK)
        return halves
