"""The early start of the CUDA driver: the calls it makes, and that a machine without a driver is none of its business."""

from __future__ import annotations

import ctypes
import threading

import pytest

from splathead.cuda_start import begin_cuda


class FakeDriver:
    """Answers as libcuda does; ``found`` False: there is no GPU."""

    def __init__(self, found: bool) -> None:
        self.status, self.calls = (0 if found else 100), []

    def cuInit(self, flags: int) -> int:
        self.calls.append(("cuInit", flags))
        return self.status

    def cuDeviceGet(self, device, ordinal: int) -> int:
        self.calls.append(("cuDeviceGet", ordinal))
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device) -> int:
        self.calls.append(("cuDevicePrimaryCtxRetain", device.value))
        return 0


def finished() -> None:
    for thread in threading.enumerate():
        if thread.name == "start CUDA":
            thread.join(10)


@pytest.mark.parametrize(
    ("found", "calls"), [(True, ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]), (False, ["cuInit"])]
)
def test_the_first_gpu_gets_a_context(monkeypatch, found, calls):
    driver = FakeDriver(found)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    begin_cuda()
    finished()
    assert [name for name, _ in driver.calls] == calls


def test_no_driver_is_no_error(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    before = threading.active_count()
    begin_cuda()
    assert threading.active_count() == before
