import json

import cv2
import numpy as np
import pytest

from splathead.cameras import orbit_camera
from splathead.images import (
    DepthEncoding,
    DepthMap,
    atomic_path,
    encode_normals,
    load_depth_png,
    load_maps,
    read_png,
    save_depth_png,
    save_maps,
    sidecar_path,
    write_png,
)


def depth_map(bits, size=32, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.random((size, size)) > 0.3
    depth = np.where(mask, rng.uniform(400, 600, mask.shape), 0).astype(np.float32)
    return DepthMap(depth, mask, DepthEncoding.from_depth(depth, mask, bits, "mm"), orbit_camera(10, size=size), "test")


@pytest.mark.parametrize("bits", [6, 8, 10, 16])
def test_depth_png_round_trip_is_within_half_a_step(tmp_path, bits):
    before = depth_map(bits)
    save_depth_png(tmp_path / "d.png", before)
    after = load_depth_png(tmp_path / "d.png")
    np.testing.assert_array_equal(before.mask, after.mask)
    error = np.abs(before.depth - after.depth)[before.mask]
    assert error.max() <= before.encoding.lsb / 2 * 1.001 + 1e-4
    assert error.max() > before.encoding.lsb / 8  # it is quantised, not passed through
    assert after.encoding == before.encoding and after.camera.name == before.camera.name


def test_code_of_near_is_one_and_of_far_is_the_last():
    encoding = DepthEncoding(100.0, 200.0, 8, "mm")
    assert encoding.encode(np.array([[100.0, 200.0, 150.0]]), np.array([[True, True, False]])).tolist() == [[1, 255, 0]]
    assert encoding.lsb == pytest.approx(100 / 254)
    assert DepthEncoding(100.0, 200.0, 16, "mm").steps == 65534


def test_missing_sidecar_wrong_bits_and_wrong_size_are_errors(tmp_path):
    path = tmp_path / "d.png"
    save_depth_png(path, depth_map(16))
    text = sidecar_path(path).read_text()
    write_png(path, (read_png(path, channels=1, bits=16) // 256).astype(np.uint8))
    with pytest.raises(ValueError, match=r"1 channel\(s\) of 8 bits, expected 1 of 16 bits"):
        load_depth_png(path)
    save_depth_png(path, depth_map(16))
    sidecar_path(path).write_text(text.replace('"width": 32', '"width": 33'))
    with pytest.raises(ValueError, match="image of 32x32, sidecar says 33x32"):
        load_depth_png(path)
    sidecar_path(path).write_text(json.dumps({"schema": 7}))
    with pytest.raises(ValueError, match="schema 7, expected 1"):
        load_depth_png(path)
    sidecar_path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"sidecar d\.json .* is missing"):
        load_depth_png(path)


def test_empty_mask_and_nan_are_errors():
    with pytest.raises(ValueError, match="empty mask"):
        DepthEncoding.from_depth(np.ones((2, 2)), np.zeros((2, 2), bool), 8, "mm")
    with pytest.raises(ValueError, match="NaN"):
        DepthEncoding(1.0, 2.0, 8, "mm").encode(np.array([[np.nan]]), np.array([[True]]))


def test_rgba_against_rgb_and_truncated_png(tmp_path):
    path = tmp_path / "image.png"
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 4), dtype=np.uint8)
    write_png(path, image)
    np.testing.assert_array_equal(read_png(path, channels=4, bits=8), image)
    with pytest.raises(ValueError, match=r"4 channel\(s\) of 8 bits, expected 3 of 8 bits"):
        read_png(path, channels=3, bits=8)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a readable image"):
        read_png(path, channels=4, bits=8)


def test_channel_order_on_disk_is_rgb(tmp_path):
    write_png(tmp_path / "red.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 255]


def test_failed_write_leaves_the_good_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("good")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "good" and list(tmp_path.iterdir()) == [path]


def test_map_store_round_trip_and_crop(tmp_path):
    alpha = np.zeros((40, 50), np.float16)
    alpha[10:20, 30:45] = 1
    depth = (alpha * np.random.default_rng(0).random(alpha.shape)).astype(np.float32)
    normal = np.stack([alpha * 100] * 3, -1).astype(np.int8)
    save_maps(tmp_path / "v.npz", {"alpha": alpha, "depth": depth, "normal": normal})
    loaded = load_maps(tmp_path / "v.npz")
    for name, value in (("alpha", alpha), ("depth", depth), ("normal", normal)):
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
    assert (tmp_path / "v.npz").stat().st_size < 40 * 50 * 9
    with pytest.raises(KeyError, match="no map 'variance'"):
        load_maps(tmp_path / "v.npz", ("variance",))
    save_maps(tmp_path / "e.npz", {"alpha": alpha * 0})
    assert load_maps(tmp_path / "e.npz")["alpha"].shape == (40, 50)


def test_normal_colours():
    normals = np.array([[[0.0, 0, -1], [1, 0, 0], [0, -1, 0], [0, 0, 0]]])
    assert encode_normals(normals)[0].tolist() == [[128, 128, 255], [255, 128, 128], [128, 255, 128], [0, 0, 0]]
