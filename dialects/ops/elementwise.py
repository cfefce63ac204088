"""Elementwise ops: every result element is a function of the operand elements at the same index.

Operands have equal shapes (broadcasting is an op of its own) and, unless the row says otherwise, equal dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erf as _erf
from typing import Any

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Infer, OpDef, Reference, Sample, define, fail
from thalweg.dialects.types import DTYPES, FLOATS, INTEGERS, SIGNED, DType, TensorType, as_dtype, bool_

NUMERIC = FLOATS + INTEGERS
_SHAPES: tuple[tuple[int, ...], ...] = ((2, 3), (), (0, 2), (1, 37))


def _check(operands: Sequence[TensorType], dtypes: Sequence[DType], names: str) -> None:
    first = operands[0]
    for other in operands[1:]:
        if other.shape != first.shape:
            raise fail(
                f"shapes differ: {' and '.join(map(str, operands))}. Broadcast one of them to the other's shape."
            )
        if other.dtype != first.dtype:
            raise fail(f"dtypes differ: {' and '.join(map(str, operands))}. Convert one of them.")
    if first.dtype not in dtypes:
        allowed = ", ".join(d.short for d in dtypes)
        raise fail(f"not defined for {first.dtype.short}: {names} {first}. It takes {allowed}.")


def _same(dtypes: Sequence[DType], result: DType | None = None) -> Infer:
    """Equal shapes and dtypes in; that type out, or its shape with the dtype `result`."""

    def infer(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
        _check(operands, dtypes, "got")
        return [operands[0] if result is None else operands[0].with_dtype(result)]

    return infer


def _in_f32(function: Callable[..., Any]) -> Reference:
    """Floats narrower than f32 compute in f32 and round once, as backends do."""

    def reference(*arrays: np.ndarray) -> np.ndarray:
        dtype = arrays[0].dtype
        computed = as_dtype(dtype).computed.numpy
        if computed == dtype:
            return np.asarray(function(*arrays))
        wide = function(*(a.astype(computed) for a in arrays))
        return np.asarray(wide).astype(dtype if wide.dtype == computed else wide.dtype)

    return reference


def unary(
    name: str,
    function: Callable[..., Any],
    doc: str,
    dtypes: Sequence[DType] = FLOATS,
    low: float = -2,
    high: float = 2,
    tolerance: float = 4,
    result: DType | None = None,
) -> OpDef:
    """A row with one operand, sampled in [low, high)."""
    return define(
        name,
        "x",
        doc=doc,
        infer=_same(dtypes, result),
        reference=_in_f32(function),
        samples=[Sample((Arg(s, low, high),)) for s in _SHAPES],
        dtypes=dtypes,
        tolerance=tolerance,
    )


def binary(
    name: str,
    function: Callable[..., Any],
    doc: str,
    dtypes: Sequence[DType] = NUMERIC,
    left: tuple[float, float] = (-4, 4),
    right: tuple[float, float] = (-4, 4),
    tolerance: float = 0,
    result: DType | None = None,
) -> OpDef:
    """A row with two operands, each sampled in its own range."""
    return define(
        name,
        "lhs rhs",
        doc=doc,
        infer=_same(dtypes, result),
        reference=_in_f32(function),
        samples=[Sample((Arg(s, *left), Arg(s, *right))) for s in _SHAPES],
        dtypes=dtypes,
        tolerance=tolerance,
    )


def _logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)), x.dtype)


def _erf_array(x: np.ndarray) -> np.ndarray:
    return np.asarray([_erf(v) for v in x.reshape(-1)], x.dtype).reshape(x.shape)


neg = unary("neg", np.negative, "Negation; unsigned integers wrap.", NUMERIC, tolerance=0)
abs = unary("abs", np.abs, "Absolute value; the smallest signed integer stays.", FLOATS + SIGNED, tolerance=0)
sign = unary("sign", np.sign, "-1, 0 or 1; of NaN, NaN.", FLOATS + SIGNED, tolerance=0)
floor = unary("floor", np.floor, "Largest integral value not above x.", tolerance=0)
ceil = unary("ceil", np.ceil, "Smallest integral value not below x.", tolerance=0)
round = unary("round", np.rint, "Nearest integral value, halves to even.", tolerance=0)
sqrt = unary("sqrt", np.sqrt, "Square root; NaN below zero.", low=0, high=9, tolerance=1)
rsqrt = unary("rsqrt", lambda x: 1 / np.sqrt(x), "1 / sqrt(x).", low=0.1, high=9)
cbrt = unary("cbrt", np.cbrt, "Cube root, negative below zero.", low=-9, high=9)
exp = unary("exp", np.exp, "e to the power x.")
exp2 = unary("exp2", np.exp2, "2 to the power x.")
expm1 = unary("expm1", np.expm1, "exp(x) - 1, exact near zero.", tolerance=8)
log = unary("log", np.log, "Natural logarithm; -inf at zero, NaN below.", low=0.01, high=9)
log1p = unary("log1p", np.log1p, "log(1 + x), exact near zero.", low=-0.9, high=9)
sin = unary("sin", np.sin, "Sine, x in radians.", low=-9, high=9, tolerance=16)
cos = unary("cos", np.cos, "Cosine, x in radians.", low=-9, high=9, tolerance=16)
tan = unary("tan", np.tan, "Tangent, x in radians.", low=-1.4, high=1.4, tolerance=16)
asin = unary("asin", np.arcsin, "Arc sine in [-pi/2, pi/2].", low=-0.95, high=0.95, tolerance=16)
acos = unary("acos", np.arccos, "Arc cosine in [0, pi].", low=-0.95, high=0.95, tolerance=16)
atan = unary("atan", np.arctan, "Arc tangent in [-pi/2, pi/2].", tolerance=16)
sinh = unary("sinh", np.sinh, "Hyperbolic sine.", tolerance=16)
cosh = unary("cosh", np.cosh, "Hyperbolic cosine.", tolerance=16)
tanh = unary("tanh", np.tanh, "Hyperbolic tangent.", low=-4, high=4, tolerance=8)
asinh = unary("asinh", np.arcsinh, "Inverse hyperbolic sine.", tolerance=32)
acosh = unary("acosh", np.arccosh, "Inverse hyperbolic cosine, x >= 1.", low=1.1, high=9, tolerance=32)
atanh = unary("atanh", np.arctanh, "Inverse hyperbolic tangent in (-1, 1).", low=-0.9, high=0.9, tolerance=32)
logistic = unary("logistic", _logistic, "1 / (1 + exp(-x)).", low=-8, high=8)
erf = unary("erf", _erf_array, "Gauss error function.", low=-3, high=3, tolerance=32)
not_ = unary(
    "not", np.invert, "Logical not of bool, bitwise complement of integers.", INTEGERS + (bool_,), tolerance=0
)
popcount = unary(
    "popcount", lambda x: np.bitwise_count(x.view(f"u{x.itemsize}")).astype(x.dtype), "Number of bits set.", INTEGERS,
    tolerance=0,
)
is_finite = unary(
    "is_finite", np.isfinite, "True where neither infinite nor NaN.", FLOATS, tolerance=0, result=bool_
)


def _divide(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    if not np.issubdtype(lhs.dtype, np.integer):
        return np.asarray(lhs / rhs)
    with np.errstate(over="ignore"):
        safe = np.where(rhs == 0, 1, rhs).astype(rhs.dtype)
        quotient = (lhs - np.fmod(lhs, safe)) // safe
    return np.where(rhs == 0, ~np.zeros_like(lhs), quotient)


def _remainder(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    if not np.issubdtype(lhs.dtype, np.integer):
        return np.asarray(np.fmod(lhs, rhs))
    return np.where(rhs == 0, lhs, np.fmod(lhs, np.where(rhs == 0, 1, rhs).astype(rhs.dtype)))


def _power(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    if not np.issubdtype(base.dtype, np.integer):
        return np.asarray(np.power(base, exponent))
    positive = np.power(base, np.maximum(exponent, 0).astype(base.dtype))
    of_minus_one = np.where(exponent % 2 == 0, 1, -1).astype(base.dtype)
    negative = np.where(base == 1, 1, np.where(base + 1 == 0, of_minus_one, 0))
    return np.where(exponent < 0, negative, positive).astype(base.dtype)


def _shift(function: Callable[..., Any], past_end: Callable[[np.ndarray], Any]) -> Reference:
    def reference(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
        bits = x.dtype.itemsize * 8
        inside = (amount >= 0) & (amount < bits)
        return np.asarray(np.where(inside, function(x, np.where(inside, amount, 0)), past_end(x)), x.dtype)

    return reference


def _logical_right(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    unsigned = x.view(f"u{x.dtype.itemsize}")
    return np.asarray((unsigned >> amount.astype(unsigned.dtype)).view(x.dtype))


add = binary("add", np.add, "Sum; integers wrap.", tolerance=1)
sub = binary("sub", np.subtract, "Difference; integers wrap.", tolerance=1)
mul = binary("mul", np.multiply, "Product; integers wrap.", tolerance=1)
div = binary(
    "div", _divide, "Quotient; of integers, rounded towards zero, all bits set (-1) by zero.", right=(1, 4), tolerance=1
)
rem = binary(
    "rem", _remainder, "Remainder of `div`, with the sign of lhs; of integers, lhs by zero.", right=(1, 4), tolerance=1
)
pow = binary("pow", _power, "lhs to the power rhs; of integers, 0 where rhs is negative, unless lhs is 1 or -1.",
             left=(0.5, 3), right=(0, 3), tolerance=16)
atan2 = binary("atan2", np.arctan2, "Angle of the point (rhs, lhs).", FLOATS, tolerance=16)
max = binary("max", np.maximum, "The larger; NaN if either is; of bool, or.", DTYPES)
min = binary("min", np.minimum, "The smaller; NaN if either is; of bool, and.", DTYPES)
and_ = binary("and", np.bitwise_and, "Logical and of bool, bitwise of integers.", INTEGERS + (bool_,))
or_ = binary("or", np.bitwise_or, "Logical or of bool, bitwise of integers.", INTEGERS + (bool_,))
xor = binary("xor", np.bitwise_xor, "Exclusive or, logical or bitwise.", INTEGERS + (bool_,))
shift_left = binary(
    "shift_left", _shift(np.left_shift, np.zeros_like), "lhs << rhs; 0 past the width.", INTEGERS, right=(0, 7)
)
shift_right_arithmetic = binary(
    "shift_right_arithmetic",
    _shift(lambda x, n: (x.view(f"i{x.dtype.itemsize}") >> n.astype(f"i{x.dtype.itemsize}")).view(x.dtype),
           lambda x: (x.view(f"i{x.dtype.itemsize}") >> (x.dtype.itemsize * 8 - 1)).view(x.dtype)),
    "lhs >> rhs, the sign bit filled in.", INTEGERS, right=(0, 7),
)
shift_right_logical = binary(
    "shift_right_logical", _shift(_logical_right, np.zeros_like), "lhs >> rhs, zeros filled in.", INTEGERS,
    right=(0, 7),
)

equal = binary("equal", np.equal, "lhs == rhs; NaN equals nothing.", DTYPES, result=bool_)
not_equal = binary("not_equal", np.not_equal, "lhs != rhs; true of NaN.", DTYPES, result=bool_)
less = binary("less", np.less, "lhs < rhs; false of NaN.", DTYPES, result=bool_)
less_equal = binary("less_equal", np.less_equal, "lhs <= rhs; false of NaN.", DTYPES, result=bool_)
greater = binary("greater", np.greater, "lhs > rhs; false of NaN.", DTYPES, result=bool_)
greater_equal = binary("greater_equal", np.greater_equal, "lhs >= rhs; false of NaN.", DTYPES, result=bool_)


def _infer_select(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    pred, on_true, on_false = operands
    if pred.dtype != bool_:
        raise fail(f"the predicate must be bool, got {pred}. Compare it with something first.")
    _check((on_true, on_false), DTYPES, "got")
    if pred.shape not in ((), on_true.shape):
        raise fail(f"the predicate's shape must be () or that of the branches: {pred} and {on_true}.")
    return [on_true]


select = define(
    "select",
    "pred on_true on_false",
    doc="Where pred, on_true; elsewhere on_false. A scalar pred chooses all of one.",
    infer=_infer_select,
    reference=lambda p, t, f: np.asarray(np.where(p, t, f), t.dtype),
    samples=[Sample((Arg(p, dtype=bool_), Arg(s), Arg(s))) for p, s in (((2, 3), (2, 3)), ((), (2, 3)), ((), ()))],
)


def _infer_clamp(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    low, x, high = operands
    for bound in (low, high):
        if bound.shape not in ((), x.shape) or bound.dtype != x.dtype:
            raise fail(f"bounds must be scalars or of x's shape, and of its dtype: {low}, {x}, {high}.")
    _check((x,), NUMERIC, "got")
    return [x]


clamp = define(
    "clamp",
    "low x high",
    doc="max(low, min(x, high)); the bounds may be scalars.",
    infer=_infer_clamp,
    reference=lambda low, x, high: np.minimum(np.maximum(x, low), high).astype(x.dtype),
    samples=[
        Sample((Arg(s, -2, 0), Arg((2, 5), -4, 4), Arg(s, 1, 3))) for s in ((), (2, 5))
    ],
    dtypes=NUMERIC,
)


def _infer_convert(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    return [operands[0].with_dtype(attrs["dtype"])]


def _convert(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Float to integer truncates and saturates, NaN gives 0: what StableHLO's backends and Rust do, not C."""
    if as_dtype(x.dtype).is_floating and dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        wide = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
        big, small = wide >= float(limits.max), wide <= float(limits.min)
        inside = np.trunc(np.where(big | small, 0, wide)).astype(dtype.numpy)
        return np.where(big, limits.max, np.where(small, limits.min, inside)).astype(dtype.numpy)
    return x.astype(dtype.numpy)


