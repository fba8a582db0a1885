"""Where photos come from: a file, a folder with its sub-folders, or a public set on Kaggle through Kaggle's own client."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from splathead.photos.read import SUFFIXES
from splathead.subjects.importer import subject_name

logger = logging.getLogger(__name__)

KAGGLE_PREFIX = "kaggle:"
_RESERVED = ("stage.json", "photos.csv")  # files of the stage beside the photos' folders
MAX_FILE_BYTES = 2**28
"""A larger file of a downloaded set is no photo."""


def locate_photos(source: str, download_dir: Path) -> Path:
    """The file or folder that ``subjects.path`` names; ``kaggle:<owner>/<slug>`` is downloaded once below ``download_dir``.

    Errors: FileNotFoundError for a path that is not there, ValueError for another ``kaggle:`` form, and those of
    :func:`download_kaggle`.
    """
    if not source:
        raise ValueError("subjects.path is empty, expected a photo, a folder of photos or kaggle:<owner>/<slug>")
    if source.startswith(KAGGLE_PREFIX):
        return download_kaggle(source.removeprefix(KAGGLE_PREFIX), download_dir)
    if not Path(source).exists():
        raise FileNotFoundError(f"{source}: no such photo or folder of photos (subjects.path)")
    return Path(source)


def list_photos(path: Path) -> tuple[dict[str, Path], Counter]:
    """Subject name -> photo of a file or a folder (hidden files left out), and how many other files have which suffix.

    A photo is named by its path in the folder; photos of one name get their suffixes, then numbers. FileNotFoundError
    when there is none.
    """
    path = Path(path)
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    photos = [file for file in files if file.suffix.lower() in SUFFIXES]
    others = Counter(file.suffix.lower() or "none" for file in files if file.suffix.lower() not in SUFFIXES)
    if not photos:
        there = f"{sum(others.values())} other files" if others else "no file"
        raise FileNotFoundError(f"{path}: no photo here but {there}, expected {', '.join(SUFFIXES)}")
    return dict(zip(_unique_names([photo.relative_to(root) for photo in photos]), photos, strict=True)), others


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """A folder name of ours for each relative path."""
    names = [subject_name(Path("_".join(path.with_suffix("").parts))) for path in paths]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    names = [f"{name}_{path.suffix[1:].lower()}" if name in repeated else name for name, path in zip(names, paths)]
    taken = set(_RESERVED)
    for index, name in enumerate(names):
        number = 2
        while names[index] in taken:
            names[index] = f"{name}_{number}"
            number += 1
        taken.add(names[index])
    return names


def download_kaggle(slug: str, download_dir: Path) -> Path:
    """Folder with the photos of the Kaggle set ``<owner>/<slug>``, downloaded by the client ``kaggle`` unless it is there.

    ValueError for another form of name, RuntimeError without the client, when it fails (it prints why; it needs an
    account's token), and when the set holds no photo.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*", slug):
        raise ValueError(f"subjects.path: {KAGGLE_PREFIX}{slug}, expected {KAGGLE_PREFIX}<owner>/<slug>")
    target = Path(download_dir) / slug.replace("/", "_")
    if target.is_dir():
        logger.info("%s%s: already in %s", KAGGLE_PREFIX, slug, target)
        return target
    client = _find_client()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-kaggle-", dir=target.parent) as temporary:
        archive, photos = Path(temporary, "archive"), Path(temporary, "photos")
        command = [client, "datasets", "download", slug, "-p", str(archive)]
        logger.info("downloading %s%s to %s", KAGGLE_PREFIX, slug, target)
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if code:
            raise RuntimeError(
                f"{KAGGLE_PREFIX}{slug}: the kaggle client ended with exit code {code} and said why above; does the set exist, "
                "and is an API token of your account in ~/.kaggle/kaggle.json?"
            )
        count = sum(_extract_photos(file, photos) for file in sorted(archive.rglob("*")) if file.is_file())
        if not count:
            raise RuntimeError(f"{KAGGLE_PREFIX}{slug}: no photo in it, expected {', '.join(SUFFIXES)} files")
        os.replace(photos, target)
    logger.info("%s%s: %d photos", KAGGLE_PREFIX, slug, count)
    return target


def _find_client() -> str:
    """Kaggle's command-line client, of this Python environment or else on the PATH."""
    own = str(Path(sys.executable).parent)
    client = shutil.which("kaggle", path=own) or shutil.which("kaggle")
    if client is None:
        raise RuntimeError(
            "kaggle: sets are downloaded by Kaggle's own client, which is not installed: pip install kaggle, then put an API "
            "token of your account into ~/.kaggle/kaggle.json; or download the set yourself and give its folder"
        )
    return client


def _extract_photos(file: Path, folder: Path) -> int:
    """Put the photos of a downloaded file, a zip archive or a photo itself, below ``folder``; how many."""
    if file.suffix.lower() in SUFFIXES:
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(file, folder / file.name)
        return 1
    if not zipfile.is_zipfile(file):
        return 0
    count = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if path.suffix.lower() not in SUFFIXES or member.file_size > MAX_FILE_BYTES:
                continue
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{file.name}: member {member.filename!r} points out of the archive")
            _extract(archive, member, folder / path)
            count += 1
    return count


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """One member, of which not more is read than its header promises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as stream, target.open("wb") as output:
        output.write(stream.read(member.file_size))
