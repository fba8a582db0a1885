"""What a run will need from outside, checked before hours of work are spent on reaching it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from splathead.config import Config, TrainConfig, build_section

DORNET_VARIABLE = "SPLATHEAD_DORNET"
SOURCES = {
    "ict": "ICT-FaceKit's FaceXModel folder or a compact npz of it (github.com/ICT-VGL/ICT-FaceKit)",
    "ict+anny": "ICT-FaceKit's FaceXModel folder or a compact npz of it (github.com/ICT-VGL/ICT-FaceKit)",
    "scan": "a scan or a folder of scans",
    "capture": "a posed capture or a folder of captures",
    "photos": "a photo, a folder of photos or kaggle:<owner>/<slug>",
    "facelift": "a photo or a folder of photos",
}
"""``subjects.source`` -> what ``subjects.path`` is then"""


def dornet_weights(config: Config) -> Path:
    """DORNet-T's published weights; FileNotFoundError that says how to give them where they are not."""
    given = config.train.dornet_weights or os.environ.get(DORNET_VARIABLE, "")
    if not given or not Path(given).is_file():
        raise FileNotFoundError(
            f"baseline dornet_nyu: {given or 'no weights given'}: set train.dornet_weights (or ${DORNET_VARIABLE}) to "
            "DORNet-T's NYU_T_X4.pth, see external/README.md, or leave it out of train.baselines"
        )
    return Path(given)


def check_inputs(config: Config, stages: Sequence[int]) -> None:
    """Raise FileNotFoundError for the first thing that one of ``stages`` will miss: subjects, splats, weights; ValueError for
    weights to start from that are damaged or of another network."""
    source, path = config.subjects.source, config.subjects.path
    downloaded = source == "photos" and path.startswith("kaggle:")
    if 1 in stages and source in SOURCES and not downloaded and not (path and Path(path).exists()):
        raise FileNotFoundError(f"subjects.path: {path or 'empty'}: no such file or folder, expected {SOURCES[source]}")
    splats = config.reconstruct.import_path
    if 2 in stages and config.reconstruct.source == "import" and not (splats and Path(splats).exists()):
        raise FileNotFoundError(f"reconstruct.import_path: {splats or 'empty'}: no such file or folder, expected splat files")
    fits = config.reconstruct.fits
    if 2 in stages and fits and not Path(fits).is_dir():
        raise FileNotFoundError(f"reconstruct.fits: {fits}: no such folder, expected another run's stage 02")
    for changes in (config.trainings or [{}]) if 6 in stages else ():
        own = {key: value for key, value in changes.items() if key != "seed"}
        train = build_section(TrainConfig, own, "trainings", base=config.train)
        if train.init_weights:
            from splathead.training.initial import initial_weights

            initial_weights(train)
    if 6 in stages and "dornet_nyu" in config.train.baselines:
        dornet_weights(config)