convert = define(
    "convert",
    "x",
    doc="The same values in another dtype: floats to integers truncate towards zero and saturate, NaN becomes 0.",
    infer=_infer_convert,
    attrs={"dtype": "dtype"},
    reference=_convert,
    samples=[Sample((Arg((2, 5), -3, 100),), {"dtype": d}) for d in DTYPES],
)


def _infer_bitcast(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), dtype = operands, attrs["dtype"]
    if (x.dtype.kind == "b") != (dtype.kind == "b") or x.dtype.itemsize != dtype.itemsize:
        raise fail(f"{x.dtype.short} and {dtype.short} differ in width: {x}. Bitcast to a dtype of the same width.")
    return [x.with_dtype(dtype)]


bitcast = define(
    "bitcast",
    "x",
    doc="The same bits read as another dtype of the same width.",
    infer=_infer_bitcast,
    attrs={"dtype": "dtype"},
    reference=lambda x, dtype: x.view(dtype.numpy),
    samples=[Sample((Arg((2, 3), dtype=a),), {"dtype": b}) for a in NUMERIC for b in NUMERIC
             if a.itemsize == b.itemsize],
    dtypes=NUMERIC,
)


def _infer_identity(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    return list(operands)


stop_gradient = define(
    "stop_gradient",
    "x",
    doc="x itself; its derivative is zero.",
    infer=_infer_identity,
    reference=lambda x: x,
    samples=[Sample((Arg((2, 3)),))],
)
barrier = define(
    "barrier",
    "*xs",
    doc="The operands themselves; no pass moves or merges anything across it (recomputation relies on that).",
    infer=_infer_identity,
    reference=lambda *xs: xs,
    samples=[Sample((Arg((2, 3)), Arg((4,))))],
)
