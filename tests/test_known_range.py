"""``range_mm``: a network whose unit is a number of millimetres does not care how far behind the face the shoulders are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_surfaces import ellipsoid_depth

from splathead.cameras import orbit_camera
from splathead.images import DepthCode, DepthEncoding, DepthMap
from splathead.models import architecture_to_dict, create_network
from splathead.models.splathead import SplatHeadArchitecture
from splathead.prediction import TrainedNetwork, interpolate_depth
from splathead.training.pairs import make_pair_of_code, over_range

pytestmark = pytest.mark.usefixtures("single_thread")
RANGE_MM = 60.0


def trained(range_mm: float, *, zeros: bool = False) -> TrainedNetwork:
    architecture = SplatHeadArchitecture(widths=(8, 8, 12, 12), high_width=8, guides=("cover",), range_mm=range_mm)
    torch.manual_seed(0)
    network = create_network("splathead", architecture).eval()
    for name, parameter in network.named_parameters():
        if not zeros and ("second" in name or "output" in name):
            torch.nn.init.normal_(parameter, std=0.3)
    described = architecture_to_dict("splathead", architecture)
    info = {"architecture": described, "target": "surface", "lr_input": "8bit", "sha256": "0" * 64}
    return TrainedNetwork(network, info, torch.device("cpu"))


@pytest.fixture(scope="module")
def head() -> DepthMap:
    camera = orbit_camera(0.0, 0.0, 48)
    depth = ellipsoid_depth(camera)
    return DepthMap.of_float(depth, depth > 0, camera, "ellipsoid")


def with_far(lr: DepthMap, far: float) -> DepthMap:
    """The same depth, as if something farther away had set the end of the code."""
    return replace(lr, encoding=replace(lr.encoding, far=far))


def test_depth_is_the_same_whatever_the_codes_range_is(head):
    wider = with_far(head, head.encoding.far + 150)
    known, own = trained(RANGE_MM), trained(0.0)
    mask = head.mask.repeat(4, 0).repeat(4, 1) & (known.predict(head).depth > 0)
    difference = [np.abs(network.predict(head).depth - network.predict(wider).depth)[mask].max() for network in (known, own)]
    assert difference[0] < 1e-3 < 0.1 < difference[1]
    (_, error), (_, wider_error) = known.predict_with_error(head), known.predict_with_error(wider)
    assert np.allclose(error, wider_error, rtol=1e-4) and error.max() > 0


def test_the_expected_error_is_in_the_unit_of_the_depth(head):
    """A network predicts nothing at its start: the scale of its error is one step of an 8-bit code over its range."""
    found, error = trained(RANGE_MM, zeros=True).predict_with_error(head)
    assert np.allclose(error[found.mask], RANGE_MM / 254) and not error[~found.mask].any()


def test_depth_ends_before_the_camera():
    """Near the camera against the range, a network that goes beyond near by half a range would go behind it."""
    depth = np.full((24, 24), 2.0, np.float32)
    depth[8:16, 8:16] = 0.02
    lr = DepthMap.of_float(depth, depth > 0, orbit_camera(0.0, 0.0, 24), "a hand", "scene")
    network = trained(0.0, zeros=True)
    network.network.high_output.bias.data[0] = -120.0  # code steps
    found = network.predict(lr)
    assert found.mask.all() and found.depth.min() == pytest.approx(0.01) and found.encoding.near > 0


def test_nothing_is_cut_that_lies_beyond_the_range(head):
    span = head.encoding.far - head.encoding.near
    assert span > RANGE_MM / 2
    found = trained(span / 4, zeros=True).predict(head)
    expected = interpolate_depth(head, 4, "bicubic")
    assert np.array_equal(found.mask, expected.mask) and np.allclose(found.depth, expected.depth, atol=1e-2)


def test_a_unit_that_is_unknown_and_a_range_of_zero_change_nothing(head):
    scene = replace(head, encoding=replace(head.encoding, unit="scene"))
    assert over_range(scene, RANGE_MM) is scene and over_range(head, 0.0) is head
    moved = over_range(head, RANGE_MM).encoding
    assert (moved.near, moved.far, moved.bits) == (head.encoding.near, head.encoding.near + RANGE_MM, head.encoding.bits)


def test_a_training_pair_over_the_range_has_its_target_in_the_same_unit(head):
    camera = orbit_camera(0.0, 0.0, 192)
    truth = ellipsoid_depth(camera)
    mask = truth > 0
    encoding = DepthEncoding.from_depth(truth, mask, 16, "mm")
    target = DepthCode(encoding.encode(truth, mask), encoding, camera, "truth")
    pair = make_pair_of_code("head", over_range(head, RANGE_MM), target)
    used = pair.code > 0
    mm = (pair.code * pair.gain + pair.offset) * RANGE_MM + head.encoding.near
    assert pair.lr.range == RANGE_MM and np.allclose(mm[used], truth[used], atol=2 * encoding.lsb)


def test_a_negative_range_is_an_error():
    with pytest.raises(ValueError, match="range_mm -1"):
        SplatHeadArchitecture(range_mm=-1)
