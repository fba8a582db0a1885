"""From low-resolution depth to super-resolved depth maps: trained networks and the baselines beside them.

Every method sees the same extended input and covers the same pixels: those where the bilinearly upsampled mask
of the input is at least 1/2 (``raw_splat``, the splats' own high-resolution depth, has its own mask).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from splathead.cameras import Camera, load_cameras
from splathead.checkpoints import load_weights
from splathead.config import Config
from splathead.guides import beside_input, guide_tensor, stored_maps, view_guides
from splathead.images import DepthEncoding, DepthMap, load_depth_png, load_maps, sidecar_path
from splathead.maps.degrade import STUDY_DEGRADATIONS
from splathead.maps.low_resolution import load_low_resolution, requantised
from splathead.models import architecture_from_dict, architecture_to_dict, create_network, parameter_count, works_without_guides
from splathead.models.interpolation import upsample_depth, upsample_mask
from splathead.samples import Sample, input_stage
from splathead.training.losses import CODE_STEPS
from splathead.training.pairs import LowResolutionInput, over_range, prepare_input

PREDICTION_BITS = 16


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with weights, ready to apply, and the ``info`` its weights came with."""

    network: nn.Module
    info: dict
    device: torch.device

    @property
    def scale(self) -> int:
        """Super-resolution factor."""
        return self.info["architecture"]["scale"]

    @property
    def description(self) -> str:
        """One line for sidecars: network, target, input, weights."""
        info = self.info
        return (
            f"{info['architecture']['name']} ({parameter_count(self.network):,} parameters) trained on target {info['target']} "
            f"from {info['lr_input']} input, weights {info['sha256'][:16]}"
        )

    @property
    def guides(self) -> tuple[str, ...]:
        """Guides that it takes, see :mod:`splathead.guides`."""
        return tuple(self.info["architecture"].get("guides", ()))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Low-resolution inputs that it was trained on; weights from before there were mixtures name one."""
        return tuple(self.info.get("settings", {}).get("lr_mixture", ())) or (self.info["lr_input"],)

    @property
    def predicts_error(self) -> bool:
        """Whether :meth:`predict_with_error` can be asked."""
        return getattr(self.network, "predicts_scale", False)

    @property
    def any_scale(self) -> bool:
        """Whether :meth:`at_scale` takes other factors than :attr:`scale`."""
        return getattr(self.network.architecture, "any_scale", False)

    def at_scale(self, scale: int) -> TrainedNetwork:
        """The same weights at another super-resolution factor; ValueError where they belong to one."""
        if scale == self.scale:
            return self
        if not self.any_scale:
            raise ValueError(f"a network for scale factor {self.scale}, but this input needs {scale}")
        network = copy.copy(self.network)  # shares the weights
        network.architecture = replace(self.network.architecture, scale=scale)
        description = architecture_to_dict(self.info["architecture"]["name"], network.architecture)
        return replace(self, network=network, info={**self.info, "architecture": description})

    @property
    def needs(self) -> tuple[str, ...]:
        """Maps of the view, as stage 04 stores them, without which it cannot be applied."""
        return () if works_without_guides(self.info["architecture"]["name"]) else stored_maps(self.guides)

    @torch.no_grad()
    def predict(self, lr: DepthMap, maps: Mapping[str, np.ndarray] | None = None) -> DepthMap:
        """Super-resolve one map, in full precision. ``maps`` of the view as stage 04 stores them, for its guides; None for a
        network that works without."""
        lr = self._over_known_range(lr)
        guides = view_guides(self.guides, maps or {}, lr, self.scale, absent=maps is None)
        used = f", guided by {', '.join(beside_input(self.guides))}" if maps and beside_input(self.guides) else ""
        return network_prediction(self.network, lr, guides, self.device, self.description + used)

    @torch.no_grad()
    def predict_with_error(
        self, lr: DepthMap, maps: Mapping[str, np.ndarray] | None = None
    ) -> tuple[DepthMap, np.ndarray]:
        """:meth:`predict`, and the expected absolute error [H, W] float32 in the map's unit, 0 outside of the mask.

        ValueError for a network that does not predict its error.
        """
        if not self.predicts_error:
            raise ValueError(f"{self.info['architecture']['name']}: this network does not predict its error")
        lr = self._over_known_range(lr)
        prepared, guides = prepare_input(lr), view_guides(self.guides, maps or {}, lr, self.scale, absent=maps is None)
        depth01, log_scale = self.network(*network_inputs(prepared, guides, self.device), with_scale=True)
        found = to_depth_map(lr, prepared, depth01[0, 0].cpu().numpy(), self.scale, self.description)
        error = torch.exp(log_scale[0, 0]).cpu().numpy() * (prepared.range / CODE_STEPS)
        return found, np.where(found.mask, error, 0).astype(np.float32)

    def _over_known_range(self, lr: DepthMap) -> DepthMap:
        return over_range(lr, getattr(self.network.architecture, "range_mm", 0.0))


def load_network(path: Path, device: torch.device | str = "cpu") -> TrainedNetwork:
    """Load weights (``.safetensors`` with its ``.json``), checked against their SHA-256, as a network in eval mode."""
    weights, info = load_weights(path)
    try:
        name, architecture = architecture_from_dict(info["architecture"])
        network = create_network(name, architecture)
        network.load_state_dict(weights)
        for key in ("target", "lr_input"):
            info[key]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{Path(path).with_suffix('.json')}: does not describe these weights: {error}") from error
    device = torch.device(device)
    return TrainedNetwork(network.to(device).eval(), info, device)


def network_at_scale(network: TrainedNetwork, scale: int, weights: Path, sample: Sample) -> TrainedNetwork:
    """The network at a sample's super-resolution factor; ValueError, naming both, for weights of another factor."""
    try:
        return network.at_scale(scale)
    except ValueError as error:
        raise ValueError(f"{weights}: {error} ({sample})") from error


