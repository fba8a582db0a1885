"""The one entry for Gaussians from a file: told by content, whatever its name; every format ends as :class:`Gaussians`.

Read: 3DGS PLY (Inria, gsplat, LAM, FaceLift, SuperSplat), SuperSplat's compressed PLY, ``.splat``, ``.spz`` 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splathead.gaussians import Gaussians
from splathead.ply import read_splat_ply
from splathead.splat_formats import spz
from splathead.splat_formats.builder import MAX_GAUSSIANS, LoadOptions, SplatFile
from splathead.splat_formats.dot_splat import is_dot_splat, read_dot_splat

SPLAT_SUFFIXES = (".ply", ".splat", ".spz")
"""How files of Gaussians are usually called: what is looked for in a folder."""

Reader = Callable[[Path, LoadOptions], SplatFile]


def load_splats(
    path: Path, max_gaussians: int = MAX_GAUSSIANS, *, min_opacity: float = 0.0, max_sh_degree: int = 3
) -> Gaussians:
    """Gaussians of a file in any known format, in its own world and unit (float32, raw parameters).

    ``min_opacity``: those below it are left out while reading; up to 1/255 this changes no rendered pixel.
    ``max_sh_degree``: 0 keeps the mean colour only, which is all that a mesh needs, in a quarter of the memory.
    Raises FileNotFoundError, or ValueError with the file's name for anything that is no such file, is damaged, holds
    NaN or infinity, or more than ``max_gaussians``.
    """
    return read_splat_file(path, LoadOptions(max_gaussians, min_opacity, max_sh_degree)).gaussians


def read_splat_file(path: Path, options: LoadOptions | None = None) -> SplatFile:
    """The same, with the file's layout and notes on what was left out or changed."""
    path, options = Path(path), options or LoadOptions()
    reader = _reader(path)
    if reader is read_splat_ply:  # names the file itself
        return reader(path, options)
    try:
        return reader(path, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _reader(path: Path) -> Reader:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such splat file")
    with path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise ValueError(f"{path}: an empty file, expected Gaussians")
    if start[:3] == b"ply":
        return read_splat_ply
    if start == spz.MAGIC or start[:2] == spz.GZIP_MAGIC:
        return spz.read_spz
    # without a mark of its own, a damaged .splat is told by its name
    if is_dot_splat(path) or (path.suffix.lower() == ".splat" and path.stat().st_size % 32):
        return read_dot_splat
    expected = "a 3DGS PLY, a compressed SuperSplat PLY, .splat or .spz"
    raise ValueError(f"{path}: no file of Gaussians: it starts with {start!r}, expected {expected}")
