"""Training pairs as tensors, resident in memory (or on the GPU) as 16-bit codes, and the plan of crops of each epoch."""

from __future__ import annotations

import copy
import functools
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from splathead.guides import GUIDE_CHANNELS, MIRRORED, guide_tensor
from splathead.training.pairs import TrainingPair

NORMALS = "normal_target"


@dataclass(frozen=True)
class Crop:
    """A training patch: which pair, its top-left corner in low-resolution pixels, mirrored or not."""

    index: int
    top: int
    left: int
    flip: bool


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step, on the training device."""

    lr_depth01: Tensor  # [B, 1, h, w] float32
    target01: Tensor  # [B, 1, H, W] float32
    mask: Tensor  # [B, 1, H, W] float32, 0 or 1
    guides: Tensor | None = None  # [B, C, H, W] float32
    normals: Tensor | None = None  # [B, 3, H, W] float32, unit or 0


@dataclass
class PairSet:
    """Pairs as tensors: on ``device``, or in host memory when they are too large for it."""

    pairs: Sequence[TrainingPair] = field(repr=False)
    device: torch.device
    resident_bytes: int = 2**62
    """keep the data on the device up to this many bytes"""
    scale: int = field(init=False)
    on_device: bool = field(init=False)
    nbytes: int = field(init=False)
    """of the stored data"""

    def __post_init__(self) -> None:
        scales = {pair.scale for pair in self.pairs}
        if len(scales) != 1:
            raise ValueError(f"{len(self.pairs)} pairs with scale factors {sorted(scales)}, expected one scale factor")
        self.scale = scales.pop()
        self._lock = threading.Lock()  # the next batch may be in the making when the data moves
        stored = [_stored_maps(pair) for pair in self.pairs]
        total = sum(array.nbytes for maps, _ in stored for array in maps.values())
        total += sum(pair.lr.depth01.nbytes for pair in self.pairs)
        self.nbytes = total
        self._corner = [corner for _, corner in stored]
        self._maps = [{name: torch.from_numpy(array) for name, array in maps.items()} for maps, _ in stored]
        self._lr = [torch.from_numpy(pair.lr.depth01) for pair in self.pairs]
        self._settle()

    def on(self, device: torch.device, resident_bytes: int) -> PairSet:
        """The same pairs for another device, without another copy in host memory. Of a set that lies there."""
        other = copy.copy(self)
        other.device, other.resident_bytes, other._lock = device, resident_bytes, threading.Lock()
        other._settle()
        return other

    def _settle(self) -> None:
        """To the device, or to host memory where the data are too large for it."""
        self.on_device = self.device.type == "cpu" or self.nbytes <= self.resident_bytes
        self._place(self.device if self.on_device else torch.device("cpu"))

    def move_to_host(self) -> None:
        """Keep the data in host memory from now on; batches are the same."""
        with self._lock:
            self.on_device = self.device.type == "cpu"
            self._place(torch.device("cpu"))

    def _place(self, place: torch.device) -> None:
        self._maps = [{name: tensor.to(place) for name, tensor in maps.items()} for maps in self._maps]
        self._lr = [tensor.to(place) for tensor in self._lr]

    def __len__(self) -> int:
        return len(self.pairs)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, inputs, targets, guides and normals."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            digest.update(f"{pair.name} {pair.code.shape} {pair.gain!r} {pair.offset!r}".encode())
            for array in (pair.lr.depth01, pair.code, *pair.guides.values(), pair.normals):
                if array is not None:
                    digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def batch(self, crops: Sequence[Crop], size: int) -> Batch:
        """Assemble crops of ``size`` high-resolution pixels (0 = full frames) on the device, without waiting for it; any thread
        may ask."""
        with self._lock:
            return self._batch(crops, size)

    def _batch(self, crops: Sequence[Crop], size: int) -> Batch:
        lr = torch.stack([self._low(crop, size // self.scale) for crop in crops])
        maps = {name: self._windows(name, crops, size) for name in self._maps[crops[0].index]}
        if not self.on_device:  # pinned, of the small types; a copy from pageable memory would wait
            lr = lr.pin_memory().to(self.device, non_blocking=True)
            maps = {name: stack.to(self.device, non_blocking=True) for name, stack in maps.items()}
        code = maps.pop("code").to(torch.float32)
        target = torch.stack([values * p.gain + p.offset for values, p in zip(code, (self.pairs[c.index] for c in crops))])
        normals = maps.pop(NORMALS, None)
        parts = {
            "lr": lr, "target": target, "mask": (code > 0).to(torch.float32),
            "guides": torch.cat([guide_tensor(stack, name) for name, stack in maps.items()], dim=1) if maps else None,
            "normals": None if normals is None else guide_tensor(normals, "normal"),
        }  # fmt: skip
        for i, crop in enumerate(crops):
            if crop.flip:
                for name, tensor in parts.items():
                    if tensor is not None:
                        tensor[i] = _mirrored(tensor[i], name, tuple(maps))
        return Batch(parts["lr"][:, None], parts["target"][:, None], parts["mask"][:, None], parts["guides"], parts["normals"])

    def _low(self, crop: Crop, side: int) -> Tensor:
        lr = self._lr[crop.index]
        return lr[crop.top : crop.top + side, crop.left : crop.left + side] if side else lr

    def _windows(self, name: str, crops: Sequence[Crop], size: int) -> Tensor:
        """[B, H, W] or [B, H, W, C] of a stored map, zero outside of its box; pinned where the device must fetch it."""
        first = self._maps[crops[0].index][name]
        height, width = (size, size) if size else self.pairs[crops[0].index].code.shape
        shape = (len(crops), height, width, *first.shape[2:])
        stack = torch.zeros(shape, dtype=first.dtype, device=first.device, pin_memory=not self.on_device)
        for window, crop in zip(stack, crops):
            stored, (y0, x0) = self._maps[crop.index][name], self._corner[crop.index]
            top, left = (crop.top * self.scale - y0, crop.left * self.scale - x0) if size else (-y0, -x0)
            rows, columns = (
                (max(0, start), min(length, start + extent)) for start, length, extent in
                ((top, stored.shape[0], height), (left, stored.shape[1], width))
            )  # fmt: skip
            if rows[0] < rows[1] and columns[0] < columns[1]:
                part = stored[slice(*rows), slice(*columns)]
                window[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = part
        return stack


def _stored_maps(pair: TrainingPair) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Maps of a pair cut to its target's box with a margin, and the box's corner (row, column)."""
    box = pair.box
    normals = {} if pair.normals is None else {NORMALS: pair.normals}
    return {"code": np.ascontiguousarray(pair.code[box]), **pair.guides, **normals}, (box[0].start, box[1].start)


