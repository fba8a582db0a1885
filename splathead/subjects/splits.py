"""Train, val and test by identity, and the record that freezes them before any network is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from splathead.images import write_json

SPLITS = ("train", "val", "test")


def assign_splits(identities: Sequence[str], seed: int, *, val: int, test: int) -> dict[str, str]:
    """Identity -> split: ``test`` and ``val`` identities drawn by hash of seed and name, the rest trains.

    The draw does not depend on the order of ``identities``. Too few identities or a repeated one is a ValueError.
    """
    if len(set(identities)) != len(identities):
        raise ValueError("assign_splits: an identity appears twice")
    if min(val, test) < 0 or val + test > len(identities):
        raise ValueError(f"assign_splits: {val} val and {test} test of {len(identities)} identities, expected 0 to all of them")
    ranked = sorted(identities, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    return {name: "test" if k < test else "val" if k < test + val else "train" for k, name in enumerate(ranked)}


def freeze_splits(path: Path, experiment: str, subjects: Sequence[Mapping]) -> None:
    """Record ``subjects`` (their subject.json contents) of ``experiment`` in ``path`` (eval/splits.json), keeping others.

    Test identities are recorded with the SHA-256 of their true mesh. An entry that exists must agree, see
    :func:`check_frozen`.
    """
    frozen = _read(path)
    if experiment in frozen:
        check_frozen(path, experiment, subjects)
        return
    entry: dict = {split: sorted(s["identity"] for s in subjects if s["split"] == split) for split in SPLITS}
    entry["test_mesh_sha256"] = {s["name"]: s["mesh_sha256"] for s in subjects if s["split"] == "test" and "mesh_sha256" in s}
    write_json(path, {**frozen, experiment: entry})


def check_frozen(path: Path, experiment: str, subjects: Sequence[Mapping]) -> None:
    """Raise ValueError when ``subjects`` contradict the frozen entry of ``experiment``: another split or another mesh."""
    entry = _read(path).get(experiment)
    if entry is None:
        raise ValueError(f"{path}: no frozen splits of {experiment!r}")
    split_of = {identity: split for split in SPLITS for identity in entry[split]}
    for subject in subjects:
        expected = split_of.get(subject["identity"])
        if expected != subject["split"]:
            raise ValueError(f"{path}: {subject['identity']} is frozen as {expected}, found as {subject['split']}")
        digest = entry["test_mesh_sha256"].get(subject["name"])
        if digest is not None and digest != subject.get("mesh_sha256"):
            raise ValueError(f"{path}: the mesh of {subject['name']} differs from the frozen one ({digest[:12]}...)")


def _read(path: Path) -> dict:
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping of experiments")
    return data
