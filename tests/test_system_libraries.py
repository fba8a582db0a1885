"""A bare machine has glibc, GCC's runtime and Python: nothing that the default run loads may need more."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

elffile = pytest.importorskip("elftools.elf.elffile")

# glibc, and GCC's runtime, which Debian and Ubuntu always have because apt itself needs it
BASE_SYSTEM = re.compile(
    r"^(libc|libm|libpthread|libdl|librt|libutil|libmvec|libresolv|libnsl|ld-linux-x86-64|libgcc_s|libstdc\+\+|libatomic)\.so"
)
# Python's own standard library needs these (zlib, without which pip cannot unpack a wheel), so they are there
PYTHON_RUNTIME = re.compile(r"^(libpython3|libz\.so)")
# numba's optional threading layers: without these libraries it uses its built-in "workqueue" layer
OPTIONAL_FILES = re.compile(r"^(omppool|tbbpool)\.")
# loaded at run time by code that copes with their absence: NVIDIA's driver, and CUDA builds beside a CPU torch
GPU_ONLY = re.compile(
    r"^lib(cuda|cudart|cudnn|cublas|cublasLt|cufft|curand|cusolver|cusparse|cusparseLt|cupti|nccl|nvrtc|nvJitLink|nvToolsExt"
    r"|nvshmem_host|cufile|nvidia-ml|c10_cuda|torch_cuda|mlx5|rdmacm|ibverbs)\."
)
# needs libX11, libGL and more: nothing in the default run imports it
NOT_IN_DEFAULT_RUN = {"open3d"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements(path: Path) -> set[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {canonical(re.match(r"[A-Za-z0-9_.-]+", line)[0]) for line in lines if line and not line.startswith("-")}


def dependency_closure(roots: set[str]) -> dict[str, importlib.metadata.Distribution]:
    from packaging.requirements import Requirement

    found: dict[str, importlib.metadata.Distribution] = {}
    todo = list(roots)
    while todo:
        name = canonical(todo.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a marker of another platform, or an optional backend
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def needed_libraries(path: Path) -> set[str]:
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return set()
        section = elffile.ELFFile(stream).get_section_by_name(".dynamic")
        if section is None:
            return set()
        return {tag.needed for tag in section.iter_tags() if tag.entry.d_tag == "DT_NEEDED"}


def test_default_run_needs_no_system_library():
    roots = direct_requirements(REPOSITORY / "requirements.txt") - NOT_IN_DEFAULT_RUN
    closure = dependency_closure(roots)
    missing = {name for name in roots if name not in closure}
    assert not missing, f"requirements.txt names packages that are not installed: {missing}"
    libraries = {}
    for name, distribution in closure.items():
        for file in distribution.files or []:
            if ".so" in file.name:
                libraries[Path(distribution.locate_file(file))] = name
    assert len(libraries) > 100, "the wheels' shared libraries were not found: the test would prove nothing"
    in_wheels = {path.name for path in libraries}
    outside = {}
    for path, package in libraries.items():
        if not path.is_file() or OPTIONAL_FILES.match(path.name):
            continue
        for library in needed_libraries(path):
            if library in in_wheels or any(p.match(library) for p in (BASE_SYSTEM, PYTHON_RUNTIME, GPU_ONLY)):
                continue
            outside.setdefault(library, set()).add(f"{package}: {path.name}")
    assert not outside, f"system libraries a bare machine lacks: {outside}"


def test_open3d_would_be_caught():
    """The check is able to fail: open3d's wheel needs libraries that a bare machine lacks."""
    distribution = dependency_closure({"open3d"}).get("open3d")
    if distribution is None:
        pytest.skip("open3d is not installed")
    needed = set()
    for file in distribution.files or []:
        if ".so" in file.name:
            needed |= needed_libraries(Path(distribution.locate_file(file)))
    assert any(library.startswith(("libX11", "libGL", "libusb")) for library in needed)
