"""Laws of elementwise ops."""

from __future__ import annotations

import math
from typing import TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import shape
from thalweg.dialects.types import DType
from thalweg.passes.algebra.laws import attribute, is_integer, law, made_by
from thalweg.passes.rewriting import constant_number, full_like

V: TypeAlias = ir.Value


COMMUTATIVE = {
    row.mlir_name: row
    for row in (ew.add, ew.mul, ew.max, ew.min, ew.and_, ew.or_, ew.xor, ew.equal, ew.not_equal)
}


@law("c op x = x op c", *COMMUTATIVE.values())
def _(x: V, y: V, *, op: ir.Operation) -> V | None:
    if constant_number(x) is None or constant_number(y) is not None:
        return None
    return COMMUTATIVE[op.name](y, x)


@law("x + 0 = x", ew.add)
@law("x - 0 = x", ew.sub)
def _(x: V, y: V) -> V | None:
    return x if constant_number(y) == 0 else None


@law("x * 1 = x", ew.mul)
@law("x / 1 = x", ew.div)
@law("x ^ 1 = x", ew.pow)
def _(x: V, y: V) -> V | None:
    return x if constant_number(y) == 1 else None


@law("0 - x = -x", ew.sub)
def _(x: V, y: V) -> V | None:
    return ew.neg(y) if constant_number(x) == 0 else None


@law("x * -1 = -x", ew.mul)
@law("x / -1 = -x", ew.div)
def _(x: V, y: V) -> V | None:
    return ew.neg(x) if constant_number(y) == -1 else None


@law("integers: x * 0 = 0", ew.mul)
def _(x: V, y: V) -> V | None:
    return y if is_integer(x) and constant_number(y) == 0 else None


@law("integers: x - x = 0", ew.sub)
def _(x: V, y: V) -> V | None:
    return full_like(x, 0) if is_integer(x) and x == y else None


@law("x + -y = x - y", ew.add)
def _(x: V, y: V) -> V | None:
    if (negated := made_by(y, ew.neg)) is not None:
        return ew.sub(x, negated.operands[0])
    if (negated := made_by(x, ew.neg)) is not None:
        return ew.sub(y, negated.operands[0])
    return None


@law("x - -y = x + y", ew.sub)
def _(x: V, y: V) -> V | None:
    negated = made_by(y, ew.neg)
    return None if negated is None else ew.add(x, negated.operands[0])


@law("-(-x) = x", ew.neg)
def _(x: V) -> V | None:
    negated = made_by(x, ew.neg)
    return None if negated is None else negated.operands[0]


@law("-x * c = x * -c", ew.mul)
@law("-x / c = x / -c", ew.div)
def _(x: V, y: V, *, op: ir.Operation) -> V | None:
    negated, number = made_by(x, ew.neg), constant_number(y)
    if negated is None or number is None or is_integer(x):
        return None
    row = ew.mul if op.name == ew.mul.mlir_name else ew.div
    return row(negated.operands[0], full_like(y, -number))


@law("x / c = x * (1 / c) where that is exact", ew.div)
def _(x: V, y: V) -> V | None:
    number = constant_number(y)
    if is_integer(x) or number is None or number == 0 or not math.isfinite(number) or abs(number) == 1:
        return None
    mantissa, exponent = math.frexp(number)
    if abs(mantissa) != 0.5 or not -12 <= exponent <= 13:  # within the normal numbers of every float dtype
        return None
    return ew.mul(x, full_like(y, 1 / number))


@law("integers: (x op a) op b = x op (a op b)", ew.add, ew.mul)
def _(x: V, y: V, *, op: ir.Operation) -> V | None:
    row = COMMUTATIVE[op.name]
    inner = made_by(x, row)
    if inner is None or not is_integer(x) or constant_number(y) is None or constant_number(inner.operands[1]) is None:
        return None
    return row(inner.operands[0], row(inner.operands[1], y))


@law("x ^ 0 = 1", ew.pow)
def _(x: V, y: V) -> V | None:
    return full_like(x, 1) if constant_number(y) == 0 else None


@law("x ^ 2 = x * x", ew.pow)
def _(x: V, y: V) -> V | None:
    return ew.mul(x, x) if constant_number(y) == 2 else None


@law("x ^ 3 = x * x * x", ew.pow)
def _(x: V, y: V) -> V | None:
    return ew.mul(ew.mul(x, x), x) if constant_number(y) == 3 else None


@law("x ^ -1 = 1 / x", ew.pow)
def _(x: V, y: V) -> V | None:
    return ew.div(full_like(x, 1), x) if not is_integer(x) and constant_number(y) == -1 else None


@law("max(x, x) = x", ew.max, ew.min, ew.and_, ew.or_)
def _(x: V, y: V) -> V | None:
    return x if x == y else None


@law("x and true = x, x and false = false", ew.and_)
def _(x: V, y: V) -> V | None:
    if tensor_type_of(x).dtype.kind != "b" or (number := constant_number(y)) is None:
        return None
    return x if number else y


@law("x or false = x, x or true = true", ew.or_)
def _(x: V, y: V) -> V | None:
    if tensor_type_of(x).dtype.kind != "b" or (number := constant_number(y)) is None:
        return None
    return y if number else x


