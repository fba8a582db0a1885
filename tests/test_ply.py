"""PLY reading and writing: every layout, every byte order, every way a file can be broken."""

from __future__ import annotations

import numpy as np
import plyfile
import pytest
import torch

from splathead.gaussians import Gaussians
from splathead.ply import PlyError, load_gaussians_ply, read_ply_header, save_gaussians_ply

SHAPE_PARAMETERS = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def random_gaussians(count: int = 7, degree: int = 2, unit: str = "mm", seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = normal(count, (degree + 1) ** 2, 3)
    return Gaussians(normal(count, 3), normal(count, 3), normal(count, 4), normal(count), sh, unit)


def write_ply(path, table: dict[str, np.ndarray], *, text: bool = False, byte_order: str = "<") -> None:
    """Write vertex columns with plyfile, an implementation that is not ours."""
    rows = np.empty(len(next(iter(table.values()))), dtype=[(name, column.dtype.str[1:]) for name, column in table.items()])
    for name, column in table.items():
        rows[name] = column
    plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")], text=text, byte_order=byte_order).write(path)


def columns_of(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """3DGS property columns of Gaussians, f_rest channel-major."""
    rest = gaussians.sh[:, 1:].permute(0, 2, 1).reshape(len(gaussians), -1)
    values = {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    values |= {f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)} | {"opacity": gaussians.opacity_logits}
    values |= {f"scale_{i}": gaussians.log_scales[:, i] for i in range(3)}
    values |= {f"rot_{i}": gaussians.quaternions[:, i] for i in range(4)}
    values |= {name: gaussians.means[:, i] for i, name in enumerate("xyz")}
    return {name: column.numpy() for name, column in values.items()}


def assert_same(actual: Gaussians, expected: Gaussians, **tolerance: float) -> None:
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name), **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("unit", ["mm", "scene"])
def test_round_trip_is_exact(tmp_path, degree, unit):
    gaussians = random_gaussians(degree=degree, unit=unit)
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    loaded = load_gaussians_ply(tmp_path / "a.ply")
    assert_same(loaded, gaussians)
    assert loaded.unit == unit and loaded.sh_degree == degree
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def test_written_file_has_the_inria_layout(tmp_path):
    gaussians = random_gaussians(degree=1)
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"] and names[18] == "opacity"
    assert names[-4:] == ["rot_0", "rot_1", "rot_2", "rot_3"]
    for name, column in columns_of(gaussians).items():
        np.testing.assert_array_equal(vertex[name], column)
    # f_rest is channel-major: the second red coefficient, not the first green one
    np.testing.assert_array_equal(vertex["f_rest_1"], gaussians.sh[:, 2, 0].numpy())


@pytest.mark.parametrize("text, byte_order", [(True, "="), (False, "<"), (False, ">")])
def test_every_encoding_and_any_property_order(tmp_path, text, byte_order):
    gaussians = random_gaussians(degree=3)
    columns = columns_of(gaussians)
    shuffled = {name: columns[name] for name in sorted(columns)}  # SuperSplat's order differs from Inria's
    write_ply(tmp_path / "a.ply", shuffled, text=text, byte_order=byte_order)
    loaded = load_gaussians_ply(tmp_path / "a.ply")
    assert_same(loaded, gaussians, rtol=1e-6, atol=1e-6) if text else assert_same(loaded, gaussians)
    assert loaded.unit == "scene"


def test_double_precision_and_extra_elements(tmp_path):
    gaussians = random_gaussians(degree=0)
    columns = {name: column.astype(np.float64) for name, column in columns_of(gaussians).items()}
    rows = np.empty(len(gaussians), dtype=[(name, "f8") for name in columns])
    for name, column in columns.items():
        rows[name] = column
    extra = np.array([(1.5,), (2.5,)], dtype=[("weight", "f4")])
    elements = [plyfile.PlyElement.describe(extra, "camera"), plyfile.PlyElement.describe(rows, "vertex")]
    for text in (False, True):
        plyfile.PlyData(elements, text=text).write(tmp_path / "a.ply")
        assert_same(load_gaussians_ply(tmp_path / "a.ply"), gaussians, rtol=1e-6, atol=1e-6)


def facelift_columns(gaussians: Gaussians, half: bool = False) -> dict[str, np.ndarray]:
    """FaceLift's save_ply: colours, no normals, f_rest of its own degree padded with zeros to 45."""
    columns = columns_of(gaussians)
    dtype = np.float16 if half else np.float32
    table = {name: columns[name] for name in "xyz"}
    table |= {name: np.full(len(gaussians), 7, np.uint8) for name in ("red", "green", "blue")}
    table |= {f"f_dc_{i}": columns[f"f_dc_{i}"] for i in range(3)}
    table |= {f"f_rest_{i}": columns.get(f"f_rest_{i}", np.zeros(len(gaussians))) for i in range(45)}
    table |= {name: columns[name] for name in SHAPE_PARAMETERS}
    return {name: column if column.dtype == np.uint8 else column.astype(dtype) for name, column in table.items()}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_facelift_padding_is_cut_to_its_own_degree(tmp_path, degree):
    gaussians = random_gaussians(degree=degree)
    write_ply(tmp_path / "a.ply", facelift_columns(gaussians))
    assert read_ply_header(tmp_path / "a.ply").is_facelift
    assert_same(load_gaussians_ply(tmp_path / "a.ply"), gaussians)


def test_ascii_longer_than_a_read(tmp_path):
    gaussians = random_gaussians(count=9001, degree=0)
    write_ply(tmp_path / "a.ply", columns_of(gaussians), text=True)
    lines = (tmp_path / "a.ply").read_bytes().split(b"\n")
    (tmp_path / "a.ply").write_bytes(b"\n".join(lines[:-5000]) + b"\n\n  \n" + b"\n".join(lines[-5000:]))
    assert_same(load_gaussians_ply(tmp_path / "a.ply"), gaussians, rtol=1e-6, atol=1e-6)
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content[:-200].replace(b"\n\n  \n", b" " * 20000 + b"\n"))
    expect_error(tmp_path / "a.ply", "a row of more than 16384 bytes")


