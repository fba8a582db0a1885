"""FaceLift's crop in numbers, the way back to the photo, and reading photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from splathead import images
from splathead.cameras import orbit_camera
from splathead.photos import read
from splathead.photos.crop import CANVAS_PX, FACE_CENTRE_PX, FACE_PX, CanvasCrop
from splathead.photos.detect import Face
from splathead.photos.prepare import MAX_WINDOW_PX, crop_face
from splathead.photos.read import Photo, UnreadablePhoto, read_photo


def face_at(left: float, top: float, right: float, bottom: float) -> Face:
    return Face(np.array([left, top, right, bottom], dtype=float), 1.0, {})


def test_size_and_place_of_the_face_are_facelifts():
    crop = CanvasCrop.around(face_at(100.0, 50.0, 221.0, 231.0))
    box = np.array([101.0, 51.0, 221.0, 231.0])  # the box as FaceLift's detector says it: from pixel 1
    scale = FACE_PX / (0.5 * (box[2] - box[0] + box[3] - box[1]))
    assert crop.scale == pytest.approx(scale) == pytest.approx(194.2749650813705 / 150)
    centre = crop.to_canvas((box[:2] + box[2:]) / 2)
    np.testing.assert_allclose(centre, FACE_CENTRE_PX)
    np.testing.assert_allclose(FACE_CENTRE_PX, (251.83270369057132, 280.0133630862363))


def test_there_and_back():
    crop = CanvasCrop.around(face_at(310.5, 220.25, 420, 351))
    pixels = np.random.default_rng(0).uniform(-50, 900, (20, 2))
    np.testing.assert_allclose(crop.to_photo(crop.to_canvas(pixels)), pixels, atol=1e-9)
    # the camera of the whole photo sees what the canvas's camera sees, in the photo's pixels
    canvas_camera = orbit_camera(0, size=CANVAS_PX)
    photo_camera = crop.photo_camera(canvas_camera, 1200, 800)
    points = np.random.default_rng(1).uniform(-80, 80, (20, 3))
    (on_canvas, z), (in_photo, photo_z) = canvas_camera.project(points), photo_camera.project(points)
    np.testing.assert_allclose(crop.to_photo(on_canvas), in_photo, atol=1e-8)
    np.testing.assert_allclose(z, photo_z)
    assert (photo_camera.width, photo_camera.height) == (1200, 800)


@pytest.mark.parametrize("side", [60, 194, 500, 900])  # enlarged, kept, reduced, reduced in two steps
def test_pixels_lie_where_the_numbers_say(side):
    """A ramp stays a ramp under any resampling: every canvas pixel must hold the photo's place that to_photo names."""
    height, width = int(3.3 * side), int(2.3 * side)
    ramp = np.stack(np.broadcast_arrays(*np.ogrid[:height, :width]), -1) + 0.5  # [H, W, (row, column)]
    scaled = np.dstack([ramp * 250 / [height, width], np.full((height, width), 77)])
    crop = CanvasCrop.around(face_at(0.9 * side, 1.3 * side, 1.9 * side, 2.3 * side))
    canvas, alpha = crop.apply(Photo(np.rint(scaled).astype(np.uint8), None))
    v, u = np.mgrid[:CANVAS_PX, :CANVAS_PX] + 0.5
    place = crop.to_photo(np.stack([u, v], -1))
    margin = 3 / crop.scale + 3
    inner = ((place > margin) & (place < np.array([width, height]) - margin)).all(-1)
    assert inner.mean() > 0.6
    np.testing.assert_allclose(canvas[inner][:, 1], place[inner][:, 0] * 250 / width, atol=1.2)
    np.testing.assert_allclose(canvas[inner][:, 0], place[inner][:, 1] * 250 / height, atol=1.2)
    outside = ((place < -margin) | (place > np.array([width, height]) + margin)).any(-1)
    assert outside.mean() > 0.01
    assert (canvas[outside] == 255).all() and (alpha[outside] == 0).all() and (alpha[inner] == 255).all()


