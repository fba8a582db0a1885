"""Tuples of vectors, one per feature channel: unrolled while compiling, so that one kernel serves every channel count."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from splathead.raster.cpu.simd.vector import (
    INT_VECTOR,
    LANES,
    constant,
    float32x16,
    load_vector,
    multiply_add,
    splat_lane,
    vector_address,
)


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
        return _pack(context, builder, result, [splat_lane(builder, scalar) for scalar in scalars])

    return result(table, types.intp, types.intp, channels), emit


@intrinsic
def zeros_each(_context, channels):
    """Tuple of len(channels) zero vectors."""
    result = types.UniTuple(float32x16, channels.count)

    def emit(context, builder, _signature, _args):
        return _pack(context, builder, result, [constant(0.0)] * result.count)

    return result(channels), emit


@intrinsic
def load_each(_context, array, offset, channels):
    """Tuple of len(channels) consecutive vectors."""
    result = types.UniTuple(float32x16, channels.count)

    def emit(context, builder, signature, args):
        vectors = [load_vector(context, builder, signature.args[0], args[0], args[1], c) for c in range(result.count)]
        return _pack(context, builder, result, vectors)

    return result(array, types.intp, channels), emit


@intrinsic
def add_to_each(_context, array, offset, weight, vectors):
    """``array[offset + 16 c ...] += weight * vectors[c]`` for every channel c."""

    def emit(context, builder, signature, args):
        for c, vector in enumerate(_unpack(builder, args[3], signature.args[3])):
            address = vector_address(context, builder, signature.args[0], args[0], args[1], c)
            builder.store(multiply_add(builder, args[2], vector, builder.load(address, align=4)), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, vectors), emit


@intrinsic
def dot_each(_context, left, right, start):
    """``start + sum_c left[c] * right[c]``."""

    def emit(_context, builder, signature, args):
        total = args[2]
        pairs = zip(_unpack(builder, args[0], signature.args[0]), _unpack(builder, args[1], signature.args[1]), strict=True)
        for a, b in pairs:
            total = multiply_add(builder, a, b, total)
        return total

    return float32x16(left, right, float32x16), emit


@intrinsic
def multiply_add_each(_context, weight, vectors, sums):
    """Tuple of ``sums[c] + weight * vectors[c]``."""

    def emit(context, builder, signature, args):
        pairs = zip(_unpack(builder, args[1], signature.args[1]), _unpack(builder, args[2], signature.args[2]), strict=True)
        return _pack(context, builder, signature.return_type, [multiply_add(builder, args[0], v, s) for v, s in pairs])

    return sums(float32x16, vectors, sums), emit


@intrinsic
def sum_lanes_each(_context, vectors):
    """One vector whose lane k is the sum over the lanes of the k-th vector of a tuple of at most 16; other lanes 0."""
    if vectors.count > LANES:
        return None

    def emit(_context, builder, signature, args):
        partial = _unpack(builder, args[0], signature.args[0])
        partial += [constant(0.0)] * (LANES - len(partial))
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
                    builder.shuffle_vector(a, b, ir.Constant(INT_VECTOR, low)),
                    builder.shuffle_vector(a, b, ir.Constant(INT_VECTOR, high)),
                )
                for a, b in zip(partial[:count], partial[count:], strict=True)
            ]
            block = half
        return partial[0]

    return float32x16(vectors), emit
