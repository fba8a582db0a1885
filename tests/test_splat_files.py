"""Splat files of every format against writers made from the formats' descriptions, and every way they can be broken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import gsply
import numpy as np
import pytest
import splat_writers as writers
import torch
from gsply.spz import write_spz

from splathead.cameras import orbit_camera
from splathead.gaussians import Gaussians, evaluate_sh
from splathead.ply import save_gaussians_ply
from splathead.raster import render
from splathead.raster.interface import ALPHA_MIN
from splathead.splat_files import load_splats, read_splat_file
from splathead.splat_formats.builder import LoadOptions


def head_like(count: int = 600, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians with values such as real files have: metres, small extents, harmonics within -1..1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = 0.3 * normal(count, (degree + 1) ** 2, 3)
    sh[:, 0] = sh[:, 0].clamp(-1.6, 1.6)
    sh[:, 1:].clamp_(-0.95, 0.95)
    means, quaternions = normal(count, 3), normal(count, 4)
    quaternions[:4] = torch.eye(4)  # each component the largest once
    return Gaussians(means, -5 + normal(count, 3), quaternions, 2 * normal(count), sh)


def rotation_error(actual: Gaussians, expected: Gaussians) -> float:
    """Largest error of a component of the unit quaternions, whose sign means nothing."""
    a, b = (torch.nn.functional.normalize(g.quaternions, dim=1) for g in (actual, expected))
    return float(torch.minimum((a - b).abs().amax(1), (a + b).abs().amax(1)).max())


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


def chunk_spans(values: torch.Tensor) -> torch.Tensor:
    """Range [N, C] of each value's chunk of 256 rows."""
    parts = values.split(256)
    return torch.cat([(part.amax(0) - part.amin(0)).expand(len(part), -1) for part in parts])


# ---- SuperSplat's compressed PLY


@pytest.mark.parametrize("degree, with_colours, byte_order", [(0, True, "<"), (3, True, "<"), (1, False, "<"), (2, True, ">")])
def test_compressed_ply_within_its_quantisation(tmp_path, degree, with_colours, byte_order):
    expected = head_like(degree=degree)
    if not with_colours:
        expected.sh[:, 0] = expected.sh[:, 0].clamp(-1.5, 1.5)  # colours 0 to 1
    writers.write_compressed_ply(tmp_path / "a.ply", expected, with_colours, byte_order)
    loaded = read_splat_file(tmp_path / "a.ply")
    actual, steps = loaded.gaussians, torch.tensor([2047.0, 1023.0, 2047.0])
    assert loaded.layout == "SuperSplat compressed PLY" and actual.sh_degree == degree and len(actual) == 600
    for name in ("means", "log_scales"):
        error = (getattr(actual, name) - getattr(expected, name)).abs()
        assert (error <= 0.501 * chunk_spans(getattr(expected, name)) / steps + 1e-5).all()
    span = chunk_spans(expected.sh[:, 0]) if with_colours else 1 / writers.C0
    assert ((actual.sh[:, 0] - expected.sh[:, 0]).abs() <= 0.501 * span / 255 + 1e-5).all()
    assert largest(actual.opacities - expected.opacities) <= 0.501 / 255
    assert rotation_error(actual, expected) < 3 * 0.501 * 2**0.5 / 1023  # the largest one carries the others' errors
    if degree:
        assert largest(actual.sh[:, 1:] - expected.sh[:, 1:]) <= 4 / 256 + 1e-6


def test_compressed_ply_of_another_writer(tmp_path):
    expected = head_like(700, degree=3)
    data = gsply.GSData.from_arrays(
        means=expected.means.numpy(), scales=expected.log_scales.numpy(), quats=expected.quaternions.numpy(),
        opacities=expected.opacity_logits.numpy(), sh0=expected.sh[:, 0].numpy(), shN=expected.sh[:, 1:].numpy(), format="ply",
    )  # fmt: skip
    data.save(str(tmp_path / "a.compressed.ply"), compressed=True)
    (path,) = tmp_path.iterdir()
    actual = load_splats(path)
    order = [int(((actual.means - mean) ** 2).sum(1).argmin()) for mean in expected.means]  # it sorts
    assert sorted(order) == list(range(700))
    actual = actual.select(torch.tensor(order))
    assert largest(actual.means - expected.means) < 8 / 1023
    assert largest(actual.log_scales - expected.log_scales) < 8 / 1023
    assert largest(actual.opacities - expected.opacities) < 1 / 255
    assert rotation_error(actual, expected) < 3e-3
    assert largest(actual.sh[:, 0] - expected.sh[:, 0]) < 4 / 255
    assert largest(actual.sh[:, 1:] - expected.sh[:, 1:]) < 9 / 256