def interpolate_depth(lr: DepthMap, scale: int, mode: str, offset_mm: float = 0.0) -> DepthMap:
    """Upsample a map with ``nearest``, ``bilinear`` or ``bicubic`` interpolation and add a constant offset."""
    prepared = prepare_input(lr)
    depth01 = upsample_depth(prepared.depth01, scale, mode) + np.float32(offset_mm / prepared.range)
    offset = f" {offset_mm:+.4f} mm" if offset_mm else ""
    return to_depth_map(lr, prepared, depth01, scale, f"{mode}{offset} from {lr.encoding.bits}-bit input")


def to_depth_map(lr: DepthMap, prepared: LowResolutionInput, depth01: np.ndarray, scale: int, source: str) -> DepthMap:
    """Normalised high-resolution depth as a map in the input's unit, on the pixels that every method covers.

    A network may go beyond near..far, but not to the camera: depth ends half way between it and the input's near.
    """
    mask = upsample_mask(lr.mask, scale)
    if depth01.shape != mask.shape:
        raise ValueError(f"prediction of shape {depth01.shape}, expected {mask.shape}")
    depth = np.maximum(prepared.near + depth01.astype(np.float64) * prepared.range, lr.encoding.near / 2)
    depth = np.where(mask, depth, 0.0).astype(np.float32)
    encoding = DepthEncoding.from_depth(depth, mask, PREDICTION_BITS, lr.encoding.unit)
    camera = lr.camera.resized(mask.shape[1], mask.shape[0])
    return DepthMap(depth, mask, encoding, camera, source)


