"""Sixteen float32 lanes as a numba type, so that kernels say explicitly what runs in parallel.

Numba does not vectorise a per-pixel loop with an exponential by itself. Here ``+ - * /``,
``< <= > >=`` and ``&`` work on whole vectors (a scalar operand is broadcast) and emit LLVM
vector instructions, which LLVM maps to whatever the CPU has: one AVX-512 register, two AVX ones,
four SSE ones. Products and sums carry the ``contract`` flag: they fuse where the CPU has FMA and
stay two instructions where it lacks it.

``Lanes`` tuples (one vector per feature channel) are handled by ``*_each`` functions that unroll
while compiling, so that one kernel source serves every channel count.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16

_INT = ir.IntType(32)
_FLOAT_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT_VECTOR = ir.VectorType(_INT, LANES)
_MASK_VECTOR = ir.VectorType(ir.IntType(1), LANES)
_FLAGS = ("contract", "nsz")


class _Float32x16(types.Type):
    def __init__(self) -> None:
        super().__init__("float32x16")


class _Mask16(types.Type):
    def __init__(self) -> None:
        super().__init__("mask16")


float32x16 = _Float32x16()
mask16 = _Mask16()


@register_model(_Float32x16)
class _Float32x16Model(models.PrimitiveModel):
    def __init__(self, manager, frontend_type) -> None:
        super().__init__(manager, frontend_type, _FLOAT_VECTOR)


@register_model(_Mask16)
class _Mask16Model(models.PrimitiveModel):
    def __init__(self, manager, frontend_type) -> None:
        super().__init__(manager, frontend_type, _MASK_VECTOR)


# ---- building blocks of the emitted LLVM code


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOAT_VECTOR, [float(value)] * LANES)


def _splat(builder, scalar):
    vector = builder.insert_element(ir.Constant(_FLOAT_VECTOR, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(vector, ir.Constant(_FLOAT_VECTOR, ir.Undefined), ir.Constant(_INT_VECTOR, [0] * LANES))


def _as_vector(context, builder, value, numba_type):
    """The operand itself, or a number broadcast to all lanes."""
    if numba_type == float32x16:
        return value
    return _splat(builder, context.cast(builder, value, numba_type, types.float32))


def _call(builder, name: str, *args):
    """Call of an LLVM vector intrinsic that returns a vector like its arguments."""
    signature = ir.FunctionType(_FLOAT_VECTOR, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def _multiply_add(builder, a, b, c):
    # fmuladd, not fma: without hardware support fma is a library call per lane.
    return _call(builder, f"llvm.fmuladd.v{LANES}f32", a, b, c)


def _address(context, builder, array_type, array, offset, channel: int = 0):
    """Address of the vector at float ``offset`` + channel * LANES of a flat float32 array."""
    data = context.make_array(array_type)(context, builder, array).data
    index = builder.add(offset, ir.Constant(offset.type, channel * LANES))
    return builder.bitcast(builder.gep(data, [index]), _FLOAT_VECTOR.as_pointer())


def _load(context, builder, array_type, array, offset, channel: int = 0):
    return builder.load(_address(context, builder, array_type, array, offset, channel), align=4)


def _is_flat_float32(array_type) -> bool:
    return isinstance(array_type, types.Array) and array_type.ndim == 1 and array_type.dtype == types.float32


# ---- operators


def _register_operator(function, result, emit) -> None:
    """Define a binary operator between vectors, or a vector and a number."""

    @type_callable(function)
    def _typing(_context):
        def typer(left, right):
            operands = (left, right)
            if float32x16 in operands and all(t == float32x16 or isinstance(t, types.Float) for t in operands):
                return result
            return None

        return typer

    def lower(context, builder, signature, args):
        return emit(builder, *(_as_vector(context, builder, a, t) for a, t in zip(args, signature.args, strict=True)))

    for left, right in ((float32x16, float32x16), (float32x16, types.Float), (types.Float, float32x16)):
        lower_builtin(function, left, right)(lower)


_register_operator(operator.add, float32x16, lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS))
_register_operator(operator.sub, float32x16, lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS))
_register_operator(operator.mul, float32x16, lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS))
_register_operator(operator.truediv, float32x16, lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS))
_register_operator(operator.lt, mask16, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_register_operator(operator.le, mask16, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_register_operator(operator.gt, mask16, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_register_operator(operator.ge, mask16, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))


@type_callable(operator.and_)
def _type_and(_context):
    def typer(left, right):
        return mask16 if left == right == mask16 else None

    return typer


@lower_builtin(operator.and_, mask16, mask16)
def _lower_and(_context, builder, _signature, args):
    return builder.and_(*args)


# ---- lanes


@intrinsic
def broadcast(_context, value):
    """All lanes equal to a number."""

    def emit(context, builder, signature, args):
        return _as_vector(context, builder, args[0], signature.args[0])

    return float32x16(value), emit


@intrinsic
def load(_context, array, offset):
    """Lanes from 16 consecutive floats of a flat float32 array, starting at ``offset``."""
    if not _is_flat_float32(array):
        return None

    def emit(context, builder, signature, args):
        return _load(context, builder, signature.args[0], *args)

    return float32x16(array, types.intp), emit


@intrinsic
def store(_context, array, offset, vector):
    """Write the lanes to 16 consecutive floats of a flat float32 array."""
    if not _is_flat_float32(array):
        return None

    def emit(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), emit


@intrinsic
def prefetch(_context, array, offset):
    """Ask for the cache line of a C-contiguous array's ``offset``-th element, which will soon be read or written."""

    def emit(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer_type = ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer_type)
        signature = ir.FunctionType(ir.VoidType(), [pointer_type, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        for_reading, keep, data_cache = (ir.Constant(_INT, value) for value in (0, 3, 1))
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
            builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, 8), list(range(8)))) for a, b in (rows[:2], rows[2:])
        ]
        return builder.shuffle_vector(*halves, ir.Constant(_INT_VECTOR, list(range(LANES))))

    return float32x16(array, types.intp, types.intp), emit