def test_compressed_ply_longer_than_a_read(tmp_path):
    one = head_like(256, degree=1)
    expected = Gaussians(**{name: torch.cat([getattr(one, name)] * 260) for name in vars(one) if name != "unit"})
    expected.means += torch.arange(len(expected))[:, None] // 256  # each chunk has its own range
    writers.write_compressed_ply(tmp_path / "a.ply", expected.select(slice(0, 256)))
    first = (tmp_path / "a.ply").read_bytes()
    body = first.index(b"end_header\n") + 11
    header = first[:body].replace(b"chunk 1\n", b"chunk 260\n").replace(b" 256\n", b" 66560\n")
    ranges = np.frombuffer(first[body : body + 72], "<f4") + np.zeros((260, 1), np.float32)
    ranges[:, :6] += np.arange(260)[:, None]
    words, sh = first[body + 72 : body + 72 + 4096], first[body + 72 + 4096 :]
    (tmp_path / "a.ply").write_bytes(header + ranges.tobytes() + words * 260 + sh * 260)
    actual = load_splats(tmp_path / "a.ply")
    assert len(actual) == 66560 and largest(actual.means - expected.means) < 8 / 1023
    assert largest(actual.sh[:, 1:] - expected.sh[:, 1:]) <= 4 / 256 + 1e-6


@pytest.mark.parametrize(
    "old, new, match",
    [
        (b"element chunk 3", b"element chunk 2", "2 chunks for 600 Gaussians"),
        (b"element chunk", b"element block", "without an element 'chunk'"),
        (b"property float max_scale_z", b"property float max_scale_w", "chunk properties"),
        (b"property float min_r", b"property float min_q", "chunk properties"),
        (b"property uint packed_scale", b"property float packed_scale", "packed_scale are missing or not 32-bit"),
        (b"element sh 600", b"element sh 599", "sh element with 599 rows"),
        (b"property uchar f_rest_8", b"property uchar f_rest_9", "sh element"),
        (b"element vertex 600", b"element vertex 4000000000", "4000000000 Gaussians, expected 1 to 5000000"),
        (b"element vertex 600", b"element vertex 0", "0 Gaussians"),
        (b"format binary_little_endian", b"format ascii", "in ASCII"),
    ],
)
def test_broken_compressed_ply(tmp_path, old, new, match):
    writers.write_compressed_ply(tmp_path / "a.ply", head_like(degree=1))
    content = (tmp_path / "a.ply").read_bytes()
    assert old in content
    (tmp_path / "a.ply").write_bytes(content.replace(old, new, 1))
    expect_error(tmp_path / "a.ply", match)


def test_truncated_compressed_ply(tmp_path):
    writers.write_compressed_ply(tmp_path / "a.ply", head_like(degree=1))
    content = (tmp_path / "a.ply").read_bytes()
    for size in (len(content) - 1, len(content) - 600 * 9 - 1, len(content) - 600 * 25 - 1):
        (tmp_path / "a.ply").write_bytes(content[:size])
        expect_error(tmp_path / "a.ply", "truncated")
    body = content.index(b"end_header\n") + 11
    (tmp_path / "a.ply").write_bytes(content[:body] + struct.pack("<f", float("nan")) + content[body + 4 :])
    expect_error(tmp_path / "a.ply", "NaN or infinity in min_x")


# ---- .splat


