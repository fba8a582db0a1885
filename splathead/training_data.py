"""Training pairs, resident in memory (or on the GPU) as 16-bit codes, and the plan of crops of each epoch.

A pair is one view: extended low-resolution depth, normalised to 0..1 over near..far of its own code, and the
target's 16-bit code with the affine map that takes it into the same normalisation. Targets may leave 0..1: the
true surface lies in front of splat depth. Guides and normals of the view may come with it.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from splathead.guides import GUIDE_CHANNELS, MIRRORED, guide_tensor
from splathead.images import DepthCode, DepthMap
from splathead.maps.fill import extend_depth
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models.interpolation import upsample_mask

BOX_MARGIN_PX = 16
"""Stored frames are cut to the target's bounding box and this margin: guides end a little outside of the mask."""
NORMALS = "normal_target"


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
    guides: Mapping[str, np.ndarray] = field(default_factory=dict)
    """guide -> [h', w'] or [h', w', C] as stored, cut to ``box``; see :mod:`splathead.guides`"""
    normals: np.ndarray | None = None
    """[h', w', 3] int8 normals to learn, times 127, 0 = unknown, cut to ``box``"""

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the target with a margin: what is kept of guides and normals, for training in little memory."""
        return _target_box(self.code)

    @property
    def scale(self) -> int:
        """Super-resolution factor."""
        return self.code.shape[0] // self.lr.mask.shape[0]


def make_pair(
    name: str,
    lr: DepthMap,
    target: DepthMap,
    zones: ZoneSettings | None = None,
    *,
    guides: Mapping[str, np.ndarray] | None = None,
    normals: np.ndarray | None = None,
) -> TrainingPair:
    """Build a pair from a low-resolution input and a 16-bit target of the same view, and its guides and normals.

    The target is used where both it and the (upsampled) input have a surface: exactly the pixels that a
    prediction will cover. ``zones``: also compute the interior zone for validation.
    """
    stored = DepthCode(target.encoding.encode(target.depth, target.mask), target.encoding, target.camera, target.source)
    return make_pair_of_code(name, lr, stored, zones, guides=guides, normals=normals)


def make_pair_of_code(
    name: str,
    lr: DepthMap,
    target: DepthCode,
    zones: ZoneSettings | None = None,
    *,
    guides: Mapping[str, np.ndarray] | None = None,
    normals: np.ndarray | None = None,
) -> TrainingPair:
    """:func:`make_pair` of a target as stored: a tenth of the time, as nothing is decoded."""
    scale = _scale_of(name, lr, target.code)
    if lr.encoding.unit != target.encoding.unit:
        raise ValueError(f"{name}: input in {lr.encoding.unit}, target in {target.encoding.unit}, expected the same unit")
    if target.encoding.bits != 16:
        raise ValueError(f"{name}: target with {target.encoding.bits} bits, expected 16")
    prepared = prepare_input(lr)
    code = np.where(upsample_mask(lr.mask, scale), target.code, np.uint16(0))
    if not code.any():
        raise ValueError(f"{name}: input and target have no pixel in common")
    gain = target.encoding.lsb / prepared.range
    offset = (target.encoding.near - prepared.near) / prepared.range - gain
    interior = compute_zones(target.encoding.decode(target.code)[0], zones).interior & (code > 0) if zones else None
    for what, array in {**(guides or {}), **({} if normals is None else {"normals": normals})}.items():
        if array.shape[:2] != code.shape:
            raise ValueError(f"{name}: {what} of shape {array.shape}, expected {code.shape} pixels as the target")
    box = _target_box(code)
    cut = {what: np.ascontiguousarray(array[box]) for what, array in (guides or {}).items()}
    normals = None if normals is None else np.ascontiguousarray(normals[box])
    return TrainingPair(name, prepared, code, gain, offset, interior, cut, normals)


def _target_box(code: np.ndarray) -> tuple[slice, slice]:
    used = code > 0
    indices = (np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0)))
    return tuple(slice(max(0, int(i[0]) - BOX_MARGIN_PX), int(i[-1]) + 1 + BOX_MARGIN_PX) for i in indices)


def _scale_of(name: str, lr: DepthMap, target: np.ndarray) -> int:
    (h, w), (height, width) = lr.depth.shape, target.shape
    scale = height // h
    if scale < 1 or (h * scale, w * scale) != (height, width):
        raise ValueError(f"{name}: input of {w}x{h} and target of {width}x{height} pixels, expected a whole factor")
    return scale


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
        self.on_device = self.device.type == "cpu" or total <= self.resident_bytes
        self.nbytes = total
        self._corner = [corner for _, corner in stored]
        self._maps = [{name: torch.from_numpy(array) for name, array in maps.items()} for maps, _ in stored]
        self._lr = [torch.from_numpy(pair.lr.depth01) for pair in self.pairs]
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
