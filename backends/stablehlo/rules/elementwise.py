"""Elementwise rows, special functions included. Narrow floats compute in f32 where a rule has more than one op."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thalweg.backends.stablehlo.expressions import Array, create, elementwise, tensor
from thalweg.backends.stablehlo.table import direct, expands, lowers
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import elementwise as rows
from thalweg.dialects.ops import special
from thalweg.dialects.types import FLOATS, DType, dtype_from_mlir

direct(
    {
        rows.neg: "negate", rows.abs: "abs", rows.sign: "sign", rows.floor: "floor", rows.ceil: "ceil",
        rows.round: "round_nearest_even", rows.sqrt: "sqrt", rows.rsqrt: "rsqrt", rows.cbrt: "cbrt",
        rows.exp: "exponential", rows.expm1: "exponential_minus_one", rows.log: "log", rows.log1p: "log_plus_one",
        rows.sin: "sine", rows.cos: "cosine", rows.tan: "tan", rows.tanh: "tanh",
        rows.not_: "not", rows.popcount: "popcnt",
        rows.add: "add", rows.sub: "subtract", rows.mul: "multiply", rows.div: "divide", rows.rem: "remainder",
        rows.atan2: "atan2", rows.max: "maximum", rows.min: "minimum",
        rows.and_: "and", rows.or_: "or", rows.xor: "xor", rows.shift_left: "shift_left",
        rows.shift_right_arithmetic: "shift_right_arithmetic", rows.shift_right_logical: "shift_right_logical",
    }
)  # fmt: skip

NARROW = tuple(d.mlir for d in FLOATS if d.computed != d)


def in_f32(x: Array, function: Callable[[Array], Array]) -> Array:
    """`function` of x, computed in f32 and rounded once where x is of a narrower float."""
    return function(x.convert("f32")).convert(x.element) if x.element in NARROW else function(x)


@lowers(rows.logistic)
def logistic(x: Array) -> Array:
    """Of 8 bits in f32: implementations compute exp(-x) on the way, which overflows where the result does not."""
    return elementwise("logistic", _more_than_8_bits(x)).convert(x.element)


def _more_than_8_bits(x: Array) -> Array:
    return x.convert("f32") if x.element.startswith("f8") else x


# These are ops of CHLO, which `lower` legalises to polynomials in StableHLO.
CHLO: dict[OpDef, str] = {
    rows.asin: "asin", rows.acos: "acos", rows.atan: "atan", rows.asinh: "asinh", rows.acosh: "acosh",
    rows.atanh: "atanh", rows.erf: "erf",
    special.lgamma: "lgamma", special.digamma: "digamma", special.erf_inv: "erf_inv",
}  # fmt: skip


@lowers(*CHLO)
def chlo(row: OpDef, x: Array) -> Array:
    def call(x: Array) -> Array:
        return Array(ir.Operation.create(f"chlo.{CHLO[row]}", [x.value.type], [x.value]).results[0])

    return in_f32(x, call)


@lowers(rows.cosh)
def cosh(x: Array) -> Array:
    """(e**|x| + e**-|x|) / 2 from e**(|x|/2), so that no rounding of x is blown up and only the result overflows."""

    def compute(x: Array) -> Array:
        root = elementwise("exponential", elementwise("abs", x) * 0.5)
        return root * 0.5 * root + 0.5 / (root * root)

    return in_f32(x, compute)


@lowers(rows.sinh)
def sinh(x: Array) -> Array:
    """Below 1 from expm1, which keeps the digits that e**x - e**-x would cancel."""

    def compute(x: Array) -> Array:
        size = elementwise("abs", x)
        root = elementwise("exponential", size * 0.5)
        large = root * 0.5 * root - 0.5 / (root * root)
        rise = elementwise("exponential_minus_one", size)
        small = (rise + rise / (rise + 1)) * 0.5
        return (size < 1).select(small, large) * elementwise("sign", x)

    return in_f32(x, compute)


@lowers(rows.exp2)
def exp2(x: Array) -> Array:
    """2**n * 2**f with n integral and |f| <= 1/2; 2**n is made of bits, in two halves to reach the subnormals."""

    def compute(x: Array) -> Array:
        whole, bias, mantissa = ("i64", 1023, 52) if x.element == "f64" else ("i32", 127, 23)
        clamped = elementwise("clamp", x.like(-2.0 * bias), x, x.like(2.0 * bias))
        near = elementwise("round_nearest_even", clamped)
        fraction = elementwise("exponential", (clamped - near) * math.log(2))
        n = near.select_not_nan(0.0).convert(whole)
        half = elementwise("shift_right_arithmetic", n, n.like(1))
        scales = [((k + bias) * (1 << mantissa)).bitcast(x.element) for k in (half, n - half)]
        return fraction * scales[0] * scales[1]

    return in_f32(x, compute)


@lowers(rows.pow)
def pow(base: Array, exponent: Array) -> Array:
    """Of integers, square and multiply, as many rounds as the largest exponent has bits."""
    if dtype_from_mlir(base.element).is_floating:
        return elementwise("power", base, exponent)
    negative = exponent < 0
    bits = negative.select(exponent.like(0), exponent)
    types = [base.value.type] * 3
    start = [base.like(1).value, base.value, bits.value]
    loop = ir.Operation.create("stablehlo.while", types, start, regions=2)
    test, step = (region.blocks.append(*types) for region in loop.regions)
    with ir.InsertionPoint(test):
        left = Array(test.arguments[2])
        more = (left > 0).reduce("or", 0, range(left.rank)) if left.rank else left > 0
        ir.Operation.create("stablehlo.return", [], [more.value])
    with ir.InsertionPoint(step):
        product, square, left = map(Array, step.arguments)
        product = (left & 1).equals(1).select(product * square, product)
        ir.Operation.create("stablehlo.return", [], [a.value for a in (product, square * square, left >> 1)])
    power = Array(loop.results[0])
    if dtype_from_mlir(base.element).kind != "i":
        return power
    alternating = (exponent & 1).equals(0).select(base.like(1), -1)
    of_negative = base.equals(1).select(base.like(1), base.equals(-1).select(alternating, 0))
    return negative.select(of_negative, power)


@lowers(rows.is_finite)
def is_finite(x: Array) -> Array:
    """Of 8 bits in f32: StableHLO's pass compares with infinity, which not all of them have."""
    return create("is_finite", tensor(x.shape, "i1"), [_more_than_8_bits(x)])


