"""Training pairs, resident in memory (or on the GPU) as 16-bit codes, and the plan of crops of each epoch.

A pair is one view: extended low-resolution depth, normalised to 0..1 over near..far of its own code, and the
target's 16-bit code with the affine map that takes it into the same normalisation. Targets may leave 0..1: the
true surface lies in front of splat depth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splathead.images import DepthMap, load_depth_png
from splathead.maps.fill import extend_depth
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models.interpolation import upsample_mask

LOADER_THREADS = 8


@dataclass(frozen=True)
class LowResolutionInput:
    """What a network sees of one view. depth01: [h, w] float32, extended beyond ``mask`` [h, w] bool."""

    depth01: np.ndarray
    mask: np.ndarray
    near: float
    range: float
    """far - near of the code, in the map's unit"""


def prepare_input(lr: DepthMap) -> LowResolutionInput:
    """Normalise a low-resolution depth map to near..far of its code and extend it beyond its mask."""
    if not lr.mask.any():
        raise ValueError(f"low-resolution depth of {lr.source!r}: empty mask, there is nothing to super-resolve")
    span = lr.encoding.far - lr.encoding.near
    depth01 = np.where(lr.mask, (lr.depth.astype(np.float64) - lr.encoding.near) / span, 0.0)
    return LowResolutionInput(extend_depth(depth01.astype(np.float32), lr.mask), lr.mask, lr.encoding.near, span)


@dataclass(frozen=True)
class TrainingPair:
    """One view to train or validate on."""

    name: str
    lr: LowResolutionInput
    code: np.ndarray
    """[H, W] uint16 target code; 0 = not trained on (no surface, or beyond what the input covers)"""
    gain: float
    offset: float
    """target in the input's normalisation = gain * code + offset"""
    interior: np.ndarray | None = None
    """[H, W] bool zone for validation, where asked for"""

    @property
    def scale(self) -> int:
        """Super-resolution factor."""
        return self.code.shape[0] // self.lr.mask.shape[0]


def make_pair(name: str, lr: DepthMap, target: DepthMap, zones: ZoneSettings | None = None) -> TrainingPair:
    """Build a pair from a low-resolution input and a 16-bit target of the same view.

    The target is used where both it and the (upsampled) input have a surface: exactly the pixels that a
    prediction will cover. ``zones``: also compute the interior zone for validation.
    """
    scale = _scale_of(name, lr, target)
    if lr.encoding.unit != target.encoding.unit:
        raise ValueError(f"{name}: input in {lr.encoding.unit}, target in {target.encoding.unit}, expected the same unit")
    if target.encoding.bits != 16:
        raise ValueError(f"{name}: target with {target.encoding.bits} bits, expected 16")
    prepared = prepare_input(lr)
    used = target.mask & upsample_mask(lr.mask, scale)
    if not used.any():
        raise ValueError(f"{name}: input and target have no pixel in common")
    code = np.where(used, target.encoding.encode(target.depth, target.mask), 0).astype(np.uint16)
    gain = target.encoding.lsb / prepared.range
    offset = (target.encoding.near - prepared.near) / prepared.range - gain
    interior = compute_zones(target.depth, zones).interior & used if zones else None
    return TrainingPair(name, prepared, code, gain, offset, interior)


def _scale_of(name: str, lr: DepthMap, target: DepthMap) -> int:
    (h, w), (height, width) = lr.depth.shape, target.depth.shape
    scale = height // h
    if scale < 1 or (h * scale, w * scale) != (height, width):
        raise ValueError(f"{name}: input of {w}x{h} and target of {width}x{height} pixels, expected a whole factor")
    return scale