def test_dot_splat_within_its_quantisation(tmp_path):
    expected = head_like(degree=0)
    (tmp_path / "a.splat").write_bytes(writers.dot_splat(expected))
    loaded = read_splat_file(tmp_path / "a.splat")
    actual = loaded.gaussians
    assert loaded.layout == ".splat" and actual.sh_degree == 0 and not loaded.notes
    torch.testing.assert_close(actual.means, expected.means, rtol=0, atol=0)
    torch.testing.assert_close(actual.log_scales, expected.log_scales, rtol=1e-6, atol=1e-6)
    below = expected.opacities - actual.opacities  # the writer rounds down
    assert float(below.min()) > -1e-5 and float(below.max()) < 1 / 255 + 1e-5
    below = (expected.sh - actual.sh)[:, 0] * writers.C0
    assert float(below.min()) > -1e-5 and float(below.max()) < 1 / 255 + 1e-5
    assert rotation_error(actual, expected) < 2 / 128
    assert torch.equal(actual.quaternions[:4], 127 / 128 * torch.eye(4))  # 0 is code 128


def test_dot_splat_edges(tmp_path):
    path = tmp_path / "a.splat"
    content = writers.dot_splat(head_like(40, degree=0))
    expect_content(path, content[:-1], "1279 bytes, expected a multiple of 32")
    expect_content(path, b"", "an empty file")
    expect_content(path, content[:12] + struct.pack("<f", -1) + content[16:], "no file of Gaussians")
    late = content * 7 + struct.pack("<6f8B", 0, 0, 0, -1, 1, 1, *[128] * 8)
    expect_content(path, late, r"NaN or infinity in scale_\* for 1 of 281 Gaussians \(first at index 280\)")
    expect_content(path, content, "40 Gaussians, expected 1 to 39", max_gaussians=39)
    opaque = struct.pack("<6f8B", 0, 0, 0, 0, 1, 1, 0, 255, 128, 255, 255, 128, 128, 128)
    path.write_bytes(opaque + opaque[:27] + b"\0" + opaque[28:])
    loaded = read_splat_file(path)
    assert loaded.gaussians.opacities.tolist() == pytest.approx([1, 0], abs=2e-6)
    assert loaded.gaussians.log_scales[0].tolist() == [-20, 0, 0] and "2 Gaussians with an extent of 0" in loaded.notes[0]


# ---- .spz


@pytest.mark.parametrize("version, degree", [(2, 0), (2, 3), (3, 1), (3, 3), (4, 0), (4, 2), (4, 3)])
def test_spz_within_its_quantisation(tmp_path, version, degree):
    expected = head_like(300, degree=degree)
    (tmp_path / "a.spz").write_bytes(writers.spz(expected, version))
    loaded = read_splat_file(tmp_path / "a.spz")
    assert loaded.layout == f".spz version {version}" and not loaded.notes
    assert_spz(loaded.gaussians, expected, degree, rotation=3 / 127.5 if version == 2 else 3 / 511, sh=0.51 / 128)


def assert_spz(actual: Gaussians, expected: Gaussians, degree: int, rotation: float, sh: float) -> None:
    assert actual.sh_degree == degree and len(actual) == len(expected)
    assert largest(actual.means - expected.means) <= 0.501 / 4096
    assert largest(actual.log_scales - expected.log_scales) <= 0.501 / 16
    assert largest(actual.opacities - expected.opacities) <= 0.501 / 255
    assert largest(actual.sh[:, 0] - expected.sh[:, 0]) <= 0.501 / 255 / 0.15
    # v2 derives w from the others: what a component is wrong by grows where w is small
    error = rotation_error(actual, expected)
    assert error < rotation if rotation < 0.01 else error < 0.15
    if degree:
        assert largest(actual.sh[:, 1:] - expected.sh[:, 1:]) <= sh


@pytest.mark.parametrize("version", [3, 4])
def test_spz_of_another_writer(tmp_path, version):
    expected = head_like(300, degree=3)
    data = gsply.GSData.from_arrays(
        means=expected.means.numpy(), scales=expected.log_scales.numpy(), quats=expected.quaternions.numpy(),
        opacities=expected.opacity_logits.numpy(), sh0=expected.sh[:, 0].numpy(), shN=expected.sh[:, 1:].numpy(), format="ply",
    )  # fmt: skip
    write_spz(str(tmp_path / "a.spz"), data, version=version)
    actual = load_splats(tmp_path / "a.spz")
    assert_spz(actual, expected, 3, rotation=3 / 511, sh=9 / 128)  # it keeps 5 and 4 bits of the harmonics
    (tmp_path / "b.spz").write_bytes(writers.spz(expected, version))
    other = gsply.spz.read_spz(str(tmp_path / "b.spz"))
    ours = load_splats(tmp_path / "b.spz")
    for name, values in (("means", other.means), ("log_scales", other.scales), ("quaternions", other.quats)):
        np.testing.assert_allclose(getattr(ours, name).numpy(), values, atol=1e-6)
    np.testing.assert_allclose(ours.sh[:, 1:].numpy(), other.shN, atol=1e-6)


