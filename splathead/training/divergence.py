"""The losses of a training, counted without waiting for the GPU; too many that are not finite end it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from splathead.config import TrainConfig
from splathead.training.data import Crop, PairSet
from splathead.training.state import TrainingError, TrainingState

MAX_OVERFLOW_SHARE = 0.5
"""fp16: share of non-finite losses between two looks that ends the training (GradScaler skips single ones)"""


class LossWatch:
    """Sums the losses of one training on its device; :meth:`collect` looks at them and adds them to its progress."""

    def __init__(self, state: TrainingState, pairs: PairSet, settings: TrainConfig, *, amp: bool) -> None:
        self.state, self.pairs, self.learning_rate, self.amp = state, pairs, settings.learning_rate, amp
        self._reset()

    def _reset(self) -> None:
        self._sum, self._finite = torch.zeros(2, device=self.state.device)
        self._count = 0

    def count(self, loss: Tensor, crops: Sequence[Crop]) -> None:
        """Add the loss of a batch; on a CPU one that is not finite is looked at right away."""
        finite = torch.isfinite(loss)
        self._sum += torch.where(finite, loss, 0.0)
        self._finite += finite
        self._count += 1
        if self.state.device.type == "cpu" and not finite:  # on a GPU asking would mean waiting
            self.collect([crops])

    def collect(self, group: Sequence[Sequence[Crop]]) -> None:
        """Add the losses since the last look to the epoch's; too many non-finite ones are a :class:`TrainingError`.

        ``group``: the crops of the last batches, which the error names.
        """
        progress, finite = self.state.progress, int(self._finite.item())
        bad = self._count - finite
        if bad > (MAX_OVERFLOW_SHARE * self._count if self.amp else 0):
            names = sorted({self.pairs.pairs[crop.index].name for crops in group for crop in crops})
            raise TrainingError(
                f"training diverged: {bad} of the last {self._count} losses are not finite at optimiser step "
                f"{progress.step} (last views: {', '.join(names[:4])}); the last checkpoint is intact. Lower "
                f"train.learning_rate (now {self.learning_rate:g}){' or train without --amp' if self.amp else ''}"
            )
        progress.loss_sum += float(self._sum.item())
        progress.loss_count += finite
        self._reset()
