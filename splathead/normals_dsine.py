"""Normals from colour by DSINE (Bae and Davison, CVPR 2024), from a checkout that the user has installed.

None of its code is here: ``models/dsine/v02.py`` of the checkout is imported, built with the options of its
``projects/dsine/experiments/exp001_cvpr2024/dsine.txt`` and given the weights
``projects/dsine/checkpoints/exp001_cvpr2024/dsine.pt``. DSINE needs the package geffnet and builds its tables on a CUDA device.

Its conventions (its README and ``utils/projection.py``): intrinsics count the first pixel's centre as 0 (ours: 0.5); axes are
ours (x right, y down, z forward), but normals point away from the camera, so that ours are their negatives.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from splathead.cameras import Camera
from splathead.stages import fingerprint_path

INPUT_SIZE = 480
"""Side of the image that DSINE sees, as in the published study"""
VERSION = "v02"
OPTIONS = Path("projects/dsine/experiments/exp001_cvpr2024/dsine.txt")
WEIGHTS = Path("projects/dsine/checkpoints/exp001_cvpr2024/dsine.pt")
OPTION_DEFAULTS = {
    "NNET_output_dim": 3, "NNET_feature_dim": 64, "NNET_hidden_dim": 64, "NNET_decoder_BN": False,
    "NNET_learned_upsampling": False, "NRN_ray_relu": False,
}  # fmt: skip
"""Options that DSINE's file leaves out"""
COLOUR_MEAN, COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_dsine(setting: str = "") -> Path | None:
    """The checkout: ``setting``, else $DSINE_DIR, else None. FileNotFoundError for one without code, options or weights."""
    given = setting or os.environ.get("DSINE_DIR", "")
    if not given:
        return None
    checkout = Path(given).resolve()
    for name in (Path("models/dsine") / f"{VERSION}.py", OPTIONS, WEIGHTS):
        if not (checkout / name).is_file():
            raise FileNotFoundError(f"{checkout / name}: no such file, expected a DSINE checkout with its weights in {given}")
    return checkout


def dsine_fingerprint(checkout: Path) -> str:
    """Fingerprint of the weights."""
    return fingerprint_path(checkout / WEIGHTS)


@functools.lru_cache(maxsize=1)
def load_dsine(checkout: Path, device: torch.device) -> nn.Module:
    """DSINE with its weights (loaded strictly, as tensors only) in eval mode; ValueError for other options or weights."""
    options = read_options(checkout / OPTIONS)
    if options.NNET_architecture != VERSION:
        raise ValueError(f"{checkout / OPTIONS}: NNET_architecture {options.NNET_architecture!r}, expected {VERSION}")
    network = _import_dsine(checkout)(options)
    path = checkout / WEIGHTS
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or "model" not in weights:
        raise ValueError(f"{path}: no entry 'model', expected DSINE's checkpoint")
    try:
        network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in weights["model"].items()})
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of DSINE {VERSION}: {error}") from error
    network = network.to(device).eval()
    if isinstance(getattr(network, "pixel_coords", None), torch.Tensor):  # no buffer: to() leaves it where it was
        network.pixel_coords = network.pixel_coords.to(device)
    return network


def read_options(path: Path) -> SimpleNamespace:
    """DSINE's network options (NNET_*, NRN_*) from its ``--key value`` file; a key without value is a flag that is set."""
    options: dict[str, object] = dict(OPTION_DEFAULTS)
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.strip().partition(" ")
        if key.startswith(("--NNET_", "--NRN_")):
            value = value.strip()
            options[key[2:]] = int(value) if value.isdecimal() else value or True
    if "NNET_architecture" not in options:
        raise ValueError(f"{path}: no --NNET_architecture in it, expected DSINE's options")
    return SimpleNamespace(**options)


def _import_dsine(checkout: Path) -> type[nn.Module]:
    """The network's class; the checkout is on the import path only meanwhile."""
    sys.path.insert(0, str(checkout))
    try:
        module = importlib.import_module(f"models.dsine.{VERSION}")
    finally:
        sys.path.remove(str(checkout))
    if checkout not in Path(module.__file__).resolve().parents:
        raise ImportError(f"models.dsine is {module.__file__}, expected it in {checkout}: another package is in its way")
    return module.DSINE_v02


@torch.no_grad()
def dsine_normals(
    network: nn.Module,
    rgb: np.ndarray,
    camera: Camera,
    device: torch.device,
) -> np.ndarray:
    """Unit normals [H, W, 3] float32 in our camera axes of an image.

    The image is resampled to 480x480, the network is told this camera's own intrinsics (not the 60 degrees that it assumes by
    itself), its normals are enlarged bilinearly and normalised again.

    Args:
        network: from :func:`load_dsine`.
        rgb: [H, W, 3] uint8, over black.
        camera: the view, of the image's size.
        device: where the network is.
    """
    if rgb.shape != (camera.height, camera.width, 3):
        raise ValueError(f"image of shape {rgb.shape}, camera {camera.name!r} has {(camera.height, camera.width)} pixels")
    small = cv2.resize(rgb, (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    colours = (small - np.float32(COLOUR_MEAN)) / np.float32(COLOUR_STD)
    intrinsics = camera.resized(INPUT_SIZE, INPUT_SIZE).K
    intrinsics[:2, 2] -= 0.5
    x = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None].to(device)
    found = network(x, intrins=torch.from_numpy(intrinsics).to(device, torch.float32)[None])[-1][:, :3].float()
    large = F.interpolate(found, size=rgb.shape[:2], mode="bilinear", align_corners=False)
    return -F.normalize(large, dim=1)[0].permute(1, 2, 0).cpu().numpy()
