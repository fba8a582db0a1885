"""What a user may override; everything else is understood from the input, and reported."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from splathead.choices import BACKEND_MODULES, KINDS

AXES = ("auto", "x", "y", "z", "-x", "-y", "-z")
METHODS = ("auto", "splathead", "splat_surface", "variational", "bilinear", "raw")
AUTO_METHODS = {"gaussians": "splathead", "depth": "variational"}
"""What is enhanced -> what ``auto`` stands for"""
MAX_VIEWS = 16


@dataclass(frozen=True)
class EnhanceOptions:
    """What may be overridden, and what a depth map does not say of itself."""

    kind: str = "auto"
    """what the input is: auto | splats | depth | capture | photo"""
    method: str = "auto"
    """auto | splathead (our network, with the weights that come with it; the default for Gaussians) | splat_surface (needs
    Gaussians, nothing is trained) | variational (the default for depth maps) | bilinear | raw, or the .safetensors file of a
    network of stage 06"""
    views: int = 8
    """views around the head that are rendered and fused, 1 to 16; of more than 1, where hardly any but the front is fit, 8 near
    the front are added"""
    resolution: int = 1024
    """side of the depth maps in pixels (for a depth map as input: of its longer side, at least). Of Gaussians the
    methods for low-resolution depth (the network, variational, bilinear) start from renders of 184 to 352 pixels, 256 where
    that divides; below 1024 their result is reduced. They take multiples of 64"""
    backend: str = "auto"
    """rasteriser: auto | cpu | gsplat | inria | reference"""
    faces: int = 200_000
    """faces of the mesh, at most"""
    watertight: bool = False
    """close the mesh (screened Poisson through the fused surface; needs open3d)"""
    up: str = "auto"
    """axis that points up in the input: x | y | z | -x | -y | -z"""
    front: str = "auto"
    """axis that points out of the face, as for up; for a capture an axis, or the name of a view that looks at the face: that of
    its photo, without .png or .jpg"""
    scale_mm: float = 0.0
    """millimetres per unit of the input; 0 = worked out, or a nominal size"""
    near: float | None = None
    """depth map: depth of its nearest code"""
    far: float | None = None
    """depth map: depth of its farthest code"""
    hfov: float | None = None
    """depth map: horizontal field of view in degrees"""
    rgb: Path | None = None
    """depth map: photo of the same view, for colours"""
    values: str = ""
    """depth map: what its numbers are: depth | normalised (near to far) | inverse (disparity); empty = by its type"""
    white_is_near: bool = False
    """depth map: the largest number is the nearest depth"""
    no_surface: tuple[float, ...] = (0.0,)
    """depth map: stored numbers that mean "nothing here" (1e10, inf or nan, say)"""
    seed: int = 0
    """of a capture's fit"""
    device: str = "auto"
    """where the network and the rasteriser run: auto (a GPU that torch sees, else the CPU) | cpu | cuda"""
    jobs: int = 0
    """views that are worked on at a time; 0 = one per core. With 1 no other process is started. Fusion and writing use all
    cores"""

    def __post_init__(self) -> None:
        self._check("kind", ("auto", *KINDS))
        self._check("up", AXES)
        self._check("backend", ("auto", *BACKEND_MODULES))
        self._check("device", ("auto", "cpu", "cuda"))
        if self.method not in METHODS and not self.method.endswith(".safetensors"):
            raise ValueError(f"--method {self.method!r}, expected {', '.join(METHODS)} or a .safetensors file")
        for name, low, high in (
            ("views", 1, MAX_VIEWS), ("resolution", 64, 4096), ("faces", 100, 10_000_000), ("scale_mm", 0.0, 1e6),
            ("jobs", 0, 1024),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"--{name} {getattr(self, name)}, expected {low:g} to {high:g}")
        if self.resolution % 4:
            raise ValueError(f"--resolution {self.resolution}, expected a multiple of 4")

    def _check(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"--{name} {getattr(self, name)!r}, expected one of {', '.join(choices)}")

    def method_for(self, kind: str) -> str:
        """The method for an input of this kind (of :data:`splathead.choices.KINDS`); all but depth maps become Gaussians."""
        return AUTO_METHODS["depth" if kind == "depth" else "gaussians"] if self.method == "auto" else self.method

    def method_name(self, kind: str) -> str:
        """:meth:`method_for` as results say it: of a network's file the name, without the folders that it lies in."""
        name = self.method_for(kind)
        return Path(name).name if name.endswith(".safetensors") else name

    def overridden(self) -> dict:
        """Name -> value, as JSON holds it, of what differs from its default: of files the name, of numbers that may be infinite
        the text. ``jobs`` changes no result."""
        names = self.given(*(field.name for field in fields(self) if field.name != "jobs"))
        values = {name: getattr(self, name) for name in names}
        if "method" in values:
            values["method"] = self.method_name(self.kind)
        if self.rgb is not None:
            values["rgb"] = self.rgb.name
        if "no_surface" in values:
            values["no_surface"] = [str(number) for number in self.no_surface]
        return values

    def given(self, *names: str) -> list[str]:
        """Those of the named options that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]