@pytest.mark.parametrize("name", ["half", "float16", "f2"])
def test_facelift_half_precision(tmp_path, name):
    gaussians = random_gaussians(degree=1)
    table = facelift_columns(gaussians, half=True)
    rows = np.empty(len(gaussians), dtype=[(key, "<" + column.dtype.str[1:]) for key, column in table.items()])
    for key, column in table.items():
        rows[key] = column
    kinds = {key: "uchar" if column.dtype == np.uint8 else name for key, column in table.items()}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property {kind} {key}" for key, kind in kinds.items()] + ["end_header", ""]
    (tmp_path / "a.ply").write_bytes("\n".join(header).encode() + rows.tobytes())
    loaded = load_gaussians_ply(tmp_path / "a.ply")
    assert loaded.means.dtype == torch.float32
    assert_same(loaded, gaussians._map(lambda t: t.half().float()))


def test_zero_harmonics_are_dropped(tmp_path):
    gaussians = random_gaussians(degree=3)
    gaussians.sh[:, 4:] = 0
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    loaded = load_gaussians_ply(tmp_path / "a.ply")
    assert loaded.sh_degree == 1
    torch.testing.assert_close(loaded.sh, gaussians.sh[:, :4], rtol=0, atol=0)


def test_real_lam_heads(shared_data):
    for path in sorted((shared_data / "data" / "lam_heads").glob("*.ply")):
        gaussians = load_gaussians_ply(path)
        assert len(gaussians) == 20018 and gaussians.sh_degree == 0 and gaussians.unit == "scene"
        vertex = plyfile.PlyData.read(path)["vertex"]
        np.testing.assert_array_equal(gaussians.means[:, 1].numpy(), vertex["y"])
        np.testing.assert_array_equal(gaussians.quaternions[:, 3].numpy(), vertex["rot_3"])


# ---- broken files


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "head.ply"
    save_gaussians_ply(path, random_gaussians(count=5, degree=1))
    return path


def expect_error(path, match: str, **options: int) -> None:
    with pytest.raises(PlyError, match=match) as caught:
        load_gaussians_ply(path, **options)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such PLY"):
        load_gaussians_ply(tmp_path / "none.ply")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n0000", b"plyx\nformat ascii 1.0\n", b"{}"])
