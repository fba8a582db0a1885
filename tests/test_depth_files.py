"""Depth files: every format written by another package, every meaning of their numbers, every way they can be wrong."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import OpenEXR
import pytest
import tifffile

from splathead.cameras import Camera, orbit_camera
from splathead.depth_files import DepthReading, load_depth, save_depth_exr
from splathead.images import DepthEncoding, DepthMap, load_depth_png, save_depth_png, sidecar_path

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def surface() -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] float32 of a bump between 1.9 and 2.6 units, 0 outside of the mask [H, W]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    radius = np.hypot(y - 18, x - 25) / 17
    mask = radius < 1
    depth = np.where(mask, 2.6 - 0.7 * np.sqrt(np.clip(1 - radius**2, 0, 1)), 0)
    return depth.astype(np.float32), mask


def code_of(depth: np.ndarray, mask: np.ndarray, bits: int, near: float = 1.9, far: float = 2.6) -> np.ndarray:
    """Codes as DESIGN states them: 0 = no surface, z = near + (code - 1) / (2^n - 2) (far - near)."""
    code = 1 + np.round((depth.astype(np.float64) - near) / (far - near) * (2**bits - 2))
    return np.where(mask, code, 0).astype(np.uint8 if bits == 8 else np.uint16)


def expect_error(path, match: str, **options) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        load_depth(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and message.count(str(path)) == 1


# ---- formats


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "npy", "tiff", "tiff lzw"])
def test_codes_from_near_to_far(tmp_path, surface, bits, kind):
    depth, mask = surface
    code, path = code_of(depth, mask, bits), tmp_path / "depth.png"
    if kind == "rgba":
        code[~mask] = 77  # what is transparent does not count
        alpha = np.where(mask, np.iinfo(code.dtype).max, 0).astype(code.dtype)
        iio.imwrite(path, np.dstack([code] * 3 + [alpha])) if bits == 8 else write_png16(path, np.dstack([code] * 3 + [alpha]))
    elif kind == "rgb":
        iio.imwrite(path, np.dstack([code] * 3)) if bits == 8 else write_png16(path, np.dstack([code] * 3))
    elif kind == "npy":
        np.save(tmp_path / "depth.npy", code)
        (tmp_path / "depth.npy").rename(path)  # told by content
    elif kind == "tiff":
        tifffile.imwrite(path, code, compression="zlib", predictor=True)
    elif kind == "tiff lzw":
        iio.imwrite(path, code, extension=".tif", plugin="pillow", compression="tiff_lzw")
    else:
        iio.imwrite(path, code)
    loaded = load_depth(path, 1.9, 2.6, 50.0)
    np.testing.assert_array_equal(loaded.mask, mask)
    half_step = 0.5 * 0.7 / (2**bits - 2)
    assert np.abs(loaded.depth - depth)[mask].max() <= half_step * 1.001 + 2e-7 and (loaded.depth[~mask] == 0).all()
    assert loaded.depth.dtype == np.float32 and loaded.encoding == DepthEncoding(1.9, 2.6, bits, "scene")
    assert loaded.camera.hfov_deg == pytest.approx(50) and loaded.camera.fx == loaded.camera.fy
    assert (loaded.camera.width, loaded.camera.height) == (WIDTH, HEIGHT)
    assert (loaded.camera.cx, loaded.camera.cy) == (WIDTH / 2, HEIGHT / 2)


def write_png16(path, image: np.ndarray) -> None:
    """16-bit colour PNG from the format's description: pillow writes 16 bits of grey only."""
    height, width, channels = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    "kind", ["exr", "exr half", "npy", "npy f2", "npy f8 fortran", "tiff", "tiff zlib 3", "tiff >", "tiff f8"]
)
def test_floats_are_depth(tmp_path, surface, kind):
    depth, mask = surface
    path = tmp_path / "depth.bin"
    if kind.startswith("exr"):
        values = depth.astype(np.float16) if "half" in kind else depth
        OpenEXR.File({"compression": OpenEXR.PIZ_COMPRESSION}, {"Z": values}).write(str(path))
    elif kind.startswith("npy"):
        values = {"npy": depth, "npy f2": depth.astype("f2"), "npy f8 fortran": np.asfortranarray(depth.astype(">f8"))}[kind]
        with path.open("wb") as stream:
            np.save(stream, values[..., None] if kind == "npy" else values)
    elif kind == "tiff zlib 3":
        # tifffile needs imagecodecs to write the floating-point predictor: pillow's libtiff does it
        iio.imwrite(path, depth, extension=".tif", plugin="pillow", compression="tiff_adobe_deflate", tiffinfo={317: 3})
    else:
        tifffile.imwrite(path, depth.astype("f8") if "f8" in kind else depth, byteorder=">" if ">" in kind else "<")
    loaded = load_depth(path, hfov=40)
    np.testing.assert_array_equal(loaded.mask, mask)
    expected = depth.astype(np.float16).astype(np.float32) if kind in ("exr half", "npy f2") else depth
    np.testing.assert_array_equal(loaded.depth, expected)
    assert loaded.encoding.bits == 16 and loaded.encoding.near == pytest.approx(float(expected[mask].min()))