def test_spz_degree_4_is_cut_and_flags_are_said(tmp_path):
    g = head_like(50, degree=3)
    four = torch.cat([g.sh, torch.rand(50, 9, 3)], dim=1)
    for version in (3, 4):
        (tmp_path / "a.spz").write_bytes(writers.spz(type("Four", (), {**vars(g), "sh": four}), version, flags=1))
        loaded = read_splat_file(tmp_path / "a.spz")
        assert loaded.notes == ("spherical harmonics of degree 4, cut to 3", "trained with antialiasing")
        assert largest(loaded.gaussians.sh[:, 1:] - g.sh[:, 1:]) < 0.51 / 128


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("code, system", [(6, "RDF"), (3, "LUB"), (12, "RFU"), (9, "LFD"), (16, "RBU")])
def test_spz_in_other_axes_is_turned(tmp_path, version, code, system):
    """The colour seen along a direction and the shape's covariance must turn (or be mirrored) with the axes."""
    g = head_like(40, degree=3)
    other = struct.pack("<II", 0x12340001, 3) + b"abc"  # an extension that nobody knows
    plain, turned = tmp_path / "a.spz", tmp_path / "b.spz"
    plain.write_bytes(writers.spz(g, version))
    turned.write_bytes(writers.spz(g, version, other + struct.pack("<III", 0xADBE0003, 4, code)))
    stored, loaded = load_splats(plain), read_splat_file(turned)
    assert loaded.notes == (f"stored in axes {system}, turned to RUB",)
    letters = {"R": (1, 0, 0), "L": (-1, 0, 0), "U": (0, 1, 0), "D": (0, -1, 0), "B": (0, 0, 1), "F": (0, 0, -1)}
    axes = torch.tensor([letters[letter] for letter in system], dtype=torch.float32).T
    actual = loaded.gaussians
    torch.testing.assert_close(actual.means, stored.means @ axes.T)
    directions = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    torch.testing.assert_close(
        evaluate_sh(actual.sh, directions @ axes.T), evaluate_sh(stored.sh, directions), rtol=1e-4, atol=1e-4
    )

    def covariance(gaussians: Gaussians) -> torch.Tensor:
        half = gaussians.rotations * gaussians.scales[:, None]
        return half @ half.transpose(1, 2)

    torch.testing.assert_close(covariance(actual), axes @ covariance(stored) @ axes.T, rtol=1e-4, atol=1e-6)


def test_broken_spz_extension(tmp_path):
    g = head_like(5, degree=0)
    for extension in (b"abc", struct.pack("<II", 0xADBE0003, 4000) + b"1234", struct.pack("<III", 0xADBE0003, 4, 17)):
        for version in (3, 4):
            expect_content(tmp_path / "a.spz", writers.spz(g, version, extension), "extension")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_truncated_spz(tmp_path, version):
    content = writers.spz(head_like(200, degree=1), version)
    for size in (1, 3, 8, 20, 40, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "a.spz").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.spz"):
            load_splats(tmp_path / "a.spz")
    for position in range(8, len(content), 97):  # damage is an error or a Gaussian, never a crash
        (tmp_path / "a.spz").write_bytes(content[:position] + bytes([content[position] ^ 0x5A]) + content[position + 1 :])
        try:
            assert len(load_splats(tmp_path / "a.spz")) <= 200
        except ValueError as error:
            assert "a.spz" in str(error)


