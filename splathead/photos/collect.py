"""Stage 01, source photos: a folder or a public set of photos becomes crops that stage 02 hands to FaceLift, and a list.

Each photo has a folder ``<subject>/`` with photo.json (every number, the face, the crop) and, where it is accepted,
photo.png (what FaceLift gets) and canvas.png (FaceLift's crop of it). ``photos.csv`` says of every photo whether it is
kept and why not; stage 02 takes the kept ones from there. The photos themselves are only read.
"""

from __future__ import annotations

import csv
import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from splathead.config import Config, PhotosConfig
from splathead.images import atomic_path, write_json, write_png
from splathead.inputs import file_sha256
from splathead.photos.duplicates import hash_from_text, hash_to_text, near_duplicates, perceptual_hash
from splathead.photos.prepare import PreparedPhoto, prepare_photo
from splathead.photos.quality import CHECKS
from splathead.photos.read import UnreadablePhoto
from splathead.photos.sources import list_photos, locate_photos
from splathead.samples import STAGE_NAMES, stage_folder
from splathead.stages import Stage

LIST_NAME = "photos.csv"
PHOTO_NAME, CANVAS_NAME, RECORD_NAME = "photo.png", "canvas.png", "photo.json"
_COLUMNS = ("subject", "photo", "verdict", "reason", *CHECKS, "sha256")
_PLAN_NAME = ".photos.json"
_SHOWN = 40
"""Photos whose verdict is printed; the list holds all."""


@dataclass(frozen=True)
class Verdict:
    """One photo's line of the list."""

    subject: str
    photo: str  # path in the user's folder
    sha256: str
    reason: str = ""  # why it is dropped, with the numbers; empty: it is kept
    dropped_for: tuple[str, ...] = ()  # the same in a word or two: failed checks, "duplicate" ...
    numbers: dict[str, float] = field(default_factory=dict)  # value of each check
    perceptual_hash: str = ""
    pixels: int = 0

    def row(self) -> list[str]:
        """In the order of the list's columns."""
        numbers = [f"{self.numbers[name]:.4g}" if name in self.numbers else "" for name in CHECKS]
        return [self.subject, self.photo, "dropped" if self.reason else "kept", self.reason, *numbers, self.sha256]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return f"{'dropped' if self.reason else 'kept   '} {self.photo}: {self.reason or numbers}"


def collect_photos(config: Config, *, jobs: int, force: bool = False, limit: int = 0) -> list[str]:
    """Run stage 01 for ``subjects.source: photos``; returns lines that say what was kept, dropped and why.

    Exact duplicates are found first, each of the other photos is judged on its own (in parallel, resumable), then near
    duplicates among the accepted ones are dropped. ``limit``: only the first so many photos.
    """
    source = locate_photos(config.subjects.path, Path(config.photos.download_dir))
    photos, others = list_photos(source)
    root = source if source.is_dir() else source.parent
    digests = _digests(photos)
    extra = [config.photos, sorted((str(photos[name].relative_to(root)), digest) for name, digest in digests.items())]
    stage = Stage.open(config.run_folder, STAGE_NAMES[1], config.subjects, extra=extra, force=force, seed=config.seed)
    chosen = list(photos)[: limit or None]
    first = {}
    for name in chosen:
        first.setdefault(digests[name], name)
    unique = [name for name in chosen if first[digests[name]] == name]
    write_json(stage.folder / _PLAN_NAME, {name: str(path.resolve()) for name, path in photos.items()})
    stage.run_items(functools.partial(_prepare_item, config.photos, stage.folder), unique, jobs=jobs, unit="photo")
    verdicts = {name: _verdict(stage.folder, name, str(photos[name].relative_to(root)), digests[name]) for name in unique}
    _drop_near_duplicates(verdicts, config.photos.near_duplicate)
    for name in chosen:
        if name not in verdicts:
            twin = photos[first[digests[name]]].relative_to(root)
            reason = f"duplicate of {twin}, byte for byte"
            verdicts[name] = Verdict(name, str(photos[name].relative_to(root)), digests[name], reason, ("duplicate",))
    ordered = [verdicts[name] for name in chosen]
    _write_list(stage.folder / LIST_NAME, ordered)
    stage.close()
    return _summary(stage, ordered, others)


def kept_photos(config: Config) -> dict[str, Path]:
    """Subject name -> photo for FaceLift of every photo that stage 01 kept. FileNotFoundError before that stage, ValueError
    when it kept none."""
    path = stage_folder(config, 1) / LIST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no list of photos; run scripts/{STAGE_NAMES[1]}.py first")
    with path.open(newline="") as stream:
        names = [row["subject"] for row in csv.DictReader(stream) if row["verdict"] == "kept"]
    if not names:
        raise ValueError(f"{path}: stage 01 kept no photo, see the column 'reason'; the limits are the configuration's photos:")
    return {name: path.parent / name / PHOTO_NAME for name in names}