def test_our_own_files_carry_everything(tmp_path, surface):
    depth, mask = surface
    camera = orbit_camera(25.0, size=WIDTH).cropped(slice(3, 3 + HEIGHT), slice(0, WIDTH))
    original = DepthMap(180 * depth, mask, DepthEncoding(340.0, 470.0, 16, "mm"), camera, "test: ä")
    save_depth_png(tmp_path / "a.png", original)
    save_depth_exr(tmp_path / "a.exr", original)
    from_png, from_exr = load_depth(tmp_path / "a.png"), load_depth(tmp_path / "a.exr")
    np.testing.assert_array_equal(from_png.depth, load_depth_png(tmp_path / "a.png").depth)
    np.testing.assert_array_equal(from_exr.depth, original.depth)
    assert np.abs(from_png.depth - original.depth).max() <= 0.501 * original.encoding.lsb
    for loaded in (from_png, from_exr):
        assert loaded.source == "test: ä" and loaded.encoding.unit == "mm"
        assert loaded.camera.to_dict() == camera.to_dict()
    for name in ("a.png", "a.exr"):
        expect_error(tmp_path / name, "says scale and camera, but near, far, hfov were given", near=1.0, far=2.0, hfov=50.0)
        reading = DepthReading(scale=0.001, unit="mm")
        expect_error(tmp_path / name, "says scale and camera, but scale, unit were given", reading=reading)
    # the same codes without a sidecar, with what it says given by hand
    sidecar_path(tmp_path / "a.png").write_text('{"another": "tool"}')
    by_hand = load_depth(tmp_path / "a.png", 340.0, 470.0, camera.hfov_deg, DepthReading(unit="mm"))
    np.testing.assert_array_equal(by_hand.depth, from_png.depth)
    assert by_hand.encoding == from_png.encoding


def test_written_exr_for_other_readers(tmp_path, surface):
    depth, mask = surface
    garbage = np.where(mask, depth, np.float32(np.nan))  # outside of the mask nothing counts
    original = DepthMap(garbage, mask, DepthEncoding(1.9, 2.6, 16, "scene"), load_camera(), "test")
    save_depth_exr(tmp_path / "a.exr", original)
    save_depth_exr(tmp_path / "b.exr", original)
    assert (tmp_path / "a.exr").read_bytes() == (tmp_path / "b.exr").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.exr", "b.exr"]
    channels = OpenEXR.File(str(tmp_path / "a.exr")).channels()
    assert list(channels) == ["Z"] and channels["Z"].pixels.dtype == np.float32
    np.testing.assert_array_equal(channels["Z"].pixels, depth)
    for wrong in (np.nan, np.inf, -1.0, 0.0):  # a surface at 0 would be read as none
        values = np.where(mask, depth, np.float32(wrong))
        with pytest.raises(ValueError, match="NaN, infinite, negative or 0, expected finite depth above 0 in the mask"):
            save_depth_exr(tmp_path / "c.exr", replace(original, depth=values, mask=np.ones_like(mask)))
    with pytest.raises(OSError):
        save_depth_exr(tmp_path / "a.exr" / "d.exr", DepthMap(depth, mask, original.encoding, original.camera, ""))
    assert not (tmp_path / "c.exr").exists()


