"""Networks that are applied while their results are scored, without files of predictions between."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splathead.checkpoints import load_weights
from splathead.config import Config
from splathead.devices import compute_device
from splathead.evaluation.views import RENDERED, Method
from splathead.prediction import TrainedNetwork, load_network, network_at_scale
from splathead.predictors import methods_of
from splathead.samples import STAGE_NAMES, Sample, stage_folder
from splathead.training.jobs import WEIGHTS_NAME, TrainingJob, is_trained, study_jobs

NETWORKS_HELD = 32


@dataclass(frozen=True)
class Trial:
    """A method applied to one low-resolution input: ``method.lr_input``. Without weights it is bilinear interpolation."""

    method: Method
    weights: Path | None = None
    sha256: str = ""

    @classmethod
    def of_network(cls, method: Method, weights: Path) -> Trial:
        """A trial of trained weights, which are checked."""
        return cls(method, weights, load_weights(weights)[1]["sha256"])


def network_trials(
    job: TrainingJob, weights: Path, lr_input: str, *, degradation_train: str = "", degradation_test: str = RENDERED
) -> list[Trial]:
    """One training of stage 06 applied to one input: two methods where it works without and with its guides."""
    target = job.config.train.target
    return [
        Trial.of_network(
            Method(
                f"{method}-{target}@{degradation_test}", method, lr_input, target, job.config.seed, guided, degradation_train,
                degradation_test,
            ),
            weights,
        )
        for method, guided in methods_of(job.method, job.config.train.model)
    ]  # fmt: skip


def study_networks(config: Config, method: str, targets: Sequence[str], key: str) -> list[TrainingJob]:
    """The training that ``trainings`` has of a method for each target, that of the smallest seed.

    ValueError where none of the targets has one; ``key``, the configuration's field that asks, is for its text.
    """
    jobs = [job for job in study_jobs(config, stage_folder(config, 6)) if job.method == method]
    by_target = {target: [job for job in jobs if job.config.train.target == target] for target in targets}
    found = [min(mine, key=lambda job: job.config.seed) for mine in by_target.values() if mine]
    if not found:
        raise ValueError(f"{key}: {method!r} is no method of trainings on target {' or '.join(targets)}")
    return found


def trained_weights(job: TrainingJob, key: str) -> Path:
    """Weights of a finished training; RuntimeError for one that is not."""
    path = job.folder / WEIGHTS_NAME
    if not is_trained(job) or not path.is_file():
        raise RuntimeError(f"{key}: {path}: {job.name} is not trained; run scripts/{STAGE_NAMES[6]}.py first")
    return path


def held_network(config: Config, weights: Path, sha256: str, sample: Sample, scale: int) -> TrainedNetwork:
    """The network with these weights on the run's device, at a sample's super-resolution factor; loaded once per process.

    ValueError for a network of another factor.
    """
    return network_at_scale(_loaded(weights, sha256, str(compute_device(config.device))), scale, weights, sample)


@functools.lru_cache(maxsize=NETWORKS_HELD)
def _loaded(weights: Path, _sha256: str, device: str) -> TrainedNetwork:
    return load_network(weights, device)