@intrinsic
def store_rows(_context, array, offset, stride, vector):
    """The inverse of :func:`load_rows`."""

    def emit(context, builder, signature, args):
        for row, address in enumerate(_row_addresses(context, builder, signature.args[0], args)):
            lanes = ir.Constant(ir.VectorType(_INT, 4), list(range(4 * row, 4 * row + 4)))
            builder.store(builder.shuffle_vector(args[3], ir.Constant(_FLOAT_VECTOR, ir.Undefined), lanes), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, float32x16), emit


@intrinsic
def select(_context, mask, when_true, when_false):
    """Lane-wise choice; the branches are vectors or numbers."""

    def emit(context, builder, signature, args):
        branches = (_as_vector(context, builder, a, t) for a, t in zip(args[1:], signature.args[1:], strict=True))
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
            a, b = (_as_vector(context, builder, x, t) for x, t in zip(args, signature.args, strict=True))
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
        shifted = builder.fadd(args[0], _constant(_ROUNDING_SHIFT))
        fraction = builder.fsub(args[0], builder.fsub(shifted, _constant(_ROUNDING_SHIFT)))
        mantissa = _constant(_EXP2_COEFFICIENTS[0])
        for coefficient in _EXP2_COEFFICIENTS[1:]:
            mantissa = _multiply_add(builder, mantissa, fraction, _constant(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, _INT_VECTOR), ir.Constant(_INT_VECTOR, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(mantissa, _INT_VECTOR), exponent), _FLOAT_VECTOR)

    return float32x16(float32x16), emit


def _unary_library_function(name: str):
    def function(_context, vector):
        def emit(_context, builder, _signature, args):
            return _call(builder, f"llvm.{name}.v{LANES}f32", args[0])

        return float32x16(float32x16), emit

    return intrinsic(function)


sqrt = _unary_library_function("sqrt")
log2 = _unary_library_function("log2")


# ---- tuples of vectors, one per feature channel


def _pack(context, builder, tuple_type, vectors):
    return context.make_tuple(builder, tuple_type, vectors)


def _unpack(builder, value, tuple_type):
    return cgutils.unpack_tuple(builder, value, tuple_type.count)