def write_prepared(prepared: PreparedPhoto, folder: Path) -> None:
    """photo.json of a photo and, where it is accepted, photo.png and canvas.png."""
    height, width = prepared.photo.rgb.shape[:2]
    record = {
        "photo": prepared.path.name, "width": width, "height": height, "refusal": prepared.refusal,
        "failed": [check.name for check in prepared.failed], "checks": {check.name: check.value for check in prepared.checks},
        "perceptual_hash": hash_to_text(perceptual_hash(prepared.photo.over_white)),
    }  # fmt: skip
    if prepared.cropped is not None:
        face, crop = prepared.cropped.face, prepared.cropped.crop
        record["face"] = {"box": face.box.tolist(), "score": face.score, "landmarks": _lists(face.landmarks)}
        record["crop"] = {"scale": crop.scale, "offset": crop.offset.tolist(), "file": CANVAS_NAME}
        record["canvas_landmarks"] = {name: crop.to_canvas(mark).tolist() for name, mark in face.landmarks.items()}
        if not prepared.refusal:
            write_png(folder / PHOTO_NAME, prepared.cropped.window)
            write_png(folder / CANVAS_NAME, prepared.cropped.canvas)
    write_json(folder / RECORD_NAME, record)


def _lists(points: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: point.tolist() for name, point in points.items()}


def _digests(photos: dict[str, Path]) -> dict[str, str]:
    """SHA-256 of every photo."""
    from tqdm import tqdm

    shown = tqdm(photos.items(), desc="reading", unit="photo", disable=len(photos) < _SHOWN)
    return {name: file_sha256(path) for name, path in shown}


@functools.lru_cache(maxsize=1)
def _plan(path: Path, _modified_ns: int) -> dict[str, str]:
    """Subject name -> photo; a file, as a large set's would be sent to the workers with every photo."""
    return json.loads(path.read_text())


def _prepare_item(limits: PhotosConfig, stage_dir: Path, name: str, out_dir: Path) -> None:
    """Judge and crop one photo; one that cannot be read is refused, not an error of the stage."""
    plan = stage_dir / _PLAN_NAME
    path = Path(_plan(plan, plan.stat().st_mtime_ns)[name])
    try:
        prepared = prepare_photo(path, limits)
    except UnreadablePhoto as error:
        reason = str(error).removeprefix(f"{path}: ")
        write_json(out_dir / RECORD_NAME, {"photo": path.name, "refusal": reason, "failed": ["unreadable"], "checks": {}})
        return
    write_prepared(prepared, out_dir)


def _verdict(stage_dir: Path, name: str, photo: str, sha256: str) -> Verdict:
    """What :func:`_prepare_item` recorded of a photo."""
    record = json.loads((stage_dir / name / RECORD_NAME).read_text())
    return Verdict(
        name, photo, sha256, record["refusal"], tuple(record["failed"]), record["checks"],
        record.get("perceptual_hash", ""), record.get("width", 0) * record.get("height", 0),
    )  # fmt: skip


def _drop_near_duplicates(verdicts: dict[str, Verdict], limit: float) -> None:
    """Give accepted photos that look like a larger accepted one (of equal ones: like an earlier one) a reason."""
    accepted = sorted((verdict for verdict in verdicts.values() if not verdict.reason), key=lambda verdict: -verdict.pixels)
    if not accepted:
        return
    hashes = np.stack([hash_from_text(verdict.perceptual_hash) for verdict in accepted])
    for index, (twin, share) in near_duplicates(hashes, limit).items():
        subject, differ = accepted[index].subject, f"{100 * share:.1f} % of their hashes' bits differ"
        reason = f"near duplicate of {accepted[twin].photo}: {differ}, expected more than {100 * limit:g} %"
        verdicts[subject] = replace(verdicts[subject], reason=reason, dropped_for=("near duplicate",))


def _write_list(path: Path, verdicts: Sequence[Verdict]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        writer.writerows(verdict.row() for verdict in verdicts)


def _summary(stage: Stage, verdicts: Sequence[Verdict], others: Counter) -> list[str]:
    """Lines for the user: verdicts, counts of reasons, what was not looked at, where the list is."""
    kept = [verdict for verdict in verdicts if not verdict.reason]
    lines = [str(verdict) for verdict in verdicts[:_SHOWN]]
    if len(verdicts) > _SHOWN:
        lines.append(f"... and {len(verdicts) - _SHOWN} more in the list")
    reasons = Counter(kind for verdict in verdicts for kind in verdict.dropped_for)
    lines.append(f"{stage.name}: {len(kept)} of {len(verdicts)} photos kept in {stage.folder}")
    if reasons:
        lines.append("dropped for: " + ", ".join(f"{kind} ({count})" for kind, count in reasons.most_common()))
    if others:
        lines.append("left alone, no photos: " + ", ".join(f"{suffix} ({count})" for suffix, count in others.most_common()))
    lines.append(f"every photo with its numbers: {stage.folder / LIST_NAME}; the originals are as they were")
    return lines
