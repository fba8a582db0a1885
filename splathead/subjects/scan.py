"""Any mesh scan (glb, gltf, obj, ply, stl) with or without texture as a head."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splathead.subjects.base import HeadMesh, quantised
from splathead.subjects.frames import HeadFrame, axis_vector

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
MAX_FILE_BYTES = 2**31
MAX_FACES = 20_000_000
MAX_TEXTURE_PIXELS = 2**27
_COLOUR_WORDS = ("col", "albedo", "diffuse", "basecolor", "base_color", "texture")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY = 0.7


def list_scans(path: Path) -> list[Path]:
    """The scan at ``path``, or all scans in the folder ``path``, sorted; none is an error."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such scan file or folder")
    scans = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not scans:
        raise FileNotFoundError(f"{path}: no scan in this folder, expected files ending in {', '.join(SUFFIXES)}")
    return scans


def load_scan(path: Path, up: str = "y", front: str = "z", size_mm: float = 0.0, flip_v: bool = False) -> HeadMesh:
    """Read a scan and turn it upright: ``up`` and ``front`` name the file's axes; centred on its bounding box.

    ``size_mm`` is the height of the whole mesh; 0 means that the file's units are millimetres. A mesh with texture
    coordinates but without an image takes the one colour image that lies beside it (its name is kept in
    ``attributes["texture"]``); ``flip_v`` turns a texture that comes out upside down. Colours are vertex colours, else grey.
    """
    path = Path(path)
    _check_file(path)
    loaded = _read(path)
    corners = np.asarray(loaded.vertices, dtype=np.float64)
    if not len(corners) or not len(loaded.faces):
        raise ValueError(f"{path}: {len(corners)} vertices and {len(loaded.faces)} faces, expected a surface")
    if len(loaded.faces) > MAX_FACES:
        raise ValueError(f"{path}: {len(loaded.faces)} faces, expected at most {MAX_FACES}")
    if not np.isfinite(corners).all():
        raise ValueError(f"{path}: vertices with NaN or infinity")
    low, high = corners.min(0), corners.max(0)
    height = float(np.abs((high - low) @ axis_vector(up)))
    if height <= 0:
        raise ValueError(f"{path}: no extent along up = {up}, expected a surface of some height")
    frame = HeadFrame(axis_vector(up), axis_vector(front), (low + high) / 2, size_mm / height if size_mm else 1.0)
    # seams of the texture duplicate vertices; geometry is welded so that normals are smooth across them
    welded, index = np.unique(corners, axis=0, return_inverse=True)
    faces = index.reshape(-1)[np.asarray(loaded.faces)]
    solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    texture, face_uv, texture_name = _texture(path, loaded, flip_v)
    colours = _vertex_colours(loaded, index.reshape(-1), len(welded), texture, face_uv)
    attributes = {"file": path.name, "frame": frame.to_dict(), "texture": texture_name}
    solid_uv = None if face_uv is None else face_uv[solid]
    return quantised(HeadMesh(frame.points(welded), faces[solid], colours, {}, attributes, solid_uv, texture))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such scan")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: file type {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}")


def _read(path: Path):  # -> trimesh.Trimesh
    """One trimesh of everything in the file, transforms applied, vertices in file order."""
    import trimesh

    try:
        loaded = trimesh.load(path, process=False, maintain_order=True)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh()
    except Exception as error:  # trimesh's readers raise anything from KeyError to struct.error on bad files
        raise ValueError(f"{path}: not a readable {path.suffix[1:]} mesh: {type(error).__name__}: {error}") from error
    if not isinstance(loaded, trimesh.Trimesh):
        raise ValueError(f"{path}: a {type(loaded).__name__}, expected a surface with faces")
    return loaded


def _texture(path: Path, loaded, flip_v: bool) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Texture [H, W, 3] uint8, corner coordinates [F, 3, 2] with v = 0 at the top, and where the image came from."""
    uv = getattr(loaded.visual, "uv", None)
    if loaded.visual.kind != "texture" or uv is None or len(uv) != len(loaded.vertices):
        return None, None, "none"
    image, name = _material_image(loaded.visual.material), "in the file"
    if image is None:
        found = [file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in _IMAGE_SUFFIXES]
        found = [file for file in found if any(word in file.stem.lower() for word in _COLOUR_WORDS)]
        if len(found) != 1:
            return None, None, "none"
        image, name = _read_image(found[0]), found[0].name
    coordinates = np.asarray(uv, dtype=np.float64)[np.asarray(loaded.faces)]
    if not np.isfinite(coordinates).all():
        raise ValueError(f"{path}: texture coordinates with NaN or infinity")
    # trimesh counts v from the image's bottom, having turned glTF's v over. A glTF file whose image lies beside it was
    # made for a viewer that loads that image bottom up (three.js does), so there its own v counted from the bottom
    beside_gltf = name != "in the file" and path.suffix.lower() in (".glb", ".gltf")
    if beside_gltf == flip_v:
        coordinates[..., 1] = 1 - coordinates[..., 1]
    return image, coordinates, name


def _material_image(material) -> np.ndarray | None:
    """The base colour image of trimesh's PBR or simple material, [H, W, 3] uint8."""
    image = getattr(material, "baseColorTexture", None)
    image = getattr(material, "image", None) if image is None else image
    if image is None:
        return None
    if image.width * image.height > MAX_TEXTURE_PIXELS:
        raise ValueError(f"texture of {image.width}x{image.height} pixels, expected at most {MAX_TEXTURE_PIXELS} in all")
    return np.asarray(image.convert("RGB"))


def _read_image(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not a readable image")
    return np.ascontiguousarray(image[..., ::-1])


def _vertex_colours(
    loaded, index: np.ndarray, count: int, texture: np.ndarray | None, face_uv: np.ndarray | None
) -> np.ndarray:
    """Colours [count, 3] of the welded vertices: from the texture, else the file's vertex colours, else grey."""
    colours = np.full((count, 3), _GREY, dtype=np.float32)
    if texture is not None and face_uv is not None:
        from splathead.raycast import sample_texture

        colours[index[np.asarray(loaded.faces).ravel()]] = sample_texture(texture, face_uv.reshape(-1, 2))
    elif loaded.visual.kind in ("vertex", "face"):
        colours[index] = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.float32) / 255
    return colours
