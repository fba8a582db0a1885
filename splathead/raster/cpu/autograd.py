"""The kernels as one differentiable torch operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.raster.cpu.binning import bin_into_tiles, sort_by_depth
from splathead.raster.cpu.composite import composite, median_depth
from splathead.raster.cpu.composite_backward import composite_backward
from splathead.raster.cpu.jit import compiling
from splathead.raster.cpu.layout import CHANNEL_COUNTS, EXTENT_X, EXTENT_Y, GRAD_LINE, RECORD, TILE
from splathead.raster.cpu.parallel import run_shared
from splathead.raster.cpu.project import GAUSSIANS_PER_ITEM, project
from splathead.raster.cpu.project_backward import project_backward
from splathead.raster.interface import JACOBIAN_MARGIN, RasterSettings

_MAX_PAIRS = 2**31 - 1
_MAX_SPLATS_PER_TILE = 2**24  # positions in a tile's list are kept as float32


def camera_arrays(camera: Camera, settings: RasterSettings) -> tuple[np.ndarray, np.ndarray]:
    """``pose`` [12] float64 and ``lens`` [9] float32 as the projection kernels read them."""
    pose = np.concatenate([camera.rotation.ravel(), camera.translation])
    margin_x, margin_y = JACOBIAN_MARGIN * camera.width, JACOBIAN_MARGIN * camera.height
    lens = [
        camera.fx, camera.fy, camera.cx, camera.cy,
        -(camera.cx + margin_x) / camera.fx, (camera.width - camera.cx + margin_x) / camera.fx,
        -(camera.cy + margin_y) / camera.fy, (camera.height - camera.cy + margin_y) / camera.fy,
        settings.dilation,
    ]  # fmt: skip
    return pose, np.array(lens, dtype=np.float32)


@dataclass
class SplatLists:
    """One view's projected splats and their order: everything that compositing and its gradient share.

    Every array belongs to this view alone, so that a later forward pass cannot disturb a pending backward.
    """

    gaussian_arrays: tuple[np.ndarray, ...]  # means, log_scales, quaternions, opacity_logits
    pose: np.ndarray
    lens: np.ndarray
    settings: RasterSettings
    tiles_x: int
    records: np.ndarray  # [N, 16]
    depths: np.ndarray  # [N]
    tile_counts: np.ndarray  # [N] tiles that each splat touches, 0 = culled
    tile_starts: np.ndarray  # [tiles + 1]
    tile_order: np.ndarray  # [tiles] longest list first, so that threads finish together
    pair_splats: np.ndarray  # [pairs]
    pair_slots: np.ndarray  # [pairs]
    splat_slots: np.ndarray  # [N + 1]

    @classmethod
    def build(cls, gaussian_arrays: tuple[np.ndarray, ...], features, offsets, camera: Camera, settings: RasterSettings):
        """Project, sort by depth and deal to tiles; ``offsets`` [N or 0, 2] moves the projected centres."""
        count = len(features)
        pose, lens = camera_arrays(camera, settings)
        records, depths = np.empty((count, RECORD), np.float32), np.empty(count, np.float32)
        rects, tile_counts = np.empty((count, 4), np.int16), np.empty(count, np.int32)
        run_shared(
            project, -(-count // GAUSSIANS_PER_ITEM), *gaussian_arrays, features, offsets, pose, lens, settings.near,
            settings.antialiased, camera.width, camera.height, records, depths, rects, tile_counts,
        )  # fmt: skip
        pairs = int(tile_counts.sum(dtype=np.int64))
        if pairs > _MAX_PAIRS:
            raise ValueError(f"{count} Gaussians touch {pairs} tiles in all, more than {_MAX_PAIRS}: they are far too large")
        tiles_x, tiles_y = -(-camera.width // TILE), -(-camera.height // TILE)
        tile_starts, splat_slots = np.empty(tiles_x * tiles_y + 1, np.int64), np.empty(count + 1, np.int64)
        pair_splats, pair_slots = np.empty(pairs, np.int32), np.empty(pairs, np.int32)
        order = sort_by_depth(depths, tile_counts)
        bin_into_tiles(order, rects, tile_counts, tiles_x, tile_starts, pair_splats, pair_slots, splat_slots)
        if int(np.diff(tile_starts).max()) > _MAX_SPLATS_PER_TILE:
            raise ValueError(f"more than {_MAX_SPLATS_PER_TILE} splats in one {TILE}x{TILE} px tile")
        tile_order = np.argsort(-np.diff(tile_starts), kind="stable")
        return cls(
            gaussian_arrays, pose, lens, settings, tiles_x, records, depths, tile_counts, tile_starts, tile_order,
            pair_splats, pair_slots, splat_slots,
        )  # fmt: skip

    def radii(self) -> np.ndarray:
        """Half extent in px of each splat's box, 0 where culled."""
        extent = np.maximum(self.records[:, EXTENT_X], self.records[:, EXTENT_Y])
        return np.where(self.tile_counts > 0, extent, np.float32(0.0))

    def tile_lists(self) -> tuple:
        """Arguments that every compositing kernel starts with (after its work counter)."""
        return self.tile_order, self.tiles_x, self.tile_starts


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _channel_tuple(count: int) -> tuple[int, ...]:
    """A tuple as long as the smallest compiled channel count that holds ``count`` features."""
    return (0,) * next(size for size in CHANNEL_COUNTS if size >= count)