def test_hostile_spz(tmp_path):
    path, sections = tmp_path / "a.spz", writers.spz_sections(head_like(5, degree=0), 3)
    body = b"".join(sections.values())
    expect_content(path, gzip.compress(b"something else entirely"), "no .spz: it unpacks to b'some'")
    expect_content(path, gzip.compress(writers.spz_header(5, 0, 1) + body), "version 1, expected 2 or 3")
    expect_content(path, writers.spz_header(5, 0, 3) + bytes(16) + body, "version 3, expected 4")
    expect_content(path, gzip.compress(writers.spz_header(5, 5, 3) + body), "degree 5")
    expect_content(path, gzip.compress(writers.spz_header(5, 0, 3, 40) + body), "40 fractional bits")
    expect_content(path, gzip.compress(writers.spz_header(2**32 - 1, 0, 3) + body), "4294967295 Gaussians, expected")
    expect_content(path, gzip.compress(writers.spz_header(4_999_999, 0, 3) + body), "bytes cannot hold 4999999 Gaussians")
    expect_content(path, gzip.compress(writers.spz_header(6, 0, 3) + body), "truncated: ")
    expect_content(path, gzip.compress(writers.spz_header(5, 0, 3) + body + b"x"), "more than 0 bytes follow its 5 Gaussians")
    good = writers.spz4(5, 0, sections)
    expect_content(path, good + b"x", "streams of")
    expect_content(path, good[:15] + b"\x06" + good[16:], "6 streams")
    expect_content(path, good[:16] + struct.pack("<I", 2**31) + good[20:], "5 streams listed at byte 2147483648")
    expect_content(path, good[:8] + struct.pack("<I", 6) + good[12:], "positions of 45 bytes, expected 54")
    expect_content(path, writers.spz4(5, 0, {**sections, "alphas": b"12345678"}), "alphas of 8 bytes, expected 5")