def load_pairs(
    folders: Sequence[Path],
    *,
    lr_input: str,
    target: str,
    zones: ZoneSettings | None = None,
) -> list[TrainingPair]:
    """Read pairs from view folders of stage 05.

    Args:
        folders: folders holding ``lr_8bit.png``, ``hr_surface.png`` ... with sidecars.
        lr_input: ``8bit`` or ``16bit``.
        target: ``surface`` or ``render``.
        zones: settings of the interior zone, for validation pairs.
    """

    def load(folder: Path) -> TrainingPair:
        lr, hr = load_depth_png(folder / f"lr_{lr_input}.png"), load_depth_png(folder / f"hr_{target}.png")
        return make_pair("/".join(folder.parts[-3:]), lr, hr, zones)

    with ThreadPoolExecutor(LOADER_THREADS) as pool:
        return list(pool.map(load, map(Path, folders)))


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


@dataclass
class PairSet:
    """Pairs as tensors: on ``device``, or pinned in host memory when they are too large for it."""

    pairs: Sequence[TrainingPair] = field(repr=False)
    device: torch.device
    resident_bytes: int = 2**62
    """keep the data on the device up to this many bytes"""
    scale: int = field(init=False)
    on_device: bool = field(init=False)

    def __post_init__(self) -> None:
        scales = {pair.scale for pair in self.pairs}
        if len(scales) != 1:
            raise ValueError(f"{len(self.pairs)} pairs with scale factors {sorted(scales)}, expected one scale factor")
        self.scale = scales.pop()
        total = sum(pair.code.nbytes + pair.lr.depth01.nbytes for pair in self.pairs)
        self.on_device = self.device.type == "cpu" or total <= self.resident_bytes
        self._lr = [self._place(torch.from_numpy(pair.lr.depth01)) for pair in self.pairs]
        self._code = [self._place(torch.from_numpy(pair.code)) for pair in self.pairs]

    def _place(self, tensor: Tensor) -> Tensor:
        if self.on_device:
            return tensor.to(self.device)
        return tensor.pin_memory()  # so that copies to the device do not wait

    def __len__(self) -> int:
        return len(self.pairs)

    def fingerprint(self) -> str:
        """SHA-256 over names, inputs and targets."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            digest.update(f"{pair.name} {pair.code.shape} {pair.gain!r} {pair.offset!r}".encode())
            digest.update(np.ascontiguousarray(pair.lr.depth01))
            digest.update(np.ascontiguousarray(pair.code))
        return digest.hexdigest()

    def batch(self, crops: Sequence[Crop], size: int) -> Batch:
        """Assemble crops of ``size`` high-resolution pixels (0 = full frames) on the device, without waiting for it."""
        parts = [self._item(crop, size) for crop in crops]
        lr, target, mask = (torch.stack(tensors)[:, None] for tensors in zip(*parts))
        return Batch(lr, target, mask)

    def _item(self, crop: Crop, size: int) -> tuple[Tensor, Tensor, Tensor]:
        pair, side = self.pairs[crop.index], size // self.scale
        lr, code = self._lr[crop.index], self._code[crop.index]
        if size:
            top, left = crop.top * self.scale, crop.left * self.scale
            lr = lr[crop.top : crop.top + side, crop.left : crop.left + side]
            code = code[top : top + size, left : left + size]
        if not self.on_device:
            lr, code = (x.to(self.device, non_blocking=True) for x in (lr, code))
        values = code.to(torch.float32)
        if crop.flip:
            lr, values = lr.flip(-1), values.flip(-1)
        return lr, values * pair.gain + pair.offset, (values > 0).to(torch.float32)


def epoch_plan(
    pairs: PairSet,
    *,
    epoch: int,
    seed: int,
    batch_size: int,
    crop: int = 0,
    crops_per_view: int = 1,
    processes: int = 1,
) -> list[list[Crop]]:
    """Batches of one epoch, drawn from (seed, epoch) alone, so that a resumed run sees what it would have seen.

    Every view occurs ``crops_per_view`` times, in random order, mirrored with probability 1/2; crops are centred on
    random pixels of the input's mask. All batches are full, and their number is a multiple of ``processes``: the
    order's start is repeated at the end where needed.
    """
    rng = np.random.default_rng([seed, epoch])
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