def test_transparent_pixels_become_white_whatever_their_colour():
    rgb = np.full((200, 200, 3), 30, np.uint8)
    alpha = np.zeros((200, 200), np.uint8)
    cv2.circle(alpha, (100, 100), 60, 255, -1)
    cropped = crop_face(Photo(rgb, alpha), face_at(70, 70, 131, 131))
    outer = ~cv2.dilate(cropped.mask.astype(np.uint8), np.ones((25, 25))).astype(bool)
    assert set(np.unique(cropped.canvas[outer])) == {255}
    inner = cv2.erode(cropped.mask.astype(np.uint8), np.ones((25, 25)), borderValue=1).astype(bool)
    assert set(np.unique(cropped.canvas[inner])) == {30}
    assert cropped.mask.mean() == pytest.approx(np.pi * (60 * cropped.crop.scale) ** 2 / 512**2, rel=0.03)


def test_facelift_gets_the_photos_own_pixels():
    rgb = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), dtype=np.uint8)
    cropped = crop_face(Photo(rgb, None), face_at(480, 330, 560, 410))
    rows, columns = cropped.crop.window(1000, 700)
    np.testing.assert_array_equal(cropped.window, rgb[rows, columns])
    low, high = cropped.crop.to_photo(np.zeros(2)), cropped.crop.to_photo(np.full(2, CANVAS_PX))
    assert columns.start < low[0] < high[0] < columns.stop and rows.start < low[1] < high[1] < rows.stop
    large = crop_face(Photo(np.zeros((3000, 3500, 3), np.uint8), None), face_at(900, 900, 2100, 2100))
    assert max(large.window.shape) == MAX_WINDOW_PX


def test_phones_photos_are_turned_upright(tmp_path):
    """The corner marked red is top left for a person, whatever way the file lies."""
    upright = np.full((40, 30, 3), 200, np.uint8)
    upright[:10, :10] = (255, 0, 0)
    lying = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright), 8: np.rot90(upright, -1)}
    for orientation, pixels in lying.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, quality=100, subsampling=0)
        photo = read_photo(path)
        assert photo.rgb.shape == (40, 30, 3) and photo.alpha is None
        np.testing.assert_allclose(photo.rgb[2:8, 2:8].mean((0, 1)), (255, 0, 0), atol=6)


def test_every_usual_kind_of_file(tmp_path):
    rgba = np.dstack([np.full((8, 9, 3), (10, 200, 90), np.uint8), np.full((8, 9), 255, np.uint8)])
    rgba[:4, :, 3] = 0
    kinds = {"a.png": "RGBA", "a.webp": "RGBA", "b.png": "RGB", "b.bmp": "RGB", "c.png": "L", "d.png": "P"}
    for name, mode in kinds.items():
        options = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(rgba).convert(mode).save(tmp_path / name, **options)
        photo = read_photo(tmp_path / name)
        assert photo.rgb.shape == (8, 9, 3) and (photo.alpha is not None) == (mode in ("RGBA", "P")), name
        if photo.alpha is not None:
            np.testing.assert_array_equal(photo.alpha, rgba[..., 3])
            assert (photo.over_white[:4] == 255).all() and (photo.over_white[4:] == photo.rgb[4:]).all()
    grey = Image.fromarray(np.full((8, 9, 3), 99, np.uint8))
    grey.convert("CMYK").save(tmp_path / "e.jpg")
    grey.save(tmp_path / "f.jpg", format="MPO", save_all=True, append_images=[grey])  # a phone's, with a second picture
    for name in ("e.jpg", "f.jpg"):
        assert np.abs(read_photo(tmp_path / name).rgb.astype(int) - 99).max() < 6, name


def test_broken_files_are_refused_with_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such photo"):
        read_photo(tmp_path / "none.png")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UnreadablePhoto, match=r"text\.jpg: not a readable photo, expected PNG, JPEG"):
        read_photo(tmp_path / "text.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(UnreadablePhoto, match=r"cut\.png: not a readable photo: .*truncated"):
        read_photo(tmp_path / "cut.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "depth.png")
    with pytest.raises(UnreadablePhoto, match=r"depth\.png: .*pixels of kind I(;16)?, expected 8 bits"):
        read_photo(tmp_path / "depth.png")
    Image.new("1", (16000, 16000)).save(tmp_path / "bomb.png")  # small in the file, 256 million pixels
    with pytest.raises(UnreadablePhoto, match=r"bomb\.png: "):
        read_photo(tmp_path / "bomb.png")
    monkeypatch.setattr(read, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(UnreadablePhoto, match=r"whole\.png: .*64x64 pixels, expected at most 4000"):
        read_photo(tmp_path / "whole.png")
    assert images.MAX_IMAGE_PIXELS == 2**26
