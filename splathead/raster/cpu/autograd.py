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
from splathead.raster.cpu.layout import (
    CHANNEL_COUNTS,
    EXTENT_X,
    EXTENT_Y,
    GRAD_LINE,
    RECORD,
    TILE,
    Frame,
    GaussianArrays,
    ParameterGrads,
    Splats,
    TileEnds,
    TileLists,
    View,
)
from splathead.raster.cpu.parallel import run_shared
from splathead.raster.cpu.project import GAUSSIANS_PER_ITEM, project
from splathead.raster.cpu.project_backward import project_backward
from splathead.raster.interface import JACOBIAN_MARGIN, RasterSettings

_MAX_PAIRS = 2**31 - 1
_MAX_SPLATS_PER_TILE = 2**24  # positions in a tile's list are kept as float32


def view_of(camera: Camera, settings: RasterSettings) -> View:
    """The camera as the projection kernels read it."""
    pose = np.concatenate([camera.rotation.ravel(), camera.translation])
    margin_x, margin_y = JACOBIAN_MARGIN * camera.width, JACOBIAN_MARGIN * camera.height
    lens = [
        camera.fx, camera.fy, camera.cx, camera.cy,
        -(camera.cx + margin_x) / camera.fx, (camera.width - camera.cx + margin_x) / camera.fx,
        -(camera.cy + margin_y) / camera.fy, (camera.height - camera.cy + margin_y) / camera.fy,
        settings.dilation,
    ]  # fmt: skip
    lens = np.array(lens, dtype=np.float32)
    return View(pose, lens, float(settings.near), bool(settings.antialiased), camera.width, camera.height)


@dataclass
class SplattedView:
    """One view's projected splats and their order: everything that compositing and its gradient share.

    Every array belongs to this view alone, so that a later forward pass cannot disturb a pending backward.
    """

    gaussians: GaussianArrays
    view: View
    splats: Splats
    lists: TileLists
    splat_slots: np.ndarray  # [N + 1] int64

    @classmethod
    def build(
        cls, gaussians: GaussianArrays, features: np.ndarray, offsets: np.ndarray, camera: Camera, settings: RasterSettings
    ) -> SplattedView:
        """Project, sort by depth and deal to tiles; ``offsets`` [N or 0, 2] px moves the projected centres."""
        count, view = len(features), view_of(camera, settings)
        records, depths = np.empty((count, RECORD), np.float32), np.empty(count, np.float32)
        splats = Splats(records, depths, np.empty((count, 4), np.int16), np.empty(count, np.int32))
        run_shared(project, _gaussian_items(count), gaussians, features, offsets, view, splats)
        pairs = int(splats.tile_counts.sum(dtype=np.int64))
        if pairs > _MAX_PAIRS:
            raise ValueError(f"{count} Gaussians touch {pairs} tiles in all, more than {_MAX_PAIRS}: they are far too large")
        tiles_x, tiles_y = -(-camera.width // TILE), -(-camera.height // TILE)
        starts, splat_slots = np.empty(tiles_x * tiles_y + 1, np.int64), np.empty(count + 1, np.int64)
        order, pair_arrays = np.empty(tiles_x * tiles_y, np.int64), (np.empty(pairs, np.int32), np.empty(pairs, np.int32))
        lists = TileLists(tiles_x, order, starts, *pair_arrays)
        bin_into_tiles(sort_by_depth(splats), splats, lists, splat_slots)
        lengths = np.diff(starts)
        if int(lengths.max()) > _MAX_SPLATS_PER_TILE:
            raise ValueError(f"more than {_MAX_SPLATS_PER_TILE} splats in one {TILE}x{TILE} px tile")
        order[:] = np.argsort(-lengths, kind="stable")
        return cls(gaussians, view, splats, lists, splat_slots)

    def radii(self) -> np.ndarray:
        """Half extent in px of each splat's box, 0 where culled."""
        extent = np.maximum(self.splats.records[:, EXTENT_X], self.splats.records[:, EXTENT_Y])
        return np.where(self.splats.tile_counts > 0, extent, np.float32(0.0))


def _gaussian_items(count: int) -> int:
    return -(-count // GAUSSIANS_PER_ITEM)


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
        gaussians = GaussianArrays(*(_array(t) for t in (means, log_scales, quaternions, opacity_logits)))
        offset_array = np.empty((0, 2), np.float32) if offsets is None else _array(offsets)
        image = torch.empty(features.shape[1], camera.height, camera.width)
        alpha = torch.empty(camera.height, camera.width)
        with compiling(f"forward{len(channels)}"):
            splatted = SplattedView.build(gaussians, _array(features), offset_array, camera, settings)
            tiles = len(splatted.lists.order)
            pixels = (np.empty(tiles * TILE**2, np.float32), np.empty(tiles * TILE**2, np.float32))
            ends, frame = TileEnds(*pixels, np.empty(tiles, np.int64)), Frame(image.numpy(), alpha.numpy())
            run_shared(composite, tiles, splatted.lists, splatted.splats.records, frame, ends, channels)
        ctx.splatted, ctx.ends, ctx.channels = splatted, ends, channels
        # The parameters are saved only so that torch notices when they are overwritten before backward.
        ctx.save_for_backward(means, log_scales, quaternions, opacity_logits, features)
        radii = torch.from_numpy(splatted.radii())
        ctx.mark_non_differentiable(radii)
        return image, alpha, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_image, grad_alpha, _grad_radii):
        """Gradients of every tensor input."""
        inputs = ctx.saved_tensors
        splatted: SplattedView = ctx.splatted
        lists, records, count = splatted.lists, splatted.splats.records, len(inputs[0])
        pair_grads = np.empty(len(lists.pair_splats) * GRAD_LINE, np.float32)
        grads = [torch.empty(t.shape) for t in inputs] + [torch.empty(count, 2)]
        frame_grad = Frame(_array(grad_image), _array(grad_alpha))
        with compiling(f"backward{len(ctx.channels)}"):
            run_shared(composite_backward, len(lists.order), lists, records, ctx.ends, frame_grad, pair_grads, ctx.channels)
            sources = (splatted.gaussians, splatted.view, splatted.splat_slots, pair_grads)
            run_shared(project_backward, _gaussian_items(count), *sources, ParameterGrads(*(grad.numpy() for grad in grads)))
        wanted = (grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad[:6], strict=True))
        return *wanted, None, None


def rasterize_median_depth(gaussians: GaussianArrays, camera: Camera, settings: RasterSettings) -> np.ndarray:
    """Median depth [H, W]; see :func:`splathead.raster.interface.median_depth`."""
    image = np.empty((camera.height, camera.width), np.float32)
    with compiling("median"):
        no_features = np.empty((len(gaussians.means), 0), np.float32)
        splatted = SplattedView.build(gaussians, no_features, np.empty((0, 2), np.float32), camera, settings)
        run_shared(median_depth, len(splatted.lists.order), splatted.lists, splatted.splats, image)
    return image