def load_camera() -> Camera:
    return Camera(WIDTH, HEIGHT, 60.0, 61.0, 27.0, 21.0, np.eye(4), "c")


# ---- meanings


@pytest.mark.parametrize("values", ["normalised", "inverse"])
@pytest.mark.parametrize("white_is_near", [False, True])
@pytest.mark.parametrize("no_surface", [(0.0,), (255.0,), (), (0.0, 255.0)])
def test_conventions_of_8_bit_codes(tmp_path, values, white_is_near, no_surface):
    """Each code against the formula, one by one."""
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    iio.imwrite(tmp_path / "a.png", codes)
    reading = DepthReading(values=values, white_is_near=white_is_near, no_surface=no_surface)
    loaded = load_depth(tmp_path / "a.png", 2.0, 5.0, 50.0, reading)
    first, last = (1 if 0.0 in no_surface else 0), (254 if 255.0 in no_surface else 255)
    for code in range(256):
        found, row, column = loaded.depth[code // 16, code % 16], code // 16, code % 16
        assert loaded.mask[row, column] == (first <= code <= last)
        if first <= code <= last:
            t = (code - first) / (last - first)
            t = 1 - t if white_is_near else t
            z = 2 + 3 * t if values == "normalised" else 1 / (0.5 + t * (0.2 - 0.5))
            assert found == pytest.approx(z, rel=1e-6)
    ends = loaded.depth[first // 16, first % 16], loaded.depth[last // 16, last % 16]
    assert ends == pytest.approx((5, 2) if white_is_near else (2, 5))


def test_floats_from_near_to_far(tmp_path, surface):
    depth, mask = surface
    fraction = np.where(mask, (1 / depth.clip(1) - 1 / 1.9) / (1 / 2.6 - 1 / 1.9), np.nan).astype(np.float32)
    np.save(tmp_path / "a.npy", fraction)
    reading = DepthReading(values="inverse", no_surface=(math.nan,))
    loaded = load_depth(tmp_path / "a.npy", 1.9, 2.6, 50.0, reading)
    np.testing.assert_array_equal(loaded.mask, mask)
    np.testing.assert_allclose(loaded.depth[mask], depth[mask], atol=1e-6)
    np.save(tmp_path / "a.npy", fraction * 1.1)
    expect_error(tmp_path / "a.npy", "outside of 0 to 1 at [0-9]+ of", near=1.9, far=2.6, hfov=50.0, reading=reading)


def test_integers_that_are_depth(tmp_path, surface):
    depth, mask = surface
    millimetres = np.round(depth * 1000)
    for dtype in (np.uint16, np.int32):
        np.save(tmp_path / "a.npy", millimetres.astype(dtype))
        loaded = load_depth(tmp_path / "a.npy", hfov=50.0, reading=DepthReading(values="depth", scale=0.001))
        np.testing.assert_allclose(loaded.depth, millimetres * 0.001, rtol=1e-6)
        np.testing.assert_array_equal(loaded.mask, mask)
        assert loaded.encoding.lsb == pytest.approx(0.001) and loaded.encoding.bits == 10  # 700 steps
    levels = np.arange(10_000, 10_255, dtype=np.uint16).reshape(15, 17)  # 255 fit into 8 bits, whatever floats make of them
    for scale in (0.1, 0.01):
        np.save(tmp_path / "a.npy", levels)
        assert load_depth(tmp_path / "a.npy", hfov=50.0, reading=DepthReading(values="depth", scale=scale)).encoding.bits == 8
    np.save(tmp_path / "a.npy", (depth * 1e7).astype(np.int32))
    loaded = load_depth(tmp_path / "a.npy", hfov=50.0, reading=DepthReading(values="depth", scale=1e-7, unit="mm"))
    assert loaded.encoding.bits == 16 and loaded.encoding.unit == "mm"
    np.save(tmp_path / "a.npy", -millimetres.astype(np.int32))
    reading = DepthReading(values="depth", scale=0.001)
    expect_error(tmp_path / "a.npy", "negative, 0 or too large", hfov=50.0, reading=reading)


def test_markers_of_no_surface(tmp_path, surface):
    depth, mask = surface
    for marker in (math.nan, math.inf, -1.0, 1e10):
        np.save(tmp_path / "a.npy", np.where(mask, depth, np.float32(marker)))
        loaded = load_depth(tmp_path / "a.npy", hfov=50.0, reading=DepthReading(no_surface=(0.0, marker)))
        np.testing.assert_array_equal(loaded.depth, depth)
        if marker != 1e10:
            found = "negative" if marker == -1 else "NaN or infinite"
            expect_error(tmp_path / "a.npy", f"{found}.* at {(~mask).sum()} of {mask.size} pixels .*row 0, column 0", hfov=50.0)
    reading = DepthReading(no_surface=(1e10, *depth[mask]))
    expect_error(tmp_path / "a.npy", "no pixel with a surface", hfov=50.0, reading=reading)


# ---- EXR files of other tools


def test_exr_channels(tmp_path, surface):
    depth, _ = surface
    path, other = tmp_path / "a.exr", np.ones_like(depth)
    OpenEXR.File({}, {"R": other, "G": other, "B": other, "ViewLayer.Depth.Z": depth}).write(str(path))
    np.testing.assert_array_equal(load_depth(path, hfov=50).depth, depth)
    expect_error(path, "0 channels .*expected 'Y'", hfov=50, reading=DepthReading(channel="Y"))
    OpenEXR.File({}, {"R": other, "Z": other, "depth": depth}).write(str(path))
    expect_error(path, "2 channels that could be the depth among R, Z, depth", hfov=50)
    np.testing.assert_array_equal(load_depth(path, hfov=50, reading=DepthReading(channel="depth")).depth, depth)
    OpenEXR.File({}, {"RGB": np.dstack([other] * 3)}).write(str(path))
    expect_error(path, "0 channels that could be the depth among B, G, R", hfov=50)
    parts = [OpenEXR.Part({"name": "beauty"}, {"RGB": np.dstack([other] * 3)}), OpenEXR.Part({"name": "z"}, {"Z": depth})]
    OpenEXR.File(parts).write(str(path))
    np.testing.assert_array_equal(load_depth(path, hfov=50).depth, depth)
    np.save(tmp_path / "a.npy", depth)
    expect_error(tmp_path / "a.npy", "channel 'Z' asked for", hfov=50, reading=DepthReading(channel="Z"))


@pytest.mark.parametrize("left, top", [(5, 7), (-6, 2)])
def test_exr_windows(tmp_path, surface, left, top):
    depth, _ = surface
    window = (np.array([left, top], np.int32), np.array([left + WIDTH - 1, top + HEIGHT - 1], np.int32))
    picture = (np.array([0, 0], np.int32), np.array([69, 49], np.int32))
    OpenEXR.File({"dataWindow": window, "displayWindow": picture}, {"Z": depth}).write(str(tmp_path / "a.exr"))
    expected = np.zeros((50, 70), np.float32)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if 0 <= row + top < 50 and 0 <= column + left < 70:
                expected[row + top, column + left] = depth[row, column]
    np.testing.assert_array_equal(load_depth(tmp_path / "a.exr", hfov=50).depth, expected)


def test_broken_exr(tmp_path, surface):
    path = tmp_path / "a.exr"
    OpenEXR.File({}, {"Z": surface[0]}).write(str(path))
    content = path.read_bytes()
    for size in (4, 20, 200, len(content) // 2):
        path.write_bytes(content[:size])
        expect_error(path, "EXR", hfov=50)
    at = content.index(b"dataWindow\0box2i\0") + 21
    for right, bottom in ((10**6, 10**6), (3, 3)):
        path.write_bytes(content[:at] + struct.pack("<4i", 0, 0, right, bottom) + content[at + 16 :])
        expect_error(path, f"{right + 1}x{bottom + 1} pixels, expected at least 8x8", hfov=50)
    metadata = json.dumps({"schema": 1, "unit": "mm", "camera": {}, "source": ""})
    for text in (metadata, "[]", "{", metadata.replace("1", "7")):
        OpenEXR.File({"splatheadDepth": text}, {"Z": surface[0]}).write(str(path))
        expect_error(path, "not a valid depth EXR of ours")


# ---- what is no depth map


def test_scale_and_field_of_view_are_never_guessed(tmp_path, surface):
    depth, mask = surface
    png, npy = tmp_path / "a.png", tmp_path / "a.npy"
    iio.imwrite(png, code_of(depth, mask, 8))
    np.save(npy, depth)
    for options in ({}, {"hfov": 50.0}, {"near": 1.9, "hfov": 50.0}, {"far": 2.6}):
        expect_error(png, "no scale: uint8 codes say no distance", **options)
    expect_error(png, "no field of view", near=1.9, far=2.6)
    expect_error(npy, "no field of view")
    for hfov in (0.0, 180.0, -50.0, math.nan):
        expect_error(npy, f"hfov {hfov}, expected 1 to 170 degrees", hfov=hfov)
    for near, far in ((2.6, 1.9), (2.0, 2.0), (0.0, 1.0), (-1.0, 2.0), (1.0, math.inf), (math.nan, 2.0)):
        expect_error(png, f"near {near} and far {far}, expected 0 < near < far", near=near, far=far, hfov=50.0)
    expect_error(npy, "near or far given for float32 values that are depth themselves", near=1.9, far=2.6, hfov=50.0)
    expect_error(npy, "white_is_near given", hfov=50.0, reading=DepthReading(white_is_near=True))
    expect_error(png, "no scale for uint8 values that are depth", hfov=50.0, reading=DepthReading(values="depth"))
    expect_error(png, "scale given for normalised values", near=1.0, far=2.0, hfov=50.0, reading=DepthReading(scale=2.0))
    inverse = DepthReading(values="inverse", scale=2.0)
    expect_error(png, "no near and far: inverse values say no distance", hfov=50.0, reading=inverse)
    expect_error(png, "no near and far: inverse values say no distance", near=1.0, hfov=50.0, reading=inverse)
    expect_error(npy, "unit 'm'", hfov=50.0, reading=DepthReading(unit="m"))
    np.save(npy, (1000 * depth).astype(np.int16))
    expect_error(npy, "int16 values as codes", near=1.0, far=2.0, hfov=50.0)
    for wrong in ({"values": "disparity"}, {"scale": 0.0}, {"scale": math.nan}):
        with pytest.raises(ValueError, match=r"depth (values 'disparity'|scale)"):
            DepthReading(**wrong)


def test_colours_are_no_depth(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    iio.imwrite(tmp_path / "a.png", rgb)
    iio.imwrite(tmp_path / "a.jpg", rgb)
    tifffile.imwrite(tmp_path / "a.tif", rgb)
    np.save(tmp_path / "a.npy", rgb)
    grey = np.dstack([rgb[..., :1]] * 3 + [np.full((20, 20, 1), 128, np.uint8)])
    iio.imwrite(tmp_path / "alpha.png", grey)
    iio.imwrite(tmp_path / "palette.png", rgb[..., 0] // 64, plugin="pillow", mode="P")
    iio.imwrite(tmp_path / "bits.png", rgb[..., 0] > 99, plugin="pillow")
    scale = {"near": 1.0, "far": 2.0, "hfov": 50.0}
    expect_error(tmp_path / "a.png", "3 different channels.*a colour image", **scale)
    expect_error(tmp_path / "a.tif", "3 different channels", **scale)
    expect_error(tmp_path / "a.jpg", "a JPEG: its compression destroys depth", **scale)
    expect_error(tmp_path / "a.npy", r"an array of shape \(20, 20, 3\) and type uint8", **scale)
    expect_error(tmp_path / "alpha.png", "partly transparent", **scale)
    expect_error(tmp_path / "palette.png", "a palette PNG", **scale)
    expect_error(tmp_path / "bits.png", "a 1-bit PNG", **scale)


def test_broken_and_hostile_files(tmp_path, surface):
    depth, mask = surface
    scale = {"near": 1.9, "far": 2.6, "hfov": 50.0}
    path = tmp_path / "a"
    with pytest.raises(FileNotFoundError, match="no such depth file"):
        load_depth(path)
    for content, match in ((b"", "an empty file"), (b"hello", "it starts with b'hello'"), (b"II*\0", "not a readable TIFF")):
        path.write_bytes(content)
        expect_error(path, match, **scale)
    iio.imwrite(tmp_path / "a.png", code_of(depth, mask, 16))
    png = (tmp_path / "a.png").read_bytes()
    for size in (10, 30, len(png) // 2, len(png) - 20):
        path.write_bytes(png[:size])
        expect_error(path, "not a PNG file, or one that ends|not readable", **scale)
    path.write_bytes(png[:16] + struct.pack(">II", 2**30, 2**30) + png[24:])
    expect_error(path, "1073741824x1073741824 pixels, expected", **scale)
    sidecar_path(tmp_path / "a.png").write_text("[" * 100_000)  # some other tool's, as far as one can tell
    assert load_depth(tmp_path / "a.png", **scale).mask.any()
    with pytest.raises(ValueError, match=r"a\.json: not a valid depth sidecar"):
        load_depth_png(tmp_path / "a.png")
    iio.imwrite(tmp_path / "a.png", np.full((4, 300), 9, np.uint8))
    expect_error(tmp_path / "a.png", "300x4 pixels, expected at least 8x8", **scale)


def test_hostile_npy(tmp_path):
    path = tmp_path / "a.npy"

    class Harm:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    np.save(path, np.array([Harm()] * 4).reshape(2, 2), allow_pickle=True)
    expect_error(path, "not a readable NPY file", hfov=50.0)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**20)})
    path.write_bytes(stream.getvalue() + bytes(64))
    expect_error(path, "not a readable NPY file", hfov=50.0)
    good = io.BytesIO()
    np.save(good, np.ones((40, 40), np.float32))
    for size in (6, 9, 40, 200):
        path.write_bytes(good.getvalue()[:size])
        expect_error(path, "not a readable NPY file", hfov=50.0)
    for array in (np.ones(100), np.ones((9, 9), np.complex64), np.ones((9, 9), bool), np.array(["a"] * 81).reshape(9, 9)):
        np.save(path, array)
        expect_error(path, "expected .*height, width", hfov=50.0)
    np.save(path, np.ones((9000, 9000), np.uint8))
    expect_error(path, "9000x9000 pixels", hfov=50.0)
    np.savez(tmp_path / "a.npz", np.ones((40, 40)))
    expect_error(tmp_path / "a.npz", "no depth file: it starts with b'PK", hfov=50.0)


def test_broken_tiff(tmp_path, surface):
    depth, path = surface[0], tmp_path / "a.tif"
    tifffile.imwrite(path, depth)
    content = path.read_bytes()
    for size in (8, 100, len(content) // 2):
        path.write_bytes(content[:size])
        expect_error(path, "not a readable TIFF|not readable", hfov=50.0)
    tifffile.imwrite(path, np.stack([depth, depth]), photometric="minisblack")
    expect_error(path, "a TIFF of 2 pages", hfov=50.0)
    tifffile.imwrite(path, depth, compression="lzma")
    expect_error(path, "a TIFF with compression 34925", hfov=50.0)
    tifffile.imwrite(path, (depth * 90).astype(np.uint8), photometric="miniswhite")
    expect_error(path, "photometric interpretation 0", hfov=50.0)
    tifffile.imwrite(path, depth.astype(np.float16))
    expect_error(path, "not readable", hfov=50.0)
    tifffile.imwrite(path, np.zeros((3, 5000), np.float32))
    expect_error(path, "5000x3 pixels", hfov=50.0)
    rng = np.random.default_rng(0)
    tifffile.imwrite(path, depth, compression="zlib")
    content = bytearray(path.read_bytes())
    for _ in range(150):  # damage is an error or a map, never a crash
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            assert load_depth(path, hfov=50.0).depth.size <= 2**26
        except ValueError as error:
            assert str(error).startswith(str(path))


def test_nothing_but_our_sentence_is_printed(tmp_path, surface, capfd):
    tifffile.imwrite(tmp_path / "a.tif", surface[0])
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:2000])
    expect_error(tmp_path / "a.tif", "not readable", hfov=50.0)
    assert capfd.readouterr() == ("", "")
