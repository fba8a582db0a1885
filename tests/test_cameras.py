import numpy as np
import pytest

from splathead.cameras import (
    Camera,
    camera_yaw_elevation,
    load_cameras,
    look_at,
    orbit_camera,
    save_cameras,
)


def test_facelift_rig_matches_the_published_intrinsics():
    camera = orbit_camera(0, size=512)
    assert camera.fx == pytest.approx(548.9937744, abs=1e-5)
    assert orbit_camera(0, size=1024).fx == pytest.approx(1097.9875, abs=1e-3)
    assert np.linalg.norm(camera.position) == pytest.approx(2.7 * 180)
    assert camera.hfov_deg == pytest.approx(50)


def test_axes_x_right_y_down_z_forward():
    camera = orbit_camera(0, size=100)
    pixels, z = camera.project(np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 50]]))
    assert pixels[0] == pytest.approx([50, 50])
    # we look at the face (+Z towards us): the subject's left (+X) is at the image's right, +Y is up
    assert pixels[1, 0] > 50 and pixels[1, 1] == pytest.approx(50)
    assert pixels[2, 1] < 50
    assert z[3] == pytest.approx(486 - 50)


def test_positive_yaw_moves_towards_the_subjects_left_and_round_trips():
    camera = orbit_camera(35, 12)
    assert camera.position[0] > 0 and camera.position[1] > 0
    assert camera_yaw_elevation(camera) == pytest.approx((35, 12))


def test_unproject_inverts_project_at_pixel_centres():
    camera = Camera(7, 5, 9.0, 8.0, 2.5, 3.25, look_at(np.array([1.0, 2, 3]), np.zeros(3), np.array([0.0, 1, 0])))
    depth = np.random.default_rng(0).uniform(1, 4, (5, 7)).astype(np.float32)
    points = camera.unproject(depth)
    pixels, z = camera.project(points.reshape(-1, 3))
    columns, rows = np.meshgrid(np.arange(7) + 0.5, np.arange(5) + 0.5)
    np.testing.assert_allclose(pixels[:, 0].reshape(5, 7), columns, atol=1e-5)
    np.testing.assert_allclose(pixels[:, 1].reshape(5, 7), rows, atol=1e-5)
    np.testing.assert_allclose(z.reshape(5, 7), depth, rtol=1e-6)


def test_resizing_keeps_rays():
    camera = orbit_camera(20, size=64)
    small = camera.resized(16)
    # the ray of a low-resolution pixel is the mean of its 4x4 block's rays: align_corners=False
    blocks = camera.ray_directions().reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(small.ray_directions(), blocks, atol=1e-12)


def test_depth_is_z_not_ray_length():
    camera = orbit_camera(0, size=64)
    points = camera.unproject(np.full((64, 64), 100.0), world=False)
    np.testing.assert_allclose(points[..., 2], 100.0)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([2.0, 1, 1, 1]), "not a rigid motion"),
        (np.diag([-1.0, 1, 1, 1]), "det R = -1"),
        (np.zeros((4, 4)), "not a rigid motion"),
        (np.full((4, 4), np.nan), "finite 4x4"),
        (np.eye(3), r"shape \(3, 3\)"),
    ],
)
def test_bad_matrices_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        Camera(8, 8, 10, 10, 4, 4, matrix, "front")


def test_json_round_trip_and_errors_name_the_file(tmp_path):
    path = tmp_path / "cameras.json"
    cameras = [orbit_camera(yaw, 5, 32) for yaw in (-30, 0)]
    save_cameras(path, cameras)
    for before, after in zip(cameras, load_cameras(path), strict=True):
        assert before.name == after.name
        np.testing.assert_array_equal(before.world_to_cam, after.world_to_cam)
    path.write_text(path.read_text().replace('"fx"', '"focal"'))
    with pytest.raises(ValueError, match=r"cameras\.json: camera entry with keys"):
        load_cameras(path)


def test_look_at_degenerate():
    with pytest.raises(ValueError, match="parallel"):
        look_at(np.array([0.0, 5, 0]), np.zeros(3), np.array([0.0, 1, 0]))