def _mirrored(tensor: Tensor, name: str, guides: tuple[str, ...]) -> Tensor:
    """A map [..., H, W] mirrored left to right; normals also change the sign of their x."""
    mirrored = tensor.flip(-1)
    first = 0
    for guide in guides if name == "guides" else ("normal",) if name == "normals" else ():
        if guide in MIRRORED:
            mirrored[first] = -mirrored[first]
        first += GUIDE_CHANNELS[guide]
    return mirrored


def epoch_plan(
    pairs: PairSet,
    *,
    epoch: int,
    seed: int,
    batch_size: int,
    crop: int = 0,
    crops_per_view: int = 1,
    processes: int = 1,
    batches: int = 0,
) -> list[list[Crop]]:
    """Batches of one epoch, drawn from (seed, epoch) alone, so that a resumed run sees what it would have seen.

    Every view occurs ``crops_per_view`` times, in random order, mirrored with probability 1/2; crops are centred on
    random pixels of the input's mask. All batches are full, and their number is a multiple of ``processes``: the
    order's start is repeated at the end where needed. ``batches``: make so many instead, from as many permutations of
    the views as that takes.
    """
    rng = np.random.default_rng([seed, epoch])
    if batches:
        count = batches * batch_size
        order = np.concatenate([rng.permutation(len(pairs)) for _ in range(-(-count // len(pairs)))])[:count]
    else:
        order = rng.permutation(np.repeat(np.arange(len(pairs)), max(1, crops_per_view)))
        order = np.resize(order, -(-len(order) // (batch_size * processes)) * batch_size * processes)
    side = crop // pairs.scale
    crops = [_draw_crop(int(index), pairs.pairs[index].lr.mask, side, rng) for index in order]
    return [crops[start : start + batch_size] for start in range(0, len(crops), batch_size)]


def _draw_crop(index: int, mask: np.ndarray, side: int, rng: np.random.Generator) -> Crop:
    flip = bool(rng.random() < 0.5)
    if not side:
        return Crop(index, 0, 0, flip)
    inside = np.flatnonzero(mask)
    row, column = np.divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])
    top, left = (int(np.clip(c - side // 2, 0, n - side)) for c, n in zip((row, column), mask.shape))
    return Crop(index, top, left, flip)


def check_crop(pairs: PairSet, crop: int) -> None:
    """Check that crops of ``crop`` pixels (0 = full frames) fit the frames and keep the pixel grids aligned."""
    side = min(min(pair.code.shape) for pair in pairs.pairs)
    if crop and (crop % pairs.scale or not 0 < crop <= side):
        raise ValueError(f"train.crop: {crop}, expected a multiple of {pairs.scale} up to the frames' {side} pixels, or 0")
    if not crop and len({pair.code.shape for pair in pairs.pairs}) > 1:
        raise ValueError("frames of different sizes need crops: set train.crop")
