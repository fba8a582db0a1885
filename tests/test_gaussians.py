import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from scipy.special import sph_harm_y

from splathead.gaussians import Gaussians, evaluate_sh, quaternion_to_matrix


def random_gaussians(count=50, degree=0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g),
        torch.randn(count, 3, generator=g),
        torch.randn(count, 4, generator=g),
        torch.randn(count, generator=g),
        torch.randn(count, (degree + 1) ** 2, 3, generator=g),
    )


def test_rotations_are_orthonormal_for_unnormalised_quaternions():
    rotation = quaternion_to_matrix(torch.randn(20, 4, dtype=torch.float64) * 3)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_match_scipy_up_to_the_field_sign_convention(degree):
    """Each basis function is +-sqrt(2) times the real or imaginary part of scipy's complex harmonic."""
    directions = torch.nn.functional.normalize(torch.randn(200, 3, dtype=torch.float64), dim=-1)
    x, y, z = directions.unbind(-1)
    theta, phi = torch.acos(z).numpy(), torch.atan2(y, x).numpy()
    for m in range(-degree, degree + 1):
        sh = torch.zeros(200, (degree + 1) ** 2, 3, dtype=torch.float64)
        sh[:, degree * degree + degree + m] = 1
        ours = evaluate_sh(sh, directions)[:, 0]
        complex_value = sph_harm_y(degree, abs(m), theta, phi)
        part = complex_value.real if m >= 0 else complex_value.imag
        expected = torch.from_numpy(part * (2**0.5 if m else 1.0))
        # 3DGS multiplies by the Condon-Shortley sign once more: only the overall sign may differ
        error = min(float((ours - expected).abs().max()), float((ours + expected).abs().max()))
        assert error < 1e-6, (degree, m)


def test_normals_are_the_shortest_axis_towards_the_camera():
    gaussians = random_gaussians(1)
    gaussians.log_scales = torch.tensor([[0.0, 0.0, -5.0]])
    gaussians.quaternions = torch.tensor([[1.0, 0, 0, 0]])
    gaussians.means = torch.zeros(1, 3)
    for z in (5.0, -5.0):
        normal = gaussians.shortest_axis_normals(torch.tensor([0.3, 0.2, z]))
        torch.testing.assert_close(normal, torch.tensor([[0.0, 0.0, 1.0 if z > 0 else -1.0]]))


def test_similarity_transform_moves_covariances_too():
    gaussians = random_gaussians()
    rotation = quaternion_to_matrix(torch.randn(1, 4))[0]
    moved = gaussians.transformed(rotation, torch.tensor([1.0, 2, 3]), 4.0)

    def covariance(g):
        factor = g.rotations * g.scales[:, None, :]
        return factor @ factor.transpose(1, 2)

    torch.testing.assert_close(covariance(moved), 16 * rotation @ covariance(gaussians) @ rotation.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moved.means, 4 * gaussians.means @ rotation.T + torch.tensor([1.0, 2, 3]))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_similarity_transform_turns_view_dependent_colour_with_the_scene(degree):
    gaussians = random_gaussians(degree=degree).to(dtype=torch.float64)
    rotation = quaternion_to_matrix(torch.tensor([[0.3, -0.7, 0.2, 0.9]], dtype=torch.float64))[0]
    translation, camera = torch.tensor([1.0, 2, 3]).double(), torch.tensor([4.0, -1, 2]).double()
    moved = gaussians.transformed(rotation, translation, 4.0)
    seen = moved.colours(4.0 * rotation @ camera + translation)
    torch.testing.assert_close(seen, gaussians.colours(camera), rtol=0, atol=1e-9)
    if degree:  # the test can fail: unturned harmonics show other colours
        moved.sh = gaussians.sh
        assert (moved.colours(4.0 * rotation @ camera + translation) - gaussians.colours(camera)).abs().max() > 0.1


def test_shapes_are_checked():
    good = random_gaussians(3)
    with pytest.raises(ValueError, match=r"quaternions has shape \(3, 3\), expected \(3, 4\)"):
        Gaussians(good.means, good.log_scales, good.log_scales, good.opacity_logits, good.sh)
    with pytest.raises(ValueError, match=r"1\|4\|9\|16"):
        Gaussians(good.means, good.log_scales, good.quaternions, good.opacity_logits, good.sh[:, :0])


def test_imports_of_two_threads_do_not_wait_for_each_other():
    """The tool imports what meshes need beside reading the head: that stopped one call in some dozens."""
    code = """
import sys, threading, time
import torch
from splathead.gaussians import matrix_to_quaternion

begun, inside, failed = threading.Event(), threading.Event(), []

def watch(event, arguments):
    if event == "import" and arguments[0] == "scipy.spatial._hausdorff":  # of the other thread, half through scipy.spatial
        begun.set()
        inside.wait(1)
    if event == "import" and arguments[0] == "scipy.spatial.transform._rotation_cy" and not inside.is_set():
        inside.set()
        time.sleep(1)  # until the other one wants scipy.spatial.transform

sys.addaudithook(watch)

def other():
    try:
        import scipy.spatial
    except BaseException as error:
        failed.append(error)

assert "scipy.spatial" not in sys.modules
thread = threading.Thread(target=other)
thread.start()
begun.wait()
print(matrix_to_quaternion(torch.eye(3)).tolist())
thread.join()
assert not failed, failed
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "[1.0, 0.0, 0.0, 0.0]", done.stderr
