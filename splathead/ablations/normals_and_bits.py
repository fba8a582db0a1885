"""Stage 10: a normal head supervised with normals from several sources, and the bits of the low-resolution input."""

from __future__ import annotations

from splathead.ablations.networks import NO_NORMALS, Ablation, train_networks, training_lines, unet_job
from splathead.ablations.normal_targets import prepare_normal_targets
from splathead.ablations.scoring import score_trials
from splathead.ablations.summary import blocks, matrix_lines
from splathead.config import Config
from splathead.evaluation.live import Trial
from splathead.evaluation.summary import Column, summary_lines
from splathead.evaluation.views import Method
from splathead.images import atomic_path
from splathead.normals_dsine import find_dsine
from splathead.training.jobs import TrainingJob

NORMALS, BITS = "normals", "bits"
PUBLISHED_TARGET = "render"
"""The published study had no other target: what it compared is trained for this one too, where ``train.target`` is another"""
PUBLISHED_BITS, PUBLISHED_SOURCES = (8, 16), (NO_NORMALS, "splat", "dsine")
DSINE_NOTE = "dsine_not_available.txt"
COLUMNS = (Column("rmse", "interior"), Column("normal_error", "interior"), Column("psnr", "interior"))


def run_stage(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Train what is not trained, score it, write ``normals.csv`` and ``bits.csv``.

    Args:
        config: ``config.ablations``, and ``config.train`` for the trainings.
        jobs: processes that prepare normals and score.
        force: make again what is finished (networks of stage 06 are used as they are).
        limit: use the first N subjects of each split only; 0 = all.

    Raises RuntimeError when stage 04 or 05 is not finished, ValueError when there is nothing to train on or to score,
    FileNotFoundError for a DSINE checkout that is not whole, TimeLimitReached when ``--time_limit`` ended it.
    """
    ablation = Ablation(config, 10, jobs, force, limit)
    ablation.upstream()
    ablation.record(done=False)
    sources, lines = _sources(ablation)
    prepare_normal_targets(ablation, sources)
    normals, bits = normal_jobs(config, sources), bit_jobs(config)
    trainings = {job.name: job for job in [*normals.values(), *bits.values()]}
    weights = train_networks(ablation, list(trainings.values()))
    lines += [*training_lines(ablation, weights)]

    methods = {key: _normals_method(config, *key) for key in normals}
    trials = [Trial.of_network(methods[key], weights[job.name]) for key, job in normals.items() if job.name in weights]
    trials.append(Trial(Method("bilinear", "bilinear", config.train.lr_input)))
    rows = score_trials(ablation, NORMALS, trials, list(dict.fromkeys(target for target, _ in normals)))
    order = list({method.name: method for method in methods.values()}.values())
    lines += [*summary_lines(rows, COLUMNS, order), f"{ablation.name}: {len(rows)} rows in {NORMALS}.csv"]

    trials = [Trial(_bilinear_method(n)) for n in sorted({n for _, n in bits})]
    trials += [
        Trial.of_network(_bits_method(config, *key), weights[job.name]) for key, job in bits.items() if job.name in weights
    ]
    rows = score_trials(ablation, BITS, trials, list(dict.fromkeys(target for target, _ in bits)))
    for title, found in blocks(rows, "rmse"):
        lines += ["", f"interior RMSE by the bits of the input, {title}", *matrix_lines(found, line=lambda row: row.method)]
    ablation.record(done=True)
    return [*lines, f"{ablation.name}: {len(rows)} rows in {BITS}.csv of {ablation.folder}"]


def _sources(ablation: Ablation) -> tuple[list[str], list[str]]:
    """Sources of ``ablations.normals`` that can be measured here; without DSINE a note in the stage's folder says so."""
    settings, note = ablation.config.ablations, ablation.folder / DSINE_NOTE
    note.unlink(missing_ok=True)
    sources = list(settings.normals)
    if "dsine" not in sources or find_dsine(settings.dsine_dir):
        return sources, []
    text = "dsine: weights not available, not measured; set ablations.dsine_dir (or $DSINE_DIR), see external/README.md"
    with atomic_path(note) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return [source for source in sources if source != "dsine"], [f"{ablation.name}: {text}"]


def normal_jobs(config: Config, sources: list[str]) -> dict[tuple[str, str], TrainingJob]:
    """One training for each (target, source of normals): every source and none on ``train.target``, and the published ones on
    the published target."""
    target, lr_input = config.train.target, config.train.lr_input
    wanted = [(target, source) for source in (NO_NORMALS, *sources)]
    if target != PUBLISHED_TARGET:
        wanted += [(PUBLISHED_TARGET, source) for _, source in wanted if source in PUBLISHED_SOURCES]
    return {(t, source): unet_job(config, 10, t, lr_input, source) for t, source in wanted}


def bit_jobs(config: Config) -> dict[tuple[str, int], TrainingJob]:
    """One training for each (target, bits): every depth on ``train.target``, and the published on theirs."""
    target, bits = config.train.target, config.ablations.bits
    wanted = [(target, n) for n in bits]
    wanted += [(PUBLISHED_TARGET, n) for n in PUBLISHED_BITS if n in bits and target != PUBLISHED_TARGET]
    return {(t, n): unet_job(config, 10, t, f"{n}bit") for t, n in wanted}


def _normals_method(config: Config, target: str, source: str) -> Method:
    name = f"unet_normals_{source}"
    return Method(f"{name}-{target}", name, config.train.lr_input, target, config.seed)


def _bits_method(config: Config, target: str, bits: int) -> Method:
    name = f"{bits}bit"
    return Method(f"unet-{target}@{name}", "unet", name, target, config.seed, degradation_train=name, degradation_test=name)


def _bilinear_method(bits: int) -> Method:
    return Method(f"bilinear@{bits}bit", "bilinear", f"{bits}bit", degradation_test=f"{bits}bit")
