"""Weights that come with the repository, so that the tool needs no training and no download."""

from __future__ import annotations

from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
SURFACE_FILES = ("splathead_surface.safetensors", "splathead_surface.json")
"""Our network, trained on the true surface: its weights and what they belong to (:func:`splathead.checkpoints.load_weights`)"""


def surface_weights() -> Path:
    """Path of the weights in :data:`SURFACE_FILES`; FileNotFoundError names those that are not there."""
    missing = [name for name in SURFACE_FILES if not (WEIGHTS_FOLDER / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{WEIGHTS_FOLDER}: no {' and no '.join(missing)}; method splathead needs {' and '.join(SURFACE_FILES)}, which "
            "come with the repository; a network trained by stage 06 can be given by its file"
        )
    return WEIGHTS_FOLDER / SURFACE_FILES[0]
