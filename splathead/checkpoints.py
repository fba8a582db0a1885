"""Checkpoints and weights: safetensors and JSON, never pickle; written atomically, verified when read.

A *checkpoint* is one file: tensors, and everything else as JSON in the safetensors header, so that a single
rename makes all of it visible at once. *Weights* are ``<name>.safetensors`` and ``<name>.json``, which says
what network they belong to and holds their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from splathead.images import atomic_path, write_json

CHECKPOINT_SCHEMA = 1
MODEL_SCHEMA = 1


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Write tensors and a JSON-ready ``state`` as one file, atomically."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"schema": str(CHECKPOINT_SCHEMA), "sha256": _tensor_digest(plain), "state": json.dumps(state, allow_nan=False)}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata=header)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors (on the CPU) and state of :func:`save_checkpoint`; a damaged or foreign file is a clear error."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged checkpoint ({error}); delete it to train from the start") from error
    if header.get("schema") != str(CHECKPOINT_SCHEMA):
        raise ValueError(f"{path}: checkpoint schema {header.get('schema')!r}, this version reads {CHECKPOINT_SCHEMA}")
    if header.get("sha256") != _tensor_digest(tensors):
        raise ValueError(f"{path}: damaged checkpoint (tensors do not match their SHA-256); delete it to train from the start")
    return tensors, json.loads(header["state"])


def _tensor_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_weights(path: Path, weights: dict[str, Tensor], info: dict) -> str:
    """Write ``path`` (.safetensors) and its JSON with ``info``, schema and SHA-256; returns the SHA-256."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    write_json(Path(path).with_suffix(".json"), {"schema": MODEL_SCHEMA, "sha256": digest, **info})
    return digest


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Weights and info of :func:`save_weights`. Errors: a file is missing, damaged, or the two do not belong together."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    side = path.with_suffix(".json")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights must be a .safetensors file (pickled weights are not loaded)")
    for file in (path, side):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; weights are a .safetensors and a .json of the same name")
    data = path.read_bytes()
    try:
        info = json.loads(side.read_text())
        schema, recorded = info.get("schema"), info["sha256"]
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{side}: not a description of weights: {error}") from error
    if schema != MODEL_SCHEMA:
        raise ValueError(f"{side}: schema {schema!r}, this version reads {MODEL_SCHEMA}")
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise ValueError(f"{path}: SHA-256 {found[:16]}..., expected {recorded[:16]}... of {side.name}: damaged or mixed up")
    try:
        return load(data), info
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
