"""The vector type: sixteen float32 lanes, their masks, their operators, and the LLVM code that they emit."""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

LANES = 16

INT = ir.IntType(32)
FLOAT_VECTOR = ir.VectorType(ir.FloatType(), LANES)
INT_VECTOR = ir.VectorType(INT, LANES)
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
        super().__init__(manager, frontend_type, FLOAT_VECTOR)


@register_model(_Mask16)
class _Mask16Model(models.PrimitiveModel):
    def __init__(self, manager, frontend_type) -> None:
        super().__init__(manager, frontend_type, _MASK_VECTOR)


def constant(value: float) -> ir.Constant:
    """The same number in all lanes."""
    return ir.Constant(FLOAT_VECTOR, [float(value)] * LANES)


def splat_lane(builder, scalar):
    """A run-time float in all lanes."""
    vector = builder.insert_element(ir.Constant(FLOAT_VECTOR, ir.Undefined), scalar, ir.Constant(INT, 0))
    return builder.shuffle_vector(vector, ir.Constant(FLOAT_VECTOR, ir.Undefined), ir.Constant(INT_VECTOR, [0] * LANES))


def as_vector(context, builder, value, numba_type):
    """The operand itself, or a number broadcast to all lanes."""
    if numba_type == float32x16:
        return value
    return splat_lane(builder, context.cast(builder, value, numba_type, types.float32))


def call_intrinsic(builder, name: str, *args):
    """Call of an LLVM vector intrinsic that returns a vector like its arguments."""
    signature = ir.FunctionType(FLOAT_VECTOR, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def multiply_add(builder, a, b, c):
    """a b + c, fused where the CPU can."""
    # fmuladd, not fma: without hardware support fma is a library call per lane.
    return call_intrinsic(builder, f"llvm.fmuladd.v{LANES}f32", a, b, c)


def vector_address(context, builder, array_type, array, offset, channel: int = 0):
    """Address of the vector at float ``offset`` + channel * LANES of a flat float32 array."""
    data = context.make_array(array_type)(context, builder, array).data
    index = builder.add(offset, ir.Constant(offset.type, channel * LANES))
    return builder.bitcast(builder.gep(data, [index]), FLOAT_VECTOR.as_pointer())


def load_vector(context, builder, array_type, array, offset, channel: int = 0):
    """The vector at :func:`vector_address`."""
    return builder.load(vector_address(context, builder, array_type, array, offset, channel), align=4)


def is_flat_float32(array_type) -> bool:
    """Whether loads and stores know the array's layout."""
    return isinstance(array_type, types.Array) and array_type.ndim == 1 and array_type.dtype == types.float32


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
        return emit(builder, *(as_vector(context, builder, a, t) for a, t in zip(args, signature.args, strict=True)))

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
