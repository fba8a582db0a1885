"""Weights that a training starts from instead of random ones (``train.init_weights``)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from splathead.checkpoints import load_weights
from splathead.config import TrainConfig
from splathead.models import architecture_for, architecture_from_dict, architecture_to_dict

KEY = "train.init_weights"


def initial_weights(settings: TrainConfig, scale: int = 0) -> dict[str, Tensor]:
    """The weights to start from; empty where training starts from random ones.

    ``scale``: the factor that is trained; 0 = whichever they are for. FileNotFoundError for missing files, ValueError for
    damaged ones and for weights of another network.
    """
    if not settings.init_weights:
        return {}
    try:
        weights, info = load_weights(Path(settings.init_weights))
        found = architecture_to_dict(*architecture_from_dict(info.get("architecture", {})))
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{KEY}: {error}") from error
    model = settings.model
    architecture = architecture_for(model, scale=scale or found["scale"], target=settings.target)
    wanted = architecture_to_dict(model.name, architecture)
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if differing:
        differing = ["name"] if "name" in differing else differing
        what = ", ".join(f"{key} {found.get(key)!r}, expected {wanted.get(key)!r}" for key in differing)
        raise ValueError(f"{KEY}: {settings.init_weights}: weights of another network ({what})")
    return weights
