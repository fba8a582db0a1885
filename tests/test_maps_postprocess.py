"""Clean-up of rendered views: floaters, components, holes, normals, errors; bilateral smoothing against a loop."""

import numpy as np
import pytest
from analytic_surfaces import ellipsoid_normals, head_view

from splathead.config import PostprocessConfig
from splathead.maps.bilateral import joint_bilateral_normals
from splathead.maps.clean import clean_mask, find_floaters, find_holes
from splathead.maps.postprocess import clean_view

SIZE = 256


def disc(row: float, column: float, radius: float, size: int = SIZE) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def rendered_view(size: int = SIZE):
    """Camera and maps as stage 03 writes them of the head ellipsoid."""
    camera, depth = head_view(size)
    mask = depth > 0
    normals = np.where(mask[..., None], ellipsoid_normals(camera, np.where(mask, depth, 1)), 0)
    return camera, {
        "alpha": mask.astype(np.float16), "depth": depth, "depth_median": depth.copy(),
        "depth_variance": np.where(mask, 2.0, 0).astype(np.float32),
        "rgb": np.where(mask[..., None], 150, 0).astype(np.uint8) * np.ones(3, np.uint8),
        "normal": np.rint(normals * 127).astype(np.int8),
    }  # fmt: skip


def erase(maps: dict, where: np.ndarray) -> dict:
    erased = {name: value.copy() for name, value in maps.items()}
    for value in erased.values():
        value[where] = 0
    return erased


def test_a_clean_view_stays_as_it_is():
    camera, maps = rendered_view()
    clean = clean_view(maps, camera, PostprocessConfig(), "view")
    for name, value in maps.items():
        np.testing.assert_array_equal(clean[name], value, err_msg=name)
        assert clean[name].dtype == value.dtype
    assert clean["mask"].dtype == bool and clean["mask"].sum() == (maps["depth"] > 0).sum()
    truth = ellipsoid_normals(camera, np.where(clean["mask"], clean["depth"], 1))
    inner = disc(128, 128, 40)
    cosine = (clean["depth_normal"][inner] / 127 * truth[inner]).sum(-1)
    assert cosine.min() > 0.99  # int8 rounding


@pytest.mark.parametrize("size", [SIZE, 512])
def test_holes_are_filled_with_the_surface_at_every_resolution(size):
    camera, maps = rendered_view(size)
    s = size / SIZE
    hole, slit = disc(120 * s, 130 * s, 9 * s, size), np.zeros((size, size), bool)
    slit[round(150 * s), round(110 * s) : round(140 * s)] = True
    clean = clean_view(erase(maps, hole | slit), camera, PostprocessConfig(), "view")
    assert clean["mask"][hole | slit].all()
    for name in ("depth", "depth_median"):
        assert np.abs(clean[name] - maps[name])[hole | slit].max() < 0.1
    assert (clean["alpha"][hole] == 0).all() and (clean["depth_variance"][hole] == 0).all()  # nothing is invented there


def test_large_holes_are_left_or_filled_from_the_nearest_pixel():
    camera, maps = rendered_view()
    hole = disc(128, 128, 20)
    left = clean_view(erase(maps, hole), camera, PostprocessConfig(), "view")
    assert not left["mask"][hole].any() and (left["depth"][hole] == 0).all()
    filled = clean_view(erase(maps, hole), camera, PostprocessConfig(large_holes="nearest"), "view")
    assert filled["mask"][hole].all() and np.abs(filled["depth"] - maps["depth"])[hole].max() < 12


def test_small_components_and_low_alpha_are_removed():
    camera, maps = rendered_view()
    speck, island, soft = disc(30, 30, 1.2), disc(30, 60, 6), disc(30, 100, 6)
    for part, alpha in ((speck, 1.0), (island, 1.0), (soft, 0.4)):
        maps["alpha"][part], maps["depth"][part], maps["depth_median"][part] = alpha, 480, 480
    assert not clean_view(maps, camera, PostprocessConfig(), "view")["mask"][speck | soft | island].any()
    clean = clean_view(maps, camera, PostprocessConfig(min_component_share=0.01), "view")
    assert not clean["mask"][speck | soft].any() and clean["mask"][island].all()  # 1.3 % of the head
    for name in ("depth", "depth_variance", "alpha", "rgb"):
        assert not clean[name][speck | soft].any()
    assert clean["alpha"].max() == 1


def test_floaters_in_front_of_the_head_are_removed_and_their_hole_filled():
    camera, maps = rendered_view()
    nearest = maps["depth"][maps["depth"] > 0].min()
    floater, beside, lock = disc(120, 130, 7), disc(40, 128, 7), disc(150, 128, 6)
    true_depth = maps["depth"].copy()
    for part, depth in ((floater, nearest - 60), (beside, nearest - 80), (lock, nearest - 20)):
        maps["alpha"][part], maps["depth"][part], maps["depth_median"][part] = 1, depth, depth
    clean = clean_view(maps, camera, PostprocessConfig(floater_mm=30), "view")
    assert not clean["mask"][beside & (true_depth == 0)].any()
    assert clean["mask"][floater].all() and np.abs(clean["depth"] - true_depth)[floater].max() < 0.5
    np.testing.assert_array_equal(clean["depth"][lock], maps["depth"][lock])  # 20 mm in front: hair, a nose, not a floater


