"""Functions on vectors: memory, selection, extrema, exponentials."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from splathead.raster.cpu.simd.vector import (
    FLOAT_VECTOR,
    INT,
    INT_VECTOR,
    LANES,
    as_vector,
    call_intrinsic,
    constant,
    float32x16,
    is_flat_float32,
    load_vector,
    mask16,
    multiply_add,
    vector_address,
)


@intrinsic
def broadcast(_context, value):
    """All lanes equal to a number."""

    def emit(context, builder, signature, args):
        return as_vector(context, builder, args[0], signature.args[0])

    return float32x16(value), emit


@intrinsic
def load(_context, array, offset):
    """Lanes from 16 consecutive floats of a flat float32 array, starting at ``offset``."""
    if not is_flat_float32(array):
        return None

    def emit(context, builder, signature, args):
        return load_vector(context, builder, signature.args[0], *args)

    return float32x16(array, types.intp), emit


@intrinsic
def store(_context, array, offset, vector):
    """Write the lanes to 16 consecutive floats of a flat float32 array."""
    if not is_flat_float32(array):
        return None

    def emit(context, builder, signature, args):
        builder.store(args[2], vector_address(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), emit


@intrinsic
def prefetch(_context, array, offset):
    """Ask for the cache line of a C-contiguous array's ``offset``-th element, which will soon be read or written."""

    def emit(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer_type = ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer_type)
        signature = ir.FunctionType(ir.VoidType(), [pointer_type, INT, INT, INT])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        for_reading, keep, data_cache = (ir.Constant(INT, value) for value in (0, 3, 1))
        builder.call(function, [address, for_reading, keep, data_cache])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


def _row_addresses(context, builder, array_type, args):
    """Addresses of four rows of four floats: offset, offset + stride, ..."""
    data = context.make_array(array_type)(context, builder, args[0]).data
    index = args[1]
    for _ in range(4):
        yield builder.bitcast(builder.gep(data, [index]), ir.VectorType(ir.FloatType(), 4).as_pointer())
        index = builder.add(index, args[2])


@intrinsic
def load_rows(_context, array, offset, stride):
    """Lanes from a 4x4 block of a row-major image in a flat float32 array: rows start ``stride`` apart."""

    def emit(context, builder, signature, args):
        rows = [builder.load(address, align=4) for address in _row_addresses(context, builder, signature.args[0], args)]
        halves = [
            builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, 8), list(range(8)))) for a, b in (rows[:2], rows[2:])
        ]
        return builder.shuffle_vector(*halves, ir.Constant(INT_VECTOR, list(range(LANES))))

    return float32x16(array, types.intp, types.intp), emit


@intrinsic
def store_rows(_context, array, offset, stride, vector):
    """The inverse of :func:`load_rows`."""

    def emit(context, builder, signature, args):
        for row, address in enumerate(_row_addresses(context, builder, signature.args[0], args)):
            lanes = ir.Constant(ir.VectorType(INT, 4), list(range(4 * row, 4 * row + 4)))
            builder.store(builder.shuffle_vector(args[3], ir.Constant(FLOAT_VECTOR, ir.Undefined), lanes), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, float32x16), emit


@intrinsic
def select(_context, mask, when_true, when_false):
    """Lane-wise choice; the branches are vectors or numbers."""

    def emit(context, builder, signature, args):
        branches = (as_vector(context, builder, a, t) for a, t in zip(args[1:], signature.args[1:], strict=True))
        return builder.select(args[0], *branches)

    return float32x16(mask16, when_true, when_false), emit


@intrinsic
def any_lane(_context, mask):
    """Whether some lane of a mask is set."""

    def emit(_context, builder, _signature, args):
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask16), emit


def _extremum(comparison: str):
    def extremum(_context, left, right):
        def emit(context, builder, signature, args):
            a, b = (as_vector(context, builder, x, t) for x, t in zip(args, signature.args, strict=True))
            return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)

        return float32x16(left, right), emit

    return intrinsic(extremum)


minimum = _extremum("<")
maximum = _extremum(">")


def _exp2_coefficients(degree: int) -> list[float]:
    """Least-squares polynomial of 2^x on [-1/2, 1/2] in relative error, highest power first."""
    x = np.cos(np.pi * (np.arange(400) + 0.5) / 400) * 0.5
    weight = 1 / 2**x
    return np.linalg.lstsq(np.vander(x, degree + 1) * weight[:, None], 2**x * weight, rcond=None)[0].tolist()


_EXP2_COEFFICIENTS = _exp2_coefficients(5)
_ROUNDING_SHIFT = 1.5 * 2**23


@intrinsic
def exp2(_context, vector):
    """2^x per lane to about 3e-7 relative, for -126 <= x <= 126 (nonsense, but no trap, beyond)."""

    def emit(_context, builder, _signature, args):
        # Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the float.
        shifted = builder.fadd(args[0], constant(_ROUNDING_SHIFT))
        fraction = builder.fsub(args[0], builder.fsub(shifted, constant(_ROUNDING_SHIFT)))
        mantissa = constant(_EXP2_COEFFICIENTS[0])
        for coefficient in _EXP2_COEFFICIENTS[1:]:
            mantissa = multiply_add(builder, mantissa, fraction, constant(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, INT_VECTOR), ir.Constant(INT_VECTOR, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(mantissa, INT_VECTOR), exponent), FLOAT_VECTOR)

    return float32x16(float32x16), emit


def _unary_library_function(name: str):
    def function(_context, vector):
        def emit(_context, builder, _signature, args):
            return call_intrinsic(builder, f"llvm.{name}.v{LANES}f32", args[0])

        return float32x16(float32x16), emit

    return intrinsic(function)


sqrt = _unary_library_function("sqrt")
log2 = _unary_library_function("log2")
