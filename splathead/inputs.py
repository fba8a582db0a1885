"""What a user's file or folder is: Gaussians, a depth map, a posed capture or a photo; told by content, with the reason."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splathead.depth_pixels import depth_format, read_tiff_header
from splathead.images import read_png, read_png_header, sidecar_path
from splathead.ply import read_ply_header
from splathead.splat_files import SPLAT_SUFFIXES
from splathead.splat_formats import spz
from splathead.splat_formats.dot_splat import is_dot_splat
from splathead.wording import counted

EXPECTED = (
    "Gaussians (PLY, .splat, .spz), a depth map (PNG, EXR, NPY, TIFF), a folder with images and cameras, or a photo (PNG, JPEG)"
)

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_MESH = "a mesh; it has its surface already"
_VIDEO = "a video; take frames from it and find their cameras with COLMAP"
_ARCHIVE = "an archive; unpack it and give what is in it"
_SUPERSPLAT = "a compressed splat of another kind; export it as PLY, for example with SuperSplat"
_PHOTO_TYPE = "a picture in a format that is not read; save the photo as PNG or JPEG"

# what a file starts with -> what it is
_KNOWN_STARTS = {
    b"glTF": _MESH, b"solid ": _MESH, b"Kaydara FBX": _MESH, b"\x1a\x45\xdf\xa3": _VIDEO, b"GIF8": _PHOTO_TYPE,
    b"BM": _PHOTO_TYPE,
    b"PK\x03\x04": _ARCHIVE, b"\x1f\x8b": _ARCHIVE, b"7z\xbc\xaf": _ARCHIVE, b"Rar!": _ARCHIVE, b"BZh": _ARCHIVE,
    b"\xfd7zXZ": _ARCHIVE, b"%PDF": "a document", b"<": "a web page or an XML file",
}  # fmt: skip
# for formats without a mark
_KNOWN_SUFFIXES = {
    ".obj": _MESH, ".stl": _MESH, ".gltf": _MESH, ".off": _MESH, ".mpg": _VIDEO, ".mpeg": _VIDEO, ".ts": _VIDEO,
    ".ksplat": _SUPERSPLAT, ".sog": _SUPERSPLAT, ".lcc": _SUPERSPLAT, ".tar": _ARCHIVE,
    ".json": "a text file; if it holds the cameras of a capture, give its folder",
}  # fmt: skip


@dataclass(frozen=True)
class Detected:
    """``kind`` is one of ``KINDS``; ``reason`` says in a few words what the input was recognised by."""

    kind: str
    reason: str


def detect(path: Path) -> Detected:
    """What ``path`` is.

    Only what tells the kinds apart is read: the file can still be damaged. Raises FileNotFoundError, or ValueError with
    one sentence that says what else it is and what is expected.
    """
    path = Path(path)
    if path.is_dir():
        return _detect_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder")
    with path.open("rb") as stream:
        start = stream.read(32)
    if not start:
        raise _refuse(path, "an empty file")
    if start.startswith(b"ply"):
        return _detect_ply(path)
    if start.startswith((spz.MAGIC, spz.GZIP_MAGIC)):
        return _detect_spz(path, start)
    kind = depth_format(start)
    if kind in ("EXR", "NPY"):
        return Detected("depth", f"an {kind} file")
    if kind:
        return {"PNG": _detect_png, "TIFF": _detect_tiff}[kind](path)
    if start.startswith(b"\xff\xd8\xff"):
        return Detected("photo", "a JPEG")
    if is_dot_splat(path):
        return Detected("splats", f".splat with {path.stat().st_size // 32} Gaussians")
    raise _refuse(path, _what_else(path, start))


def _refuse(path: Path, what: str) -> ValueError:
    return ValueError(f"{path}: {what}; expected {EXPECTED}")


def _what_else(path: Path, start: bytes) -> str:
    """A name for a file that is no input."""
    if start[4:8] == b"ftyp":
        picture = start[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif")
        return _PHOTO_TYPE if picture else _VIDEO
    if start[:4] == b"RIFF":
        return {b"WEBP": _PHOTO_TYPE, b"AVI ": _VIDEO}.get(start[8:12], "an audio file")
    suffix = path.suffix.lower()
    if suffix == ".splat":
        return f"a damaged .splat of {path.stat().st_size} bytes (32 a Gaussian, its first ones are none)"
    known = next((what for mark, what in _KNOWN_STARTS.items() if start.startswith(mark)), "")
    return _KNOWN_SUFFIXES.get(suffix) or known or f"an unknown file that starts with {start[:8]!r}"


def _detect_ply(path: Path) -> Detected:
    header = read_ply_header(path)
    if header.is_compressed:
        return Detected("splats", f"compressed SuperSplat PLY with {header.vertex.count} Gaussians")
    if header.vertex and "opacity" in header.vertex.properties:
        return Detected("splats", f"{'FaceLift' if header.is_facelift else '3DGS'} PLY with {header.vertex.count} Gaussians")
    faces = any(element.name == "face" and element.count for element in header.elements)
    raise _refuse(path, f"a PLY {'mesh' if faces else 'point cloud'} without Gaussians (no opacity, scale and rot properties)")


def _detect_spz(path: Path, start: bytes) -> Detected:
    if start.startswith(spz.GZIP_MAGIC) and not spz.is_packed_spz(path):
        raise _refuse(path, _ARCHIVE)
    return Detected("splats", ".spz")


def _detect_png(path: Path) -> Detected:
    header = read_png_header(path)
    what = f"{header.bits}-bit PNG"
    if sidecar_path(path).is_file() and header.channels == 1 and not header.is_palette:
        return Detected("depth", f"{what} of one channel with {sidecar_path(path).name} beside it")
    if header.channels in (1, 2) and not header.is_palette:
        return Detected("depth", f"{what} without colours")
    if header.bits not in (8, 16) or header.is_palette:
        return Detected("photo", f"{what} with a palette of colours" if header.is_palette else what)
    image = read_png(path, channels=header.channels, bits=header.bits)
    if bool((image[..., :3] == image[..., :1]).all()):
        return Detected("depth", f"{what} whose colours are all grey")
    return Detected("photo", f"{what} with colours")


def _detect_tiff(path: Path) -> Detected:
    header = read_tiff_header(path)
    if header.samples != 1 and header.dtype == np.uint8:
        raise _refuse(path, f"a TIFF with colours: {_PHOTO_TYPE}")
    return Detected("depth", f"{header.dtype} TIFF")


def _detect_folder(folder: Path) -> Detected:
    from splathead.result_view.folder import FILES, RESULT_NAME
    from splathead.subjects.capture import capture_kind

    if kind := capture_kind(folder):
        return Detected("capture", {"colmap": "a COLMAP model"}.get(kind, f"{kind}.json"))
    inputs = [FILES[role] for role in ("splats", "depth") if (folder / FILES[role]).is_file()]
    if inputs and (folder / RESULT_NAME).is_file():
        of_it = f"one of its files that can be an input ({' or '.join(inputs)})"
        raise ValueError(f"{folder}: a result folder of scripts/20_enhance_head.py, expected {of_it}")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if not entries:
        raise _refuse(folder, "an empty folder")
    inside = [entry.name for entry in entries if entry.is_dir() and capture_kind(entry)]
    files = {suffixes: [e for e in entries if e.suffix.lower() in suffixes] for suffixes in (SPLAT_SUFFIXES, _IMAGE_SUFFIXES)}
    if inside:
        raise _refuse(folder, f"a folder of captures ({', '.join(inside[:3])} ...), of which one must be given")
    if files[SPLAT_SUFFIXES]:
        raise _refuse(folder, f"a folder of splat files ({files[SPLAT_SUFFIXES][0].name} ...), of which one must be given")
    if images := files[_IMAGE_SUFFIXES] or [e for e in folder.glob("images/*") if e.suffix.lower() in _IMAGE_SUFFIXES]:
        cameras = "no opencv_cameras.json, transforms.json or COLMAP model"
        raise _refuse(folder, f"{counted(len(images), 'image')} without cameras ({cameras}), which COLMAP can find")
    raise _refuse(folder, f"a folder without images, cameras or splats (it has {entries[0].name} ...)")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
