"""Stage 09: a UNet trained on each degradation, and networks of stage 06, applied to all degradations.

``16bit`` and ``8bit`` are the real low-resolution render; the others are computed from the high-resolution render as the
published study did, with two controls that it lacked. What the drops are made of is said by
:mod:`splathead.report.study.causes`, which the tables use as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from splathead.ablations.networks import Ablation, train_networks, training_lines, unet_job
from splathead.ablations.scoring import score_trials
from splathead.ablations.summary import blocks, matrix_lines
from splathead.config import Config
from splathead.evaluation.live import Trial, network_trials, study_networks, trained_weights
from splathead.evaluation.views import Method
from splathead.results import ResultRow
from splathead.training.jobs import is_trained

EXPERIMENT = "cross_degradation"
METRIC = "psnr"
MIXTURE = "mixture"
"""``degradation_train`` of a network that has seen several"""


def run_stage(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Train what is not trained, score every network on every degradation, write ``cross_degradation.csv``.

    Networks of stage 06 (``config.cross.networks``) are scored on the targets that they were trained for. One that works with
    and without guides is two methods, as there. Their rows' ``degradation_train`` is their input, or ``mixture``.

    Args:
        config: ``config.cross``, and ``config.train`` for the trainings.
        jobs: processes that score.
        force: train and score again what is finished (networks of stage 06 are used as they are).
        limit: use the first N subjects of each split only; 0 = all.

    Raises RuntimeError when stage 05 is not finished or stage 06 has not trained one of the networks, ValueError when there is
    nothing to train on or to score, TimeLimitReached when ``--time_limit`` ended it.
    """
    ablation = Ablation(config, 9, jobs, force, limit)
    degradations, targets = config.cross.degradations, config.cross.targets
    trainings = {(t, d): unet_job(config, 9, t, d) for t in targets for d in degradations} if config.cross.train else {}
    ablation.upstream()
    given = _given(ablation)
    ablation.record(done=False)
    weights = train_networks(ablation, list(trainings.values())) if trainings else {}
    trials = [
        Trial.of_network(_network(config, target, trained, tested), weights[job.name])
        for (target, trained), job in trainings.items()
        if job.name in weights
        for tested in degradations
    ]
    trials += given
    trials += [Trial(Method(f"bilinear@{name}", "bilinear", name, degradation_test=name)) for name in degradations]
    rows = score_trials(ablation, EXPERIMENT, trials, targets)
    ablation.record(done=True)
    path = ablation.folder / f"{EXPERIMENT}.csv"
    return [*training_lines(ablation, weights), *cross_lines(rows), "", f"{ablation.name}: {len(rows)} rows in {path}"]


def _network(config: Config, target: str, trained: str, tested: str) -> Method:
    return Method(
        f"unet-{target}-{trained}@{tested}", "unet", tested, target, config.seed, degradation_train=trained,
        degradation_test=tested,
    )  # fmt: skip


def _given(ablation: Ablation) -> list[Trial]:
    """Trials of ``config.cross.networks`` as stage 06 trained them, without and with their guides."""
    config, trials = ablation.config, []
    for name in config.cross.networks:
        for job in study_networks(config, name, config.cross.targets, "cross.networks"):
            if config.finished_only and not is_trained(job):
                ablation.missing.append(job.name)
                continue
            train, weights = job.config.train, trained_weights(job, "cross.networks")
            trained = MIXTURE if train.lr_mixture else train.lr_input
            if name == "unet" and config.cross.train and trained in config.cross.degradations:
                raise ValueError(f"cross.networks: 'unet' on {trained} input is what cross.train trains; leave out one of both")
            for tested in config.cross.degradations:
                trials += network_trials(job, weights, tested, degradation_train=trained, degradation_test=tested)
    return trials


def cross_lines(rows: Sequence[ResultRow]) -> list[str]:
    """For the terminal: interior PSNR of every network (line) on every degradation (column), then the causes of the drops."""
    from splathead.report.data import Results
    from splathead.report.study.causes import causes

    lines = []
    for title, found in blocks(rows, METRIC):
        lines += ["", f"interior PSNR in dB, {title}; trained on (line), applied to (column)"]
        lines += matrix_lines(found, line=lambda row: row.degradation_train if row.method == "unet" else row.method)
        for cause in causes(Results(tuple(row for row in found if row.method == "unet"))):
            share = "" if cause.share is None else f", {cause.share:.2f} dB of the total"
            lines.append(f"  drop {cause.drop:6.2f} dB{share}: {cause.label}")
    return lines