@law("not not x = x", ew.not_)
def _(x: V) -> V | None:
    inner = made_by(x, ew.not_)
    return None if inner is None else inner.operands[0]


@law("not (x = y) = x != y", ew.not_)
def _(x: V) -> V | None:
    if (same := made_by(x, ew.equal)) is not None:
        return ew.not_equal(*same.operands)
    if (other := made_by(x, ew.not_equal)) is not None:
        return ew.equal(*other.operands)
    return None


@law("|-x| = |x|, ||x|| = |x|", ew.abs)
def _(x: V) -> V | None:
    for row in (ew.neg, ew.abs):
        if (inner := made_by(x, row)) is not None:
            return ew.abs(inner.operands[0])
    return None


@law("select(true, x, y) = x, select(false, x, y) = y", ew.select)
def _(pred: V, on_true: V, on_false: V) -> V | None:
    number = constant_number(pred)
    return None if number is None else (on_true if number else on_false)


@law("select(p, x, x) = x", ew.select)
def _(pred: V, on_true: V, on_false: V) -> V | None:
    return on_true if on_true == on_false else None


@law("select(not p, x, y) = select(p, y, x)", ew.select)
def _(pred: V, on_true: V, on_false: V) -> V | None:
    inner = made_by(pred, ew.not_)
    return None if inner is None else ew.select(inner.operands[0], on_false, on_true)


@law("select(p, select(p, x, _), y) = select(p, x, y)", ew.select)
def _(pred: V, on_true: V, on_false: V) -> V | None:
    if (inner := made_by(on_true, ew.select)) is not None and inner.operands[0] == pred:
        return ew.select(pred, inner.operands[1], on_false)
    if (inner := made_by(on_false, ew.select)) is not None and inner.operands[0] == pred:
        return ew.select(pred, on_true, inner.operands[2])
    return None


@law("convert to its own dtype = x", ew.convert)
def _(x: V, *, dtype: DType) -> V | None:
    return x if tensor_type_of(x).dtype == dtype else None


@law("convert(convert(x)) = convert(x) where the first loses nothing", ew.convert)
def _(x: V, *, dtype: DType) -> V | None:
    inner = made_by(x, ew.convert)
    if inner is None:
        return None
    source, between = tensor_type_of(inner.operands[0]).dtype, attribute(inner, ew.convert, "dtype")
    if not holds(between, source) or (source.kind == "b" and dtype.kind == "b"):
        return None
    return ew.convert(inner.operands[0], dtype=dtype)


def holds(wide: DType, narrow: DType) -> bool:
    """True if every number of `narrow` is one of `wide`, exactly."""
    if narrow.kind == "b":
        return True
    if narrow.is_floating:
        return wide == narrow or (wide.is_floating and wide.itemsize > narrow.itemsize)
    if wide.is_floating:
        return narrow.itemsize * 8 - (narrow.kind == "i") <= wide.digits and wide.name != "float16"
    if wide.kind == narrow.kind:
        return wide.itemsize >= narrow.itemsize
    return wide.kind == "i" and wide.itemsize > narrow.itemsize


def _named(*operands: str) -> dict[str, OpDef]:
    """The family's rows with these operands and no attributes, by MLIR name."""
    found = [row for row in vars(ew).values() if isinstance(row, OpDef) and row.family == "elementwise"]
    return {row.mlir_name: row for row in found if row.operands == operands and not row.attrs}


_UNARY = _named("x")
_BINARY = _named("lhs", "rhs")
del _UNARY["tw.stop_gradient"]


@law("f(broadcast(x)) = broadcast(f(x))", *_UNARY.values())
def _(x: V, *, op: ir.Operation) -> V | None:
    spread = made_by(x, shape.broadcast)
    if spread is None or not _grows(spread):
        return None
    return _spread_like(spread, _UNARY[op.name](spread.operands[0]))


@law("broadcast(x) op broadcast(y) = broadcast(x op y)", *_BINARY.values())
def _(x: V, y: V, *, op: ir.Operation) -> V | None:
    """Of operands that are spread alike, or one of which is a number."""
    left, right = made_by(x, shape.broadcast), made_by(y, shape.broadcast)
    if left is None or right is None:
        return None
    row = _BINARY[op.name]
    alike = left.operands[0].type.shape == right.operands[0].type.shape
    if alike and left.attributes["dims"] == right.attributes["dims"]:
        return _spread_like(left, row(left.operands[0], right.operands[0])) if _grows(left) else None
    if (number := constant_number(y)) is not None and _grows(left):
        return _spread_like(left, row(left.operands[0], full_like(left.operands[0], number)))
    if (number := constant_number(x)) is not None and _grows(right):
        return _spread_like(right, row(full_like(right.operands[0], number), right.operands[0]))
    return None


def _grows(broadcast: ir.Operation) -> bool:
    return tensor_type_of(broadcast.operands[0]).size < tensor_type_of(broadcast.results[0]).size


def _spread_like(broadcast: ir.Operation, x: V) -> V:
    dims = attribute(broadcast, shape.broadcast, "dims")
    return shape.broadcast(x, shape=tensor_type_of(broadcast.results[0]).shape, dims=dims)
