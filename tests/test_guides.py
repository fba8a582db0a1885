"""Guides in the input's own unit: slopes that normals imply, spread, cover; what is missing is zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splathead.cameras import orbit_camera
from splathead.guides import CODE_STEPS, GUIDE_CHANNELS, beside_input, guide_tensor, stored_maps, view_guides
from splathead.images import DepthEncoding, DepthMap
from splathead.maps.render_subject import pack_normals
from splathead.models.interpolation import upsample_mask

SIZE, SCALE = 128, 4


def plane(normal: np.ndarray, size: int, distance: float = 900.0):
    """z-depth of a plane in camera axes, and the camera."""
    camera = orbit_camera(0.0, size=size)
    return (normal[2] * distance) / (camera.ray_directions() @ normal), camera


def low_resolution(normal: np.ndarray, bits: int = 16) -> DepthMap:
    depth, camera = plane(normal, SIZE // SCALE)
    depth, mask = depth.astype(np.float32), np.zeros(depth.shape, bool)
    mask[4:-4, 6:-6] = True
    return DepthMap(depth * mask, mask, DepthEncoding.from_depth(depth * mask, mask, bits, "mm"), camera, "plane")


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.5, -0.2), (-0.8, 0.6)])
def test_slopes_are_those_of_the_depth_in_code_steps_per_pixel(tilt):
    normal = np.array([*tilt, -1.0]) / np.linalg.norm([*tilt, -1.0])
    lr = low_resolution(normal)
    normals = np.zeros((SIZE, SIZE, 3), np.int8)
    normals[8:-8, 8:-8] = pack_normals(normal)
    depth, camera = plane(normal, SIZE)
    found = view_guides(("slope",), {"normal": normals}, lr, SCALE)["slope"].astype(float)
    steps = depth * CODE_STEPS / (lr.encoding.far - lr.encoding.near)
    inner = (slice(20, -20), slice(30, -30))
    np.testing.assert_allclose(found[..., 0][inner], np.gradient(steps, axis=1)[inner], rtol=0.03, atol=2e-3)
    np.testing.assert_allclose(found[..., 1][inner], np.gradient(steps, axis=0)[inner], rtol=0.03, atol=2e-3)
    rays = camera.ray_directions()
    cosine = -(rays @ normal) / np.linalg.norm(rays, axis=-1)
    np.testing.assert_allclose(found[..., 2][inner], cosine[inner], atol=0.01)
    assert not found[:8].any() and not found[:, -8:].any()


def test_slopes_do_not_depend_on_the_bits():
    normal = np.array([0.3, 0.1, -1.0]) / np.linalg.norm([0.3, 0.1, -1.0])
    normals = np.broadcast_to(pack_normals(normal), (SIZE, SIZE, 3))
    inputs = (low_resolution(normal, bits) for bits in (16, 6))
    fine, coarse = (view_guides(("slope",), {"normal": normals}, lr, SCALE)["slope"] for lr in inputs)
    np.testing.assert_allclose(fine[40:-40, 40:-40].astype(float), coarse[40:-40, 40:-40].astype(float), rtol=0.02)


def test_spread_is_in_eight_code_steps_and_cover_is_the_mask():
    lr = low_resolution(np.array([0.3, 0.0, -1.0]))
    span = lr.encoding.far - lr.encoding.near
    guides = view_guides(("cover", "spread"), {"depth_variance": np.full((SIZE, SIZE), 4.0, np.float32)}, lr, SCALE)
    spread = guide_tensor(torch.from_numpy(guides["spread"])[None], "spread")[0]
    assert spread[0, 5, 5].item() == pytest.approx(2.0 / span * CODE_STEPS / 8, rel=1e-3)
    cover = guide_tensor(torch.from_numpy(guides["cover"])[None], "cover")[0, 0].numpy()
    assert np.array_equal(cover >= 0.5 - 1e-3, upsample_mask(lr.mask, SCALE)) and 0 < cover[16, 22] < 1


def test_missing_guides_are_zero_but_for_what_the_input_gives():
    lr, names = low_resolution(np.array([0.3, 0.0, -1.0])), ("cover", "slope", "spread", "alpha", "rgb")
    guides = view_guides(names, {}, lr, SCALE, absent=True)
    assert list(guides) == list(names) and guides["cover"].any()
    assert not any(guides[name].any() for name in names[1:])
    shapes = [guide_tensor(torch.from_numpy(guides[name])[None], name).shape for name in names]
    assert [shape[1] for shape in shapes] == [GUIDE_CHANNELS[name] for name in names]


def test_sources_and_tracks():
    assert stored_maps(("cover", "slope", "normal", "spread", "rgb")) == ("normal", "depth_variance", "rgb")
    assert beside_input(("cover", "rgb")) == ("rgb",) and beside_input(("cover",)) == ()
    with pytest.raises(ValueError, match=r"guide map depth_variance of shape \(64, 64\), expected \(128, 128\)"):
        view_guides(("spread",), {"depth_variance": np.zeros((64, 64))}, low_resolution(np.array([0.0, 0.0, -1.0])), SCALE)
