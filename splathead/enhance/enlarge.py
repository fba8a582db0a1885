"""Methods that take low-resolution depth: interpolation, the variational method, networks. All know the input's mask only."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from splathead.images import DepthMap
from splathead.maps.low_resolution import FLOAT_BITS, requantised
from splathead.prediction import TrainedNetwork, interpolate_depth, load_network, variational_prediction
from splathead.shipped import surface_weights

CPU = torch.device("cpu")
_QUANTISED = re.compile(r"(\d+)bit")
_one_reader = {"cpu": threading.Lock(), "cuda": threading.Lock()}
"""Held while weights are read to a device, which takes a second on a GPU"""


@dataclass(frozen=True)
class Enlarged:
    """What a method makes of a low-resolution map."""

    depth_map: DepthMap
    expected_error: np.ndarray | None = None
    """[H, W] float32 in the map's unit, 0 outside of its mask; None where the method says nothing of its error"""


Enlarge = Callable[[DepthMap, int, "Mapping[str, np.ndarray] | None"], Enlarged]
"""(low-resolution map, whole factor, full-size maps of the same view as stage 04 stores them, or None) -> result"""


def enlarge_method(name: str, device: torch.device = CPU) -> Enlarge:
    """The method that ``--method`` calls ``name``; a network on ``device``, the others know the CPU only."""
    weights = method_weights(name)
    return _METHODS[name] if weights is None else functools.partial(_by_network, weights, device)


def method_weights(name: str) -> Path | None:
    """Weights of the network that ``--method`` calls ``name``, None for a method without.

    FileNotFoundError where the shipped ones are not there.
    """
    if name == "splathead":
        return surface_weights()
    return Path(name) if name.endswith(".safetensors") else None


def own_factor(name: str) -> int | None:
    """The only factor that method ``name`` enlarges by; None = any."""
    weights = method_weights(name)
    network = None if weights is None else method_network(weights)
    return None if network is None or network.any_scale else network.scale


def method_network(weights: Path, scale: int | None = None, device: torch.device = CPU) -> TrainedNetwork:
    """The network with these weights on ``device``, read once; ``scale``: for this factor, None = as trained.

    Raises ValueError, beside the errors of :func:`splathead.prediction.load_network`, for a network of another factor and for
    one whose inputs cannot be made here.
    """
    with _one_reader[device.type]:  # several threads may ask for it at once
        network = _loaded(weights.resolve(), weights.stat().st_mtime_ns, device)
    if not _trained_bits(network):
        names = ", ".join(network.inputs)
        raise ValueError(f"{weights}: a network for {names} input, which is made from full-resolution depth; expected <n>bit")
    try:
        return network if scale is None else network.at_scale(scale)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error


@functools.lru_cache(maxsize=2)
def _loaded(weights: Path, _modified_ns: int, device: torch.device) -> TrainedNetwork:
    return load_network(weights, device)


def _trained_bits(network: TrainedNetwork) -> list[int]:
    """Bit depths among the inputs that it was trained on, those that are made from full-resolution depth left out."""
    return [int(match[1]) for name in network.inputs if (match := _QUANTISED.fullmatch(name))]


def _by_network(
    weights: Path, device: torch.device, source: DepthMap, scale: int, maps: Mapping[str, np.ndarray] | None
) -> Enlarged:
    network = method_network(weights, scale, device)
    missing = [name for name in network.needs if name not in (maps or {})]
    if missing:
        raise ValueError(f"{weights}: this network needs {', '.join(missing)} of the same view, which this input does not have")
    lr = _as_trained(source, _trained_bits(network))
    if not network.predicts_error:
        return Enlarged(network.predict(lr, maps))
    return Enlarged(*network.predict_with_error(lr, maps))


def _as_trained(source: DepthMap, bits: list[int]) -> DepthMap:
    """The map as a network trained on codes of these ``bits`` knows it: with their steps, near and far at its own ends."""
    if FLOAT_BITS in bits and source.encoding.bits not in set(bits) - {FLOAT_BITS}:
        return DepthMap.of_float(source.depth, source.mask, source.camera, source.source, source.encoding.unit)
    return source if source.encoding.bits in bits else requantised(source, max(bits))


def _variational(source: DepthMap, scale: int, _maps: Mapping[str, np.ndarray] | None) -> Enlarged:
    return Enlarged(variational_prediction(source, scale))


def _interpolated(mode: str, source: DepthMap, scale: int, _maps: Mapping[str, np.ndarray] | None) -> Enlarged:
    return Enlarged(interpolate_depth(source, scale, mode))


_METHODS: dict[str, Enlarge] = {
    "variational": _variational,
    "bilinear": functools.partial(_interpolated, "bilinear"),
    "raw": functools.partial(_interpolated, "nearest"),
}
