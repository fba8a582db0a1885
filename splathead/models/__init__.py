"""Registry of super-resolution methods: networks (one per file) and interpolation baselines.

A network's module holds an architecture dataclass and ``create(architecture)``; both are imported only when
used. Every network maps extended low-resolution depth [B, 1, h, w], normalised so that near..far of the
low-resolution code is 0..1, to depth [B, 1, H, W] in the same normalisation, in float32: ``network(lr_depth01)``.
A network whose architecture names ``guides`` is called ``network(lr_depth01, guides)`` with these maps of the same view
at high resolution, stacked [B, C, H, W] float32 (:mod:`splathead.guides`).
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from splathead.config import ModelConfig

NETWORKS = {
    "unet": ("splathead.models.unet", "UNetArchitecture"),
    "edsr": ("splathead.models.edsr", "EDSRArchitecture"),
    "srresnet": ("splathead.models.srresnet", "SRResNetArchitecture"),
    "swinir": ("splathead.models.swinir", "SwinIRArchitecture"),
    "sgnet": ("splathead.models.sgnet", "SGNetArchitecture"),
    "splathead": ("splathead.models.splathead", "SplatHeadArchitecture"),
}
"""name -> module and name of its architecture dataclass"""

NO_NETWORK = "none"
"""``train.model.name`` of a run that only applies baselines"""

BASELINES = ("nearest", "bilinear", "bicubic", "bilinear_offset", "variational", "dornet_nyu", "raw_splat", "splat_surface")
"""Methods that are not trained here, see ``splathead.predictors``"""

FROM_GAUSSIANS = ("raw_splat", "splat_surface")
"""Those of them that read maps of the Gaussians at full resolution (track C), no low-resolution input"""

OWN_GUIDES = "own"
"""``train.model.guides`` that leaves a network's guides as they are"""

SURFACE_MARGIN = 0.5
"""``output_margin`` of networks trained on the true surface, which leaves near..far at the nose and at silhouettes;
as the residual's own limit it switches the clamp off"""


def _entry(name: str) -> tuple[str, str]:
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}, expected one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]


def architecture_for(model: ModelConfig, *, scale: int, target: str) -> object:
    """Architecture dataclass of the configured network for a scale factor and target (``surface`` or ``render``)."""
    module, cls = _entry(model.name)
    kind = getattr(importlib.import_module(module), cls)
    values = {"scale": scale, "output_margin": SURFACE_MARGIN if target == "surface" else 0.0}
    known = {field.name for field in fields(kind)}
    values.update({field.name: getattr(model, field.name) for field in fields(model) if field.name in known})
    if model.guides == [OWN_GUIDES]:
        values.pop("guides", None)
    elif "guides" not in known:
        raise ValueError(f"model.guides: {', '.join(model.guides)}, but {model.name} takes no guides")
    return kind(**values)


def network_guides(model: ModelConfig) -> tuple[str, ...]:
    """Guides that the configured network takes, in order; see :mod:`splathead.guides`."""
    return tuple(getattr(architecture_for(model, scale=4, target="surface"), "guides", ()))


def works_without_guides(name: str) -> bool:
    """Whether a network takes guides that may be missing (zero), with the same weights."""
    module, cls = _entry(name)
    return getattr(getattr(importlib.import_module(module), cls), "guides_optional", False)


def create_network(name: str, architecture: object) -> nn.Module:
    """A newly initialised network; draw its weights reproducibly by seeding torch first."""
    module, _ = _entry(name)
    return importlib.import_module(module).create(architecture)


def architecture_to_dict(name: str, architecture: object) -> dict:
    """JSON form of an architecture: its fields and the network's ``name``."""
    return {"name": name, **asdict(architecture)}


def architecture_from_dict(data: dict) -> tuple[str, object]:
    """Name and architecture from :func:`architecture_to_dict`'s form; unknown names, keys or values are errors."""
    name = data.get("name")
    module, cls = _entry(name)
    kind = getattr(importlib.import_module(module), cls)
    values = {key: value for key, value in data.items() if key != "name"}
    expected = {field.name for field in fields(kind)}
    if set(values) != expected:
        raise ValueError(f"architecture of {name!r} with keys {sorted(values)}, expected {sorted(expected)}")
    return name, kind(**values)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