@torch.no_grad()
def network_prediction(
    network: nn.Module, lr: DepthMap, guides: Mapping[str, np.ndarray], device: torch.device, source: str
) -> DepthMap:
    """One map by a network on ``device``, in full precision.

    ``guides``: those that it takes, as :func:`splathead.guides.view_guides` makes them; empty for a network without guides.
    """
    prepared = prepare_input(lr)
    depth01 = network(*network_inputs(prepared, guides, device))[0, 0].cpu().numpy()
    return to_depth_map(lr, prepared, depth01, depth01.shape[-1] // lr.camera.width, source)


def network_inputs(prepared: LowResolutionInput, guides: Mapping[str, np.ndarray], device: torch.device) -> list[Tensor]:
    """What a network takes of one view, on ``device``: depth, and the stacked guides where there are any."""
    inputs = [torch.from_numpy(prepared.depth01)[None, None].to(device)]
    if guides:
        maps = [guide_tensor(torch.tensor(array)[None].to(device), name) for name, array in guides.items()]
        inputs.append(torch.cat(maps, dim=1))
    return inputs


def variational_prediction(lr: DepthMap, scale: int) -> DepthMap:
    """One map by the training-free variational method, see :mod:`splathead.models.variational`."""
    from splathead.models.variational import variational_depth

    prepared = prepare_input(lr)
    depth01 = variational_depth(prepared.depth01, prepared.mask, scale, 1.0 / lr.encoding.steps)
    return to_depth_map(lr, prepared, depth01, scale, f"variational from {lr.encoding.bits}-bit input")


def load_input(config: Config, sample: Sample, lr_input: str) -> DepthMap:
    """Low-resolution input (a ``train.lr_input``) of a sample, from stage 05 or quantised from stage 04's map."""
    if input_stage(config) == 5:
        return load_low_resolution(sample.path(config, 5), lr_input, config.seed)
    if not lr_input.endswith("bit") or lr_input in STUDY_DEGRADATIONS:
        raise ValueError(f"{sample}: input {lr_input!r} needs stage 05 (pairs), which this configuration leaves out")
    return requantised(_clean_maps(config, sample, "lr"), int(lr_input.removesuffix("bit")))


def load_raw_splat(config: Config, sample: Sample) -> DepthMap:
    """The cleaned high-resolution depth of the splats themselves."""
    if input_stage(config) == 5:
        return load_depth_png(sample.path(config, 5) / "hr_render.png")
    return _clean_maps(config, sample, "hr")


def splat_surface_prediction(config: Config, sample: Sample) -> DepthMap:
    """The surface that the Gaussians mean, from their clean high-resolution maps, see :mod:`splathead.models.splat_surface`."""
    from splathead.models.splat_surface import SplatMaps, SplatSurfaceSettings, splat_surface

    maps = load_maps(sample.path(config, 4, "_hr.npz"), ("depth", "depth_variance", "normal", "mask"))
    clean = SplatMaps.of_clean(maps, _camera(config, sample))
    depth = splat_surface(clean, SplatSurfaceSettings(jump=config.pairs.jump_mm))
    source = f"{sample.subject}/{sample.variant}/{sample.view}: surface of the splats"
    return DepthMap.of_float(depth, clean.mask, clean.camera, source)


def scale_factor(config: Config, sample: Sample, lr: DepthMap) -> int:
    """Super-resolution factor of a sample: its high-resolution camera's size over its input's."""
    if input_stage(config) == 5:
        side = sidecar_path(sample.path(config, 5) / "hr_render.png")
        width = json.loads(side.read_text())["camera"]["width"]
    else:
        width = _camera(config, sample).width
    scale, rest = divmod(width, lr.camera.width)
    if rest or scale < 1:
        raise ValueError(f"{sample}: widths {width} and {lr.camera.width}, expected a whole factor between them")
    return scale


def _camera(config: Config, sample: Sample) -> Camera:
    path = sample.path(config, 4).parent / "cameras.json"
    cameras = {camera.name: camera for camera in load_cameras(path)}
    if sample.view not in cameras:
        raise ValueError(f"{path}: no camera {sample.view!r}")
    return cameras[sample.view]


def _clean_maps(config: Config, sample: Sample, resolution: str) -> DepthMap:
    maps = load_maps(sample.path(config, 4, f"_{resolution}.npz"), ("depth", "mask"))
    depth, mask = maps["depth"], maps["mask"].astype(bool)
    camera = _camera(config, sample).resized(depth.shape[1], depth.shape[0])
    return DepthMap.of_float(depth, mask, camera, f"{sample.subject}/{sample.variant}/{sample.view}: splat depth")
