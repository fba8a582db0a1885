"""Adam on a changing set of Gaussians, with the learning rate schedule of each parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from splathead.config import FitConfig
from splathead.gaussians import Gaussians

SH_REST_LR = 1.0 / 20.0
"""View-dependent colour learns this much slower than the base colour (Kerbl et al. 2023)."""


class GaussianOptimiser:
    """Raw parameters of N Gaussians as leaf tensors, and Adam's moments that follow them when N changes.

    Learning rates fall exponentially over the fit; those of positions are fractions of ``extent``.
    """

    def __init__(self, gaussians: Gaussians, config: FitConfig, extent: float) -> None:
        self.unit, self._config = gaussians.unit, config
        self._rates = {
            "means": config.lr_means * extent, "log_scales": config.lr_scales, "quaternions": config.lr_rotations,
            "opacity_logits": config.lr_opacities, "sh_base": config.lr_colours, "sh_rest": config.lr_colours * SH_REST_LR,
        }  # fmt: skip
        values = {
            "means": gaussians.means, "log_scales": gaussians.log_scales, "quaternions": gaussians.quaternions,
            "opacity_logits": gaussians.opacity_logits, "sh_base": gaussians.sh[:, :1], "sh_rest": gaussians.sh[:, 1:],
        }  # fmt: skip
        if gaussians.sh_degree == 0:
            del values["sh_rest"]
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
        groups = [{"params": [tensor], "lr": self._rates[name], "name": name} for name, tensor in self.parameters.items()]
        self._adam = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def __len__(self) -> int:
        return len(self.parameters["means"])

    def gaussians(self, sh_degree: int) -> Gaussians:
        """The Gaussians with harmonics up to ``sh_degree``; tensors share the parameters' memory and gradient history."""
        values = self.parameters
        sh = values["sh_base"]
        if sh_degree > 0:
            sh = torch.cat([sh, values["sh_rest"][:, : (sh_degree + 1) ** 2 - 1]], dim=1)
        return Gaussians(values["means"], values["log_scales"], values["quaternions"], values["opacity_logits"], sh, self.unit)

    def set_progress(self, progress: float) -> None:
        """Learning rates after ``progress`` in 0..1 of the fit."""
        for group in self._adam.param_groups:
            final = self._config.lr_means_final if group["name"] == "means" else self._config.lr_final
            group["lr"] = self._rates[group["name"]] * final**progress

    def step(self) -> None:
        """One update; gradients are cleared."""
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def replace(self, kept: Tensor, added: dict[str, Tensor]) -> None:
        """Keep the rows ``kept`` (indices) with their moments and append the rows ``added`` with zero moments."""
        for group in self._adam.param_groups:
            name, old = group["name"], group["params"][0]
            new = torch.cat([old.detach()[kept], added[name]]).requires_grad_()
            state = self._adam.state.pop(old, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    state[key] = torch.cat([state[key][kept], torch.zeros_like(added[name])])
            group["params"][0] = self.parameters[name] = new
            self._adam.state[new] = state

    def limit_opacity(self, ceiling: float) -> None:
        """Opacity reset (Kerbl et al. 2023): no opacity stays above ``ceiling``; its moments are forgotten."""
        logits = self.parameters["opacity_logits"]
        with torch.no_grad():
            logits.clamp_max_(float(torch.logit(torch.tensor(ceiling))))
        state = self._adam.state[logits]
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                state[key].zero_()