COMPARISONS = {rows.equal: "EQ", rows.not_equal: "NE", rows.less: "LT", rows.less_equal: "LE", rows.greater: "GT",
               rows.greater_equal: "GE"}  # fmt: skip


@lowers(*COMPARISONS)
def compare(row: OpDef, lhs: Array, rhs: Array) -> Array:
    return lhs.compare(COMPARISONS[row], rhs)


@lowers(rows.select)
def select(pred: Array, on_true: Array, on_false: Array) -> Array:
    return pred.select(on_true, on_false)


@lowers(rows.clamp)
def clamp(low: Array, x: Array, high: Array) -> Array:
    return create("clamp", x.value.type, [low, x, high])


@lowers(rows.convert)
def convert(x: Array, dtype: DType) -> Array:
    """Every implementation of StableHLO saturates, and takes NaN to 0, where a float leaves an integer type."""
    return x.convert(dtype.mlir)


@lowers(rows.bitcast)
def bitcast(x: Array, dtype: DType) -> Array:
    return x if x.element == dtype.mlir else x.bitcast(dtype.mlir)


@lowers(rows.stop_gradient)
def stop_gradient(x: Array) -> Array:
    return x


@expands(rows.barrier)
def barrier(operation: ir.Operation, operands: Sequence[ir.Value], lower: object) -> Sequence[ir.Value]:
    types = [o.type for o in operands]
    return list(ir.Operation.create("stablehlo.optimization_barrier", types, list(operands)).results)