def test_not_a_ply(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    expect_error(tmp_path / "a.ply", "not a PLY file")


@pytest.mark.parametrize("cut", [-1, -100, 60])
def test_truncated(good, cut):
    good.write_bytes(good.read_bytes()[:cut])
    expect_error(good, "truncated")


def test_truncated_ascii(tmp_path):
    write_ply(tmp_path / "a.ply", columns_of(random_gaussians()), text=True)
    text = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(text[: len(text) * 3 // 4])
    expect_error(tmp_path / "a.ply", "truncated|not numbers")
    (tmp_path / "a.ply").write_bytes(text[:-40] + b" x y z\n")
    expect_error(tmp_path / "a.ply", "truncated|not numbers")


def test_huge_count_is_refused_before_allocation(good):
    good.write_bytes(good.read_bytes().replace(b"element vertex 5\n", b"element vertex 999999999999\n"))
    expect_error(good, "999999999999 Gaussians, expected 1 to 5000000")
    expect_error(good, "truncated", max_gaussians=10**12)


def test_more_than_max_gaussians(good):
    expect_error(good, "5 Gaussians, expected 1 to 4", max_gaussians=4)
    assert len(load_gaussians_ply(good, max_gaussians=5)) == 5


def test_zero_gaussians(good):
    good.write_bytes(good.read_bytes().replace(b"element vertex 5\n", b"element vertex 0\n"))
    expect_error(good, "0 Gaussians, expected 1")


@pytest.mark.parametrize(
    "old, new, match",
    [
        (b"property float opacity", b"property float opaqueness", "no property 'opacity'"),
        (b"property float scale_2", b"property float size_2", "properties scale_2 are missing"),
        (b"property float f_rest_8", b"property float f_rest_9", "9 f_rest properties"),
        (b"property float rot_3", b"property quad rot_3", "unexpected header line 'property quad rot_3'"),
        (b"property float nx", b"property float x", "property 'x' appears twice"),
        (b"property float nx", b"property list uchar int nx", "list properties"),
        (b"element vertex 5", b"element vertex -5", "unexpected header line 'element vertex -5'"),
        (b"element vertex", b"element point", "no vertex element"),
        (b"format binary_little_endian 1.0\n", b"", "no format line"),
        (b"format binary_little_endian 1.0", b"format binary_little_endian 2.0", "unexpected header line"),
        (b"splathead unit mm", b"splathead unit ft", "unit 'ft'"),
        (b"end_header", b"end_of_head", "no end_header"),
    ],
)
def test_broken_header(good, old, new, match):
    content = good.read_bytes()
    assert old in content
    good.write_bytes(content.replace(old, new, 1))
    expect_error(good, match)


def test_mesh_and_half_a_compressed_supersplat(tmp_path):
    one = np.ones(4, np.float32)
    write_ply(tmp_path / "mesh.ply", {"x": one, "y": one, "z": one})
    expect_error(tmp_path / "mesh.ply", "no property 'opacity'.*point cloud or mesh")
    packed = {f"packed_{name}": np.ones(4, np.uint32) for name in ("position", "rotation", "scale", "color")}
    write_ply(tmp_path / "splat.compressed.ply", packed)
    expect_error(tmp_path / "splat.compressed.ply", "packed_position without an element 'chunk'")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("attribute", ["means", "log_scales", "quaternions", "opacity_logits", "sh"])
def test_values_that_are_not_finite(tmp_path, attribute, value):
    gaussians = random_gaussians(count=9)
    getattr(gaussians, attribute)[3:5] = value
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    expect_error(tmp_path / "a.ply", r"NaN or infinity in .* for 2 of 9 Gaussians \(first at index 3\)")


def test_values_out_of_range(tmp_path):
    gaussians = random_gaussians()
    gaussians.log_scales[2, 1] = 100.0
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    expect_error(tmp_path / "a.ply", r"overflows exp.* 1 of 7 .*index 2")
    gaussians = random_gaussians()
    gaussians.quaternions[6] = 0.0
    save_gaussians_ply(tmp_path / "a.ply", gaussians)
    expect_error(tmp_path / "a.ply", r"all zero .* 1 of 7 .*index 6")
    columns = columns_of(random_gaussians())
    columns["x"] = np.full(7, 1e300)
    write_ply(tmp_path / "a.ply", columns)
    expect_error(tmp_path / "a.ply", "NaN or infinity in x y z for 7 of 7")


def test_failed_write_leaves_the_old_file(good, monkeypatch):
    before = good.read_bytes()
    broken = random_gaussians(count=6)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_gaussians_ply(good, broken)
    assert good.read_bytes() == before and len(list(good.parent.iterdir())) == 1
