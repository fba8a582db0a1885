"""Which device the network and the rasteriser of a call run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from splathead.cameras import orbit_camera
from splathead.devices import compute_device, device_text, raster_device
from splathead.enhance.enlarge import method_network, method_weights, own_factor
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.sampling import Sampling
from splathead.images import DepthMap
from splathead.threads import prepare


@dataclass(frozen=True)
class Devices:
    """Devices of a call."""

    network: torch.device
    raster: torch.device | None
    """None where nothing is rendered: a machine without a CUDA rasteriser is not warned of it then"""

    @classmethod
    def of(cls, options: EnhanceOptions, kind: str) -> Devices:
        """As the options say, for an input of this kind. RuntimeError for a GPU that torch does not see."""
        network = compute_device(options.device)
        return cls(network, None if kind == "depth" else raster_device(options.device, options.backend))

    def record(self, options: EnhanceOptions, kind: str) -> dict[str, str]:
        """Part of the work -> device, for the parts that a call on an input of this kind has."""
        from splathead.raster import resolve_backend

        used = {}
        if method_weights(options.method_for(kind)) is not None:
            used["network"] = device_text(self.network)
        if self.raster is not None:
            used["rasteriser"] = f"{device_text(self.raster)}, backend {resolve_backend(options.backend, self.raster)}"
        return used


def prepare_network(options: EnhanceOptions, device: torch.device) -> None:
    """On a GPU: begin to load the network for Gaussians and its operators, which takes seconds, beside other work."""
    name = options.method_for("splats")
    if device.type == "cuda" and method_weights(name) is not None:
        prepare(apply_once, name, options.resolution, device)


def apply_once(name: str, resolution: int, device: torch.device) -> None:
    """Apply the network of method ``name`` to a slanted plane, at the sizes of views of ``resolution``."""
    sampling = Sampling.of(resolution, own_factor(name))
    network = method_network(method_weights(name), sampling.factor, device)
    if not network.needs:  # one that needs maps of a view is loaded, no more
        depth = np.tile(np.linspace(1500, 1700, sampling.low, dtype=np.float32), (sampling.low, 1))
        network.predict(DepthMap.of_float(depth, depth > 0, orbit_camera(0.0, 0.0, sampling.low), "a slanted plane"))