def test_floaters_are_cut_off_by_median_depth_where_expected_depth_smears():
    _, maps = rendered_view()
    mask = maps["depth"] > 0
    y, x = np.mgrid[:SIZE, :SIZE]
    soft = np.clip(1.5 - np.hypot(y - 120, x - 130) / 12, 0, 1)  # a floater's opacity, from its centre outwards
    near = maps["depth"][mask].min() - 60
    expected = np.where(mask, soft * near + (1 - soft) * maps["depth"], 0)
    median = np.where(mask & (soft > 0.5), near, maps["depth"])
    assert not find_floaters(expected, mask, 30).any()
    np.testing.assert_array_equal(find_floaters(median, mask, 30), mask & (soft > 0.5))


def test_closing_does_not_eat_into_a_head_that_leaves_the_image():
    alpha = np.zeros((1024, 1024), np.float32)
    alpha[500:, 300:700] = 1
    parts = clean_mask(alpha, np.full(alpha.shape, 450.0), PostprocessConfig(), 1024)
    np.testing.assert_array_equal(parts.mask, alpha > 0.5)


def test_find_holes_counts_only_what_is_enclosed():
    mask = np.ones((40, 40), bool)
    mask[:10, 5:8] = False  # open to the border
    mask[20:22, 20:22] = False
    mask[30:36, 10:16] = False
    small, large = find_holes(mask, 10)
    assert small.sum() == 4 and small[20:22, 20:22].all()
    assert large.sum() == 36 and large[30:36, 10:16].all()


def test_an_empty_mask_is_an_error_that_names_the_view():
    camera, maps = rendered_view()
    maps["alpha"] *= np.float16(0.3)
    with pytest.raises(ValueError, match=r"subject anna, view front: empty mask .*largest alpha 0\.3"):
        clean_view(maps, camera, PostprocessConfig(), "subject anna, view front")
    empty = {name: np.zeros_like(value) for name, value in maps.items()}
    with pytest.raises(ValueError, match="empty mask"):
        clean_view(empty, camera, PostprocessConfig(), "view")


def slow_bilateral(normals, mask, guide, diameter, sigma_px, sigma_colour):
    result, radius = np.zeros_like(normals), diameter // 2
    for v, u in zip(*np.nonzero(mask)):
        total = np.zeros(3)
        for y in range(max(0, v - radius), min(mask.shape[0], v + radius + 1)):
            for x in range(max(0, u - radius), min(mask.shape[1], u + radius + 1)):
                squared = (y - v) ** 2 + (x - u) ** 2
                if mask[y, x] and squared <= radius**2:
                    colour = np.abs(guide[y, x].astype(float) - guide[v, u].astype(float)).sum()
                    total += np.exp(-squared / (2 * sigma_px**2) - colour**2 / (2 * sigma_colour**2)) * normals[y, x]
        result[v, u] = total / np.linalg.norm(total)
    return result


def test_bilateral_normals_equal_the_slow_reference_and_respect_colour_edges():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(20, 24, 3)) * 0.3 + [0, 0, -1]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    mask, guide = rng.random((20, 24)) < 0.8, rng.integers(0, 255, (20, 24, 3)).astype(np.uint8)
    settings = {"diameter_px": 5, "sigma_px": 2.0, "sigma_colour": 90.0}
    smooth = joint_bilateral_normals(normals, mask, guide, **settings)
    np.testing.assert_allclose(smooth, slow_bilateral(normals, mask, guide, 5, 2.0, 90.0), atol=1e-5)
    sides = np.where(np.arange(24)[:, None] < 12, [0.6, 0, -0.8], [-0.6, 0, -0.8]) * np.ones((20, 1, 1))
    two_colours = np.where(np.arange(24)[:, None] < 12, 20, 230).astype(np.uint8) * np.ones((20, 1, 3), np.uint8)
    kept = joint_bilateral_normals(sides, np.ones((20, 24), bool), two_colours)
    np.testing.assert_allclose(kept, sides, atol=1e-5)
    blurred = joint_bilateral_normals(sides, np.ones((20, 24), bool), np.zeros_like(two_colours))
    assert abs(blurred[10, 11, 0]) < 0.3
    assert np.array_equal(joint_bilateral_normals(np.where(mask[..., None], normals, np.nan), mask, guide, **settings), smooth)


@pytest.mark.parametrize(("shape", "kind"), [((20, 24, 3), np.uint16), ((10, 10, 3), np.uint8), ((20, 24), np.uint8)])
def test_a_guide_that_is_no_8_bit_picture_of_that_size_is_an_error(shape, kind):
    with pytest.raises(ValueError, match=r"guide of shape .* expected uint8 of the size of normals of shape \(20, 24, 3\)"):
        joint_bilateral_normals(np.ones((20, 24, 3)), np.ones((20, 24), bool), np.zeros(shape, kind))


def test_a_head_in_front_of_its_shoulders_is_no_floater():
    depth = np.full((64, 64), 500, np.float32)
    head, speck = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    head[8:32, 20:44], speck[50:53, 5:8] = True, True
    depth[head], depth[speck] = 440, 430
    mask = np.ones((64, 64), bool)
    floaters = find_floaters(depth, mask, 30)
    assert floaters[51, 6] and not floaters[head].any()