@pytest.mark.parametrize("version", [3, 4])
def test_bombs_are_not_unpacked(tmp_path, version):
    bomb = bytes(2**26)
    sections = writers.spz_sections(head_like(5, degree=0), 3)
    if version == 3:
        content = gzip.compress(writers.spz_header(5, 0, 3, flags=2) + b"".join(sections.values()) + bomb, 9)
    else:
        content = writers.spz4(5, 0, {**sections, "rotations": bomb})
        at = content.index(struct.pack("<Q", len(bomb)))
        content = content[:at] + struct.pack("<Q", 20) + content[at + 8 :]
    (tmp_path / "a.spz").write_bytes(content)
    assert len(content) < 2**18
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than"):
        load_splats(tmp_path / "a.spz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


# ---- what the entry makes of them


def expect_content(path, content: bytes, match: str, **options) -> None:
    path.write_bytes(content)
    expect_error(path, match, **options)


def expect_error(path, match: str, **options) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        load_splats(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and message.count(str(path)) == 1


def test_told_by_content_whatever_the_name(tmp_path):
    g = head_like(100, degree=0)
    save_gaussians_ply(tmp_path / "1.ply", g)
    writers.write_compressed_ply(tmp_path / "2.ply", g)
    (tmp_path / "3.splat").write_bytes(writers.dot_splat(g))
    (tmp_path / "4.spz").write_bytes(writers.spz(g, 3))
    (tmp_path / "5.spz").write_bytes(writers.spz(g, 4))
    layouts = []
    for path in sorted(tmp_path.iterdir()):
        renamed = path.rename(tmp_path / f"{path.stem}.bin")
        loaded = read_splat_file(renamed)
        layouts.append(loaded.layout)
        assert largest(loaded.gaussians.means - g.means) < 8 / 1023
    assert layouts == ["3DGS PLY", "SuperSplat compressed PLY", ".splat", ".spz version 3", ".spz version 4"]


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0" + bytes(28), bytes(64), b"\x7fELF" + b"x" * 60, b"glTF" * 8])
def test_other_files_are_refused(tmp_path, content):
    for name in ("a.splat", "a.ply", "a"):
        (tmp_path / name).write_bytes(content)
        expect_error(tmp_path / name, "no file of Gaussians")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such splat file"):
        load_splats(tmp_path / "a.spz")


@pytest.mark.parametrize("kind", ["ply", "compressed", "splat", "spz3", "spz4"])
def test_transparent_ones_and_harmonics_are_left_out(tmp_path, kind):
    g, path = head_like(degree=2), tmp_path / "a"
    g.opacity_logits.clamp_(-4, 4)
    write = {
        "ply": lambda: save_gaussians_ply(path, g), "compressed": lambda: writers.write_compressed_ply(path, g),
        "splat": lambda: path.write_bytes(writers.dot_splat(g)), "spz3": lambda: path.write_bytes(writers.spz(g, 3)),
        "spz4": lambda: path.write_bytes(writers.spz(g, 4)),
    }  # fmt: skip
    write[kind]()
    whole = load_splats(path)
    loaded = read_splat_file(path, LoadOptions(min_opacity=0.3, max_sh_degree=0))
    kept = whole.opacity_logits >= np.log(0.3 / 0.7)
    assert 100 < int(kept.sum()) < 500 and loaded.gaussians.sh_degree == 0
    for name in ("means", "log_scales", "quaternions", "opacity_logits"):
        assert torch.equal(getattr(loaded.gaussians, name), getattr(whole, name)[kept])
    assert torch.equal(loaded.gaussians.sh, whole.sh[kept, :1])
    said = " ".join(loaded.notes)
    assert f"{600 - int(kept.sum())} of 600 Gaussians are below opacity 0.3, left out" in said
    assert ("degree 2, cut to 0" in said) == (kind != "splat")
    expect_error(path, "all 600 Gaussians are below opacity 0.99999, expected visible ones", min_opacity=0.99999)
    with pytest.raises(ValueError, match="min_opacity"):
        load_splats(path, min_opacity=1.0)


def test_a_few_broken_gaussians_are_left_out_where_that_is_asked_for_and_named(tmp_path):
    g, path = head_like(degree=1), tmp_path / "a.ply"
    g.opacity_logits.clamp_(-4, 4)
    g.means[5, 1], g.sh[5, 2], g.quaternions[41] = np.nan, np.inf, 0.0  # 5 has two faults
    hidden = 7
    g.opacity_logits[hidden] = -9.0
    save_gaussians_ply(path, g)
    with pytest.raises(ValueError, match=r"a.ply: NaN or infinity in x y z for 1 of 600 Gaussians \(first at index 5\)"):
        read_splat_file(path, LoadOptions())
    with pytest.raises(ValueError, match=r"expected finite values; 2 such Gaussians in all, at most 1 are left out"):
        read_splat_file(path, LoadOptions(max_broken=1.9 / 600))
    loaded = read_splat_file(path, LoadOptions(max_broken=2 / 600, min_opacity=0.001))
    kept = torch.tensor([i for i in range(600) if i not in (5, 41, hidden)])
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        assert torch.equal(getattr(loaded.gaussians, name), getattr(g, name)[kept])
    assert loaded.notes == (
        "2 of 600 Gaussians are broken, left out: NaN or infinity in x y z (1, first at index 5), "
        "NaN or infinity in f_dc_* f_rest_* (1, first at index 5), rot_* is all zero (1, first at index 41)",
        "1 of 600 Gaussians are below opacity 0.001, left out",
    )
    with pytest.raises(ValueError, match=r"max_broken 1.0, expected a number in \[0, 1\)"):
        LoadOptions(max_broken=1.0)


def test_leaving_out_what_is_invisible_changes_no_pixel(tmp_path):
    g = head_like(400, degree=1)
    g.means *= 0.1
    g.opacity_logits[::2] -= 8
    save_gaussians_ply(tmp_path / "a.ply", g)
    thinned = load_splats(tmp_path / "a.ply", min_opacity=ALPHA_MIN)
    assert len(thinned) < 250
    camera = orbit_camera(20.0, size=64, radius=0.6)
    images = [render(gaussians, camera, outputs=("rgb", "depth"), backend="cpu") for gaussians in (g, thinned)]
    assert images[0].rgb.max() > 0.2
    torch.testing.assert_close(images[0].rgb, images[1].rgb, rtol=0, atol=1e-6)
    torch.testing.assert_close(images[0].depth, images[1].depth, rtol=0, atol=1e-5)


def test_a_large_ply_is_read_in_pieces(tmp_path):
    """What is held is the result and a few chunks, whatever is in the file."""
    g, path = head_like(300_000, degree=3), tmp_path / "a.ply"
    g.sh[:70_000, 9:] = 0  # the degree is not that of the first rows
    save_gaussians_ply(path, g)
    chunk = 2**16 * 62 * 4
    for degree, values in ((3, 59), (0, 14)):
        tracemalloc.start()
        loaded = load_splats(path, max_sh_degree=degree)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert torch.equal(loaded.means, g.means) and torch.equal(loaded.sh, g.sh[:, : (degree + 1) ** 2])
        assert peak < len(g) * values * 4 + 3.2 * chunk < 2 * path.stat().st_size