@intrinsic
def broadcast_each(_context, table, row, column, channels):
    """Tuple of broadcasts of ``table[row, column + c]`` for c < len(channels); ``table`` is float32 [., .]."""
    result = types.UniTuple(float32x16, channels.count)

    def emit(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        stride = builder.udiv(cgutils.unpack_tuple(builder, array.strides, 2)[0], ir.Constant(args[1].type, 4))
        start = builder.add(builder.mul(args[1], stride), args[2])
        scalars = (
            builder.load(builder.gep(array.data, [builder.add(start, ir.Constant(start.type, c))])) for c in range(result.count)
        )
        return _pack(context, builder, result, [_splat(builder, scalar) for scalar in scalars])

    return result(table, types.intp, types.intp, channels), emit


@intrinsic
def zeros_each(_context, channels):
    """Tuple of len(channels) zero vectors."""
    result = types.UniTuple(float32x16, channels.count)

    def emit(context, builder, _signature, _args):
        return _pack(context, builder, result, [_constant(0.0)] * result.count)

    return result(channels), emit


@intrinsic
def load_each(_context, array, offset, channels):
    """Tuple of len(channels) consecutive vectors."""
    result = types.UniTuple(float32x16, channels.count)

    def emit(context, builder, signature, args):
        vectors = [_load(context, builder, signature.args[0], args[0], args[1], c) for c in range(result.count)]
        return _pack(context, builder, result, vectors)

    return result(array, types.intp, channels), emit


@intrinsic
def add_to_each(_context, array, offset, weight, vectors):
    """``array[offset + 16 c ...] += weight * vectors[c]`` for every channel c."""

    def emit(context, builder, signature, args):
        for c, vector in enumerate(_unpack(builder, args[3], signature.args[3])):
            address = _address(context, builder, signature.args[0], args[0], args[1], c)
            builder.store(_multiply_add(builder, args[2], vector, builder.load(address, align=4)), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, vectors), emit


@intrinsic
def dot_each(_context, left, right, start):
    """``start + sum_c left[c] * right[c]``."""

    def emit(_context, builder, signature, args):
        total = args[2]
        pairs = zip(_unpack(builder, args[0], signature.args[0]), _unpack(builder, args[1], signature.args[1]), strict=True)
        for a, b in pairs:
            total = _multiply_add(builder, a, b, total)
        return total

    return float32x16(left, right, float32x16), emit


@intrinsic
def multiply_add_each(_context, weight, vectors, sums):
    """Tuple of ``sums[c] + weight * vectors[c]``."""

    def emit(context, builder, signature, args):
        pairs = zip(_unpack(builder, args[1], signature.args[1]), _unpack(builder, args[2], signature.args[2]), strict=True)
        return _pack(context, builder, signature.return_type, [_multiply_add(builder, args[0], v, s) for v, s in pairs])

    return sums(float32x16, vectors, sums), emit


@intrinsic
def sum_lanes_each(_context, vectors):
    """One vector whose lane k is the sum over the lanes of the k-th vector of a tuple of at most 16; other lanes 0."""
    if vectors.count > LANES:
        return None

    def emit(_context, builder, signature, args):
        partial = _unpack(builder, args[0], signature.args[0])
        partial += [_constant(0.0)] * (LANES - len(partial))
        # A butterfly: each round adds halves of blocks of two vectors into one vector of narrower blocks.
        block = LANES
        while block > 1:
            half, low, high = block // 2, [], []
            for base in range(0, LANES, block):
                low += [*range(base, base + half), *range(LANES + base, LANES + base + half)]
                high += [*range(base + half, base + block), *range(LANES + base + half, LANES + base + block)]
            count = len(partial) // 2
            partial = [
                builder.fadd(
                    builder.shuffle_vector(a, b, ir.Constant(_INT_VECTOR, low)),
                    builder.shuffle_vector(a, b, ir.Constant(_INT_VECTOR, high)),
                )
                for a, b in zip(partial[:count], partial[count:], strict=True)
            ]
            block = half
        return partial[0]

    return float32x16(vectors), emit
