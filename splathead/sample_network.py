"""A trained network as stage 06 applies it: to samples of a run, whose inputs and guides it reads itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.devices import compute_device
from splathead.images import DepthMap
from splathead.maps.view_maps import load_guide_maps
from splathead.prediction import TrainedNetwork, load_input, load_network, network_at_scale, scale_factor
from splathead.samples import Sample


@dataclass(frozen=True)
class SampleNetwork:
    """Called with a sample, it predicts the sample's view; it can also tell its error and be given another input."""

    config: Config
    weights: Path
    network: TrainedNetwork
    guided: bool

    @classmethod
    def load(cls, config: Config, weights: Path, *, guided: bool) -> SampleNetwork:
        """With the weights of a file, on the configured device; ``guided``: with the maps of the view that it takes."""
        return cls(config, weights, load_network(weights, compute_device(config.device)), guided)

    def __call__(self, sample: Sample) -> DepthMap:
        return self.predict(sample, self.load_input(sample))

    @property
    def predicts_error(self) -> bool:
        """Whether :meth:`error` can be asked."""
        return self.network.predicts_error

    def load_input(self, sample: Sample) -> DepthMap:
        """The sample's low-resolution input, of the kind that the network was trained on."""
        return load_input(self.config, sample, self.network.info["lr_input"])

    def predict(self, sample: Sample, lr: DepthMap) -> DepthMap:
        """Prediction of a sample's view from the low-resolution input ``lr``."""
        return self._at_scale_of(sample, lr).predict(lr, self._maps(sample))

    def error(self, sample: Sample) -> np.ndarray:
        """Expected absolute error [H, W] float32 in mm of :meth:`__call__`, 0 outside of the prediction's mask."""
        lr = self.load_input(sample)
        return self._at_scale_of(sample, lr).predict_with_error(lr, self._maps(sample))[1]

    def _maps(self, sample: Sample) -> dict[str, np.ndarray] | None:
        return load_guide_maps(self.config, sample, self.network.guides) if self.guided else None

    def _at_scale_of(self, sample: Sample, lr: DepthMap) -> TrainedNetwork:
        return network_at_scale(self.network, scale_factor(self.config, sample, lr), self.weights, sample)
