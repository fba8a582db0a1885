"""The 3D Gaussian container: raw parameters as 3D Gaussian splatting (Kerbl et al. 2023) optimises them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SH_C0 = 0.28209479177387814
SH_C1 = 0.4886025119029199
SH_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
SH_C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip


@dataclass
class Gaussians:
    """N anisotropic 3D Gaussians; every tensor on one device, float32 (or float64 for the reference).

    ``unit`` is "mm" for heads of known size and "scene" otherwise.
    """

    means: Tensor  # [N, 3] world
    log_scales: Tensor  # [N, 3] natural logarithm of the standard deviations
    quaternions: Tensor  # [N, 4] w, x, y, z; normalised where they are used
    opacity_logits: Tensor  # [N]
    sh: Tensor  # [N, (degree + 1)^2, 3] real spherical harmonics, colour = 0.5 + sum
    unit: str = "scene"

    def __post_init__(self) -> None:
        count = self.means.shape[0]
        expected = {
            "means": (count, 3), "log_scales": (count, 3), "quaternions": (count, 4), "opacity_logits": (count,),
        }  # fmt: skip
        for name, shape in expected.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"Gaussians.{name} has shape {actual}, expected {shape}")
        if self.sh.ndim != 3 or self.sh.shape[0] != count or self.sh.shape[2] != 3 or self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"Gaussians.sh has shape {tuple(self.sh.shape)}, expected ({count}, 1|4|9|16, 3)")
        if self.unit not in ("mm", "scene"):
            raise ValueError(f"Gaussians.unit is {self.unit!r}, expected 'mm' or 'scene'")

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return math.isqrt(self.sh.shape[1]) - 1

    @property
    def scales(self) -> Tensor:
        """Standard deviations [N, 3]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Opacities [N] in (0, 1)."""
        return self.opacity_logits.sigmoid()

    @property
    def rotations(self) -> Tensor:
        """Rotation matrices [N, 3, 3]; column k is the world direction of axis k."""
        return quaternion_to_matrix(self.quaternions)

    def _map(self, function) -> Gaussians:
        tensors = {f.name: function(getattr(self, f.name)) for f in fields(self) if f.name != "unit"}
        return replace(self, **tensors)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussians:
        """Copy on another device or in another precision."""
        return self._map(lambda t: t.to(device=device, dtype=dtype))

    def detach(self) -> Gaussians:
        """The same values without gradient history."""
        return self._map(lambda t: t.detach())

    def select(self, index: Tensor) -> Gaussians:
        """Subset by boolean mask or index tensor."""
        return self._map(lambda t: t[index])

    def transformed(self, rotation: Tensor, translation: Tensor, scale: float = 1.0) -> Gaussians:
        """Similarity transform x -> scale * R x + t of positions, extents, orientations and harmonics."""
        rotation = rotation.to(self.means)
        return replace(
            self,
            means=scale * self.means @ rotation.T + translation.to(self.means),
            log_scales=self.log_scales + math.log(scale),
            quaternions=quaternion_multiply(matrix_to_quaternion(rotation), self.quaternions),
            sh=rotate_sh(self.sh, rotation),
        )

    def colours(self, camera_position: Tensor) -> Tensor:
        """View-dependent colours [N, 3] seen from ``camera_position`` [3], clamped below at 0 as in 3DGS."""
        if self.sh_degree == 0:  # the same from everywhere
            return (SH_C0 * self.sh[:, 0] + 0.5).clamp_min(0.0)
        directions = torch.nn.functional.normalize(self.means - camera_position.to(self.means), dim=-1)
        return (evaluate_sh(self.sh, directions) + 0.5).clamp_min(0.0)

    def shortest_axis_normals(self, camera_position: Tensor) -> Tensor:
        """Unit normals [N, 3]: each splat's shortest axis, turned towards the camera."""
        axis = self.log_scales.argmin(dim=1)
        normals = torch.gather(self.rotations, 2, axis[:, None, None].expand(-1, 3, 1))[..., 0]
        away = ((self.means - camera_position.to(self.means)) * normals).sum(-1, keepdim=True)
        return torch.where(away > 0, -normals, normals)


def quaternion_to_matrix(quaternions: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4] (w, x, y, z), normalised here."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Quaternion [4] (w, x, y, z) of one rotation matrix [3, 3]."""
    # not from scipy.spatial.transform: while another thread imports scipy.spatial, that is a deadlock to Python
    from scipy.spatial import transform

    x, y, z, w = transform.Rotation.from_matrix(rotation.detach().cpu().double().numpy()).as_quat()
    return torch.tensor([w, x, y, z]).to(rotation)


def quaternion_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product of quaternions [..., 4] (w, x, y, z)."""
    aw, ax, ay, az = left.unbind(-1)
    bw, bx, by, bz = right.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def evaluate_sh(sh: Tensor, directions: Tensor) -> Tensor:
    """Real spherical harmonics [N, 3] for coefficients [N, K, 3] and unit directions [N, 3] (camera to splat)."""
    result = SH_C0 * sh[:, 0]
    if sh.shape[1] == 1:
        return result
    x, y, z = directions[:, 0:1], directions[:, 1:2], directions[:, 2:3]
    result = result + SH_C1 * (-y * sh[:, 1] + z * sh[:, 2] - x * sh[:, 3])
    if sh.shape[1] == 4:
        return result
    xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
    basis2 = (xy, yz, 2 * zz - xx - yy, xz, xx - yy)
    for k, (coefficient, term) in enumerate(zip(SH_C2, basis2, strict=True)):
        result = result + coefficient * term * sh[:, 4 + k]
    if sh.shape[1] == 9:
        return result
    basis3 = (
        y * (3 * xx - yy), xy * z, y * (4 * zz - xx - yy), z * (2 * zz - 3 * xx - 3 * yy),
        x * (4 * zz - xx - yy), z * (xx - yy), x * (xx - 3 * yy),
    )  # fmt: skip
    for k, (coefficient, term) in enumerate(zip(SH_C3, basis3, strict=True)):
        result = result + coefficient * term * sh[:, 9 + k]
    return result


def rotate_sh(sh: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients [N, K, 3] of the rotated function f'(d) = f(R^T d), for any rotation R [3, 3].

    Rotation maps each band to itself; its matrix is found by evaluating the band's functions at
    sampled directions before and after the rotation and solving for it (exact up to rounding).
    """
    bands = math.isqrt(sh.shape[1])
    if bands == 1:
        return sh
    directions = _fibonacci_sphere(64).to(sh.device)
    turned = directions @ rotation.to(directions)  # row d^T R is (R^T d)^T
    before, after = (_sh_basis(d, sh.shape[1]) for d in (turned, directions))
    matrix = torch.eye(sh.shape[1], dtype=directions.dtype, device=sh.device)
    for degree in range(1, bands):
        band = slice(degree**2, (degree + 1) ** 2)
        matrix[band, band] = torch.linalg.lstsq(after[:, band], before[:, band]).solution
    return matrix.to(sh) @ sh


def _fibonacci_sphere(count: int) -> Tensor:
    """Nearly uniform unit directions [count, 3] float64."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * k / count, k * math.pi * (1 + math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)


def _sh_basis(directions: Tensor, count: int) -> Tensor:
    """Values [D, count] of the first ``count`` harmonics at unit directions [D, 3]."""
    one_hot = torch.eye(count).to(directions)[:, :, None].expand(-1, -1, 3)
    columns = [evaluate_sh(one_hot[k : k + 1], directions)[:, 0] for k in range(count)]
    return torch.stack([column.expand(len(directions)) for column in columns], dim=1)
