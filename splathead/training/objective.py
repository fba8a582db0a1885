"""What a training minimises, step by step, and what chooses the weights that are kept."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from splathead.config import TrainConfig
from splathead.training.data import Batch, Crop, PairSet
from splathead.training.losses import depth_loss, laplace_loss, normal_loss


def cosine_rate(rate: float, step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """Learning rate of an optimiser step: cosine from ``rate`` to 0 over the training (the study's schedule, per step).

    ``warmup_steps``: the first steps rise linearly to it. Adam's first steps move every weight by about the whole rate,
    whatever its gradient; in a network without normalisation the activations can leave half precision before the moments
    have settled.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return 0.5 * rate * warmup * (1.0 + math.cos(math.pi * step / total_steps))


@torch.no_grad()
def validation_rmse_mm(network: nn.Module, pairs: PairSet, views: int = 0) -> float:
    """Mean over views of the interior RMSE against the target, in mm, in full frames and full precision.

    ``views``: use this many, spread evenly; 0 = all. Views without interior pixels are left out; none at all is an error.
    """
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(views or len(pairs), len(pairs))).round().astype(int))
    network.eval()
    values = []
    for index in map(int, chosen):
        pair = pairs.pairs[index]
        if pair.interior is None or not pair.interior.any():
            continue
        batch = pairs.batch([Crop(index, 0, 0, flip=False)], 0)
        error = (predict(network, batch) - batch.target01)[0, 0]
        inside = error[torch.from_numpy(pair.interior).to(error.device)].double()
        values.append(math.sqrt(float(inside.square().mean())) * pair.lr.range)
    if not values:
        raise ValueError(f"validation: none of the {len(chosen)} views has interior pixels")
    return float(np.mean(values))


def predict(model: nn.Module, batch: Batch, **options: bool) -> Tensor | tuple[Tensor, Tensor]:
    """The network's depth [B, 1, H, W] for a batch, and what else ``options`` ask it for."""
    inputs = (batch.lr_depth01,) if batch.guides is None else (batch.lr_depth01, batch.guides)
    return model(*inputs, **options)


def forward_loss(model: nn.Module, batch: Batch, settings: TrainConfig, predicts_scale: bool = False) -> Tensor:
    """Loss of a batch, with the normals' where it has any and the predicted error's where the network does so; a function of
    its own so that it can be compiled."""
    options = {"with_normals": True} if batch.normals is not None else {"with_scale": True} if predicts_scale else {}
    found = predict(model, batch, **options)
    depth, extra = found if options else (found, None)
    loss = depth_loss(
        depth, batch.target01, batch.mask, gradient_weight=settings.gradient_loss_weight,
        gradient_strides=settings.gradient_strides, scale=settings.loss_scale,
    )  # fmt: skip
    if batch.normals is not None:
        return loss + settings.normal_loss_weight * normal_loss(extra, batch.normals, batch.mask)
    if predicts_scale:
        return loss + settings.scale_loss_weight * laplace_loss(depth - batch.target01, extra, batch.mask)
    return loss
