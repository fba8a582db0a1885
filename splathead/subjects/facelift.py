"""Photos to Gaussians with an installed FaceLift (Lyu et al., ICCV 2025), called through its documented command line.

FaceLift is a separate project with its own Python environment; nothing of it is part of SplatHead.
``external/README.md`` says how to install it. It writes ``<output>/<stem>/gaussians.ply`` per photo, in
a world with z up, the face towards -y and the rig's radius at 2.7 units.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

from splathead.cameras import orbit_camera
from splathead.config import Config, ReconstructConfig
from splathead.images import write_png
from splathead.ply import load_gaussians_ply
from splathead.subjects.importer import ImportReport, import_subject, subject_name

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
SEED, GUIDANCE_SCALE, STEPS = 4, 3.0, 50
"""FaceLift's published inference settings."""

_LOG_LINES = 20


def find_photos(path: Path) -> dict[str, Path]:
    """Subject name -> photo of ``path``, one photo or a folder of photos. Errors as ``find_splats``."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    files = [file for file in files if file.suffix.lower() in PHOTO_SUFFIXES]
    if not files:
        raise FileNotFoundError(f"{path}: no photo here, expected {' or '.join(PHOTO_SUFFIXES)} files (subjects.path)")
    found: dict[str, Path] = {}
    for file in files:
        name = subject_name(file)
        if name in found:
            raise ValueError(f"{file} and {found[name]} would both be subject {name!r}; rename one")
        found[name] = file
    return found


def locate_facelift(settings: ReconstructConfig) -> tuple[Path, str]:
    """FaceLift's folder and its Python, from the configuration or $FACELIFT_DIR and $FACELIFT_PYTHON.

    Raises RuntimeError that says what to install where when there is none.
    """
    where = settings.facelift_dir or os.environ.get("FACELIFT_DIR", "")
    remedy = (
        "FaceLift is a separate project: git clone https://github.com/weijielyu/FaceLift, run its setup_env.sh in an "
        "environment of its own, then set $FACELIFT_DIR (or reconstruct.facelift_dir) to that folder and $FACELIFT_PYTHON "
        "(or reconstruct.facelift_python) to that environment's python; see external/README.md"
    )
    if not where:
        raise RuntimeError(f"no FaceLift: neither $FACELIFT_DIR nor reconstruct.facelift_dir is set. {remedy}")
    folder = Path(where).expanduser().resolve()
    if not (folder / "inference.py").is_file():
        raise RuntimeError(f"{folder}: no FaceLift checkout, it has no inference.py. {remedy}")
    python = settings.facelift_python or os.environ.get("FACELIFT_PYTHON", "") or sys.executable
    if shutil.which(python) is None:
        raise RuntimeError(f"{python}: no such Python interpreter for FaceLift. {remedy}")
    return folder, python


def run_facelift(photos: dict[str, Path], output_dir: Path, settings: ReconstructConfig) -> dict[str, Path]:
    """Reconstruct every photo whose ``output_dir/<subject>/gaussians.ply`` does not exist yet, in one FaceLift run.

    Returns subject name -> PLY. Finished photos are moved into ``output_dir`` whole, so a killed run resumes.
    Raises RuntimeError with the end of FaceLift's output when it fails or leaves a photo without a result.
    """
    output_dir = Path(output_dir)
    results = {name: output_dir / name / "gaussians.ply" for name in photos}
    pending = [name for name, ply in results.items() if not ply.is_file()]
    if not pending:
        return results
    folder, python = locate_facelift(settings)
    output_dir.mkdir(parents=True, exist_ok=True)
    log = output_dir / "facelift.log"
    logger.info("FaceLift: %d photo(s), its output goes to %s", len(pending), log)
    with tempfile.TemporaryDirectory(prefix=".tmp-facelift-", dir=output_dir) as temporary:
        inputs, outputs = Path(temporary, "in").resolve(), Path(temporary, "out").resolve()
        inputs.mkdir()
        # FaceLift names its folders by what stands before the first dot of a photo's name
        stems = {name: f"photo{k:04d}" for k, name in enumerate(pending)}
        for name, stem in stems.items():
            shutil.copyfile(photos[name], inputs / f"{stem}{photos[name].suffix.lower()}")
        exit_code = _call(folder, python, inputs, outputs, log)
        accepted = [name for name, stem in stems.items() if _accept(outputs / stem, output_dir / name)]
    missing = [str(photos[name]) for name in pending if name not in accepted]
    if exit_code or missing:
        state = f"exited with code {exit_code} and " if exit_code else ""
        raise RuntimeError(
            f"FaceLift in {folder} {state}left {len(missing)} of {len(pending)} photo(s) without a result "
            f"({', '.join(missing) or 'none'}); the end of {log}:\n{_tail(log)}"
        )
    return results


def _call(folder: Path, python: str, inputs: Path, outputs: Path, log: Path) -> int:
    """Run FaceLift's inference.py on a folder of photos with its output in ``log``; its exit code."""
    command = [
        python, "inference.py", "-i", str(inputs), "-o", str(outputs), "--auto_crop", "--seed", str(SEED),
        "--guidance_scale_2D", str(GUIDANCE_SCALE), "--step_2D", str(STEPS),
    ]  # fmt: skip
    with log.open("wb") as stream:
        return subprocess.run(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode


def _accept(produced: Path, target: Path) -> bool:
    """Move one photo's result into place if it is whole: FaceLift writes output.png after gaussians.ply."""
    ply = produced / "gaussians.ply"
    if not (ply.is_file() and (produced / "output.png").is_file()):
        return False
    load_gaussians_ply(ply)  # a broken file must not be taken for a result
    shutil.rmtree(target, ignore_errors=True)
    os.replace(produced, target)
    return True


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join(f"  | {line}" for line in lines) or "  | (no output)"


def facelift_subject(photo: Path, ply: Path, out_dir: Path, config: Config, *, name: str = "") -> ImportReport:
    """Write the subject folder of one photo from FaceLift's ``ply`` (see :func:`run_facelift`); ``name``: else the photo's.

    FaceLift's own crop of the photo (``input.png``, on the pixel grid of the rig's front view) becomes photo.png, and
    subject.json names it when one of the map views looks at the face.
    """
    crop = Path(ply).with_name("input.png")
    image = cv2.imread(str(crop if crop.is_file() else photo), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{crop if crop.is_file() else photo}: not a readable image")
    write_png(Path(out_dir) / "photo.png", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    front = [orbit_camera(yaw).name for yaw in config.subjects.map_yaws if abs(yaw) < 1]
    details = {"photo": {"file": "photo.png", "view": front[0]}} if front else None
    return import_subject(ply, out_dir, config, fit="facelift", name=name or subject_name(photo), details=details)
