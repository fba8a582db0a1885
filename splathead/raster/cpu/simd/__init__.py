"""Sixteen float32 lanes as a numba type, so that kernels say explicitly what runs in parallel.

Numba does not vectorise a per-pixel loop with an exponential by itself. Here ``+ - * /``,
``< <= > >=`` and ``&`` work on whole vectors (a scalar operand is broadcast) and emit LLVM
vector instructions, which LLVM maps to whatever the CPU has: one AVX-512 register, two AVX ones,
four SSE ones. Products and sums carry the ``contract`` flag: they fuse where the CPU has FMA and
stay two instructions where it lacks it.
"""

from splathead.raster.cpu.simd.channels import (
    add_to_each,
    broadcast_each,
    dot_each,
    load_each,
    multiply_add_each,
    sum_lanes_each,
    zeros_each,
)
from splathead.raster.cpu.simd.lanes import (
    any_lane,
    broadcast,
    exp2,
    load,
    load_rows,
    log2,
    maximum,
    minimum,
    prefetch,
    select,
    sqrt,
    store,
    store_rows,
)
from splathead.raster.cpu.simd.vector import LANES, float32x16, mask16

__all__ = [
    "LANES", "add_to_each", "any_lane", "broadcast", "broadcast_each", "dot_each", "exp2", "float32x16", "load", "load_each",
    "load_rows", "log2", "mask16", "maximum", "minimum", "multiply_add_each", "prefetch", "select", "sqrt", "store",
    "store_rows", "sum_lanes_each", "zeros_each",
]  # fmt: skip
