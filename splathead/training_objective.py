"""What a training minimises, step by step, and what chooses the weights that are kept."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from splathead.losses import depth_loss, normal_loss
from splathead.training_data import Batch, Crop, PairSet


def cosine_rate(rate: float, step: int, total_steps: int) -> float:
    """Learning rate of an optimiser step: cosine from ``rate`` to 0 over the training (the study's schedule, per step)."""
    return 0.5 * rate * (1.0 + math.cos(math.pi * step / total_steps))


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


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """The network's depth [B, 1, H, W] for a batch."""
    return model(batch.lr_depth01) if batch.guides is None else model(batch.lr_depth01, batch.guides)


def forward_loss(model: nn.Module, batch: Batch, gradient_weight: float, scale: str, normal_weight: float) -> Tensor:
    """Loss of a batch, with the normals' where it has any; a function of its own so that it can be compiled."""
    if batch.normals is None:
        return depth_loss(predict(model, batch), batch.target01, batch.mask, gradient_weight=gradient_weight, scale=scale)
    depth, normals = model(batch.lr_depth01, with_normals=True)
    loss = depth_loss(depth, batch.target01, batch.mask, gradient_weight=gradient_weight, scale=scale)
    return loss + normal_weight * normal_loss(normals, batch.normals, batch.mask)