class Rasterize(torch.autograd.Function):
    """``(means, log_scales, quaternions, opacity_logits, features, offsets) -> image, alpha, radii``, float32 on the CPU."""

    @staticmethod
    def forward(ctx, means, log_scales, quaternions, opacity_logits, features, offsets, camera, settings):
        """At most 8 features; ``offsets`` may be None."""
        channels = _channel_tuple(features.shape[1])
        gaussian_arrays = tuple(_array(t) for t in (means, log_scales, quaternions, opacity_logits))
        offset_array = np.empty((0, 2), np.float32) if offsets is None else _array(offsets)
        image = torch.empty(features.shape[1], camera.height, camera.width)
        alpha = torch.empty(camera.height, camera.width)
        with compiling(f"forward{len(channels)}"):
            lists = SplatLists.build(gaussian_arrays, _array(features), offset_array, camera, settings)
            tiles = len(lists.tile_order)
            transmittance, stops = np.empty(tiles * TILE**2, np.float32), np.empty(tiles * TILE**2, np.float32)
            tile_stops = np.empty(tiles, np.int64)
            run_shared(
                composite, tiles, *lists.tile_lists(), lists.pair_splats, lists.records,
                image.numpy(), alpha.numpy(), transmittance, stops, tile_stops, channels,
            )  # fmt: skip
        ctx.lists, ctx.ends, ctx.channels = lists, (tile_stops, transmittance, stops), channels
        # The parameters are saved only so that torch notices when they are overwritten before backward.
        ctx.save_for_backward(means, log_scales, quaternions, opacity_logits, features)
        radii = torch.from_numpy(lists.radii())
        ctx.mark_non_differentiable(radii)
        return image, alpha, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_image, grad_alpha, _grad_radii):
        """Gradients of every tensor input."""
        *parameters, features = ctx.saved_tensors
        lists: SplatLists = ctx.lists
        tile_stops, transmittance, stops = ctx.ends
        pair_grads = np.empty(len(lists.pair_splats) * GRAD_LINE, np.float32)
        grads = [torch.empty(t.shape) for t in (*parameters, features)]
        grads.append(torch.empty(len(features), 2))
        with compiling(f"backward{len(ctx.channels)}"):
            run_shared(
                composite_backward, len(lists.tile_order), *lists.tile_lists(), tile_stops,
                lists.pair_splats, lists.pair_slots, lists.records, transmittance, stops,
                _array(grad_image), _array(grad_alpha), pair_grads, ctx.channels,
            )  # fmt: skip
            run_shared(
                project_backward, -(-len(features) // GAUSSIANS_PER_ITEM), *lists.gaussian_arrays, lists.pose, lists.lens,
                lists.settings.near, lists.settings.antialiased, lists.splat_slots, pair_grads,
                *(grad.numpy() for grad in grads),
            )  # fmt: skip
        wanted = (grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad[:6], strict=True))
        return *wanted, None, None


def rasterize_median_depth(gaussian_arrays: tuple[np.ndarray, ...], camera: Camera, settings: RasterSettings) -> np.ndarray:
    """Median depth [H, W]; see :func:`splathead.raster.interface.median_depth`."""
    image = np.empty((camera.height, camera.width), np.float32)
    with compiling("median"):
        no_features = np.empty((len(gaussian_arrays[0]), 0), np.float32)
        lists = SplatLists.build(gaussian_arrays, no_features, np.empty((0, 2), np.float32), camera, settings)
        run_shared(
            median_depth, len(lists.tile_order), *lists.tile_lists(), lists.pair_splats, lists.records, lists.depths, image
        )
    return image
