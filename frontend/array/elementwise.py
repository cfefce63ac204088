"""Elementwise functions, under the names of the Python array API standard.

Operands broadcast and promote (see `frontend.dtypes`); functions that are only defined for floating-point numbers take
integers and bools as float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import elementwise as rows
from thalweg.dialects.types import DType, as_dtype, bool_
from thalweg.frontend.array.conversion import (
    broadcast,
    cast,
    fail,
    is_weak,
    operand,
    promote,
    raw,
    weakened,
)
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.tensor import ArrayLike, Scalar, Tensor, as_tensor


def apply(row: OpDef, *values: ArrayLike, to_float: bool = False) -> Tensor:
    """An elementwise row on operands that are promoted and broadcast first; weak operands give a weak result."""
    tensors = promote(*values, to_float=to_float, keep_weak=True)
    weak = is_weak(tensors[0])
    if weak:
        tensors = [raw(t) for t in tensors]
    if len(tensors) > 1:
        tensors = broadcast(row.name, *tensors)
    result: Tensor = emit(row, *tensors)
    return weakened(result) if weak and result.dtype != bool_ else result


def _named(name: str, doc: str, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    call.__module__ = __name__
    return array_function(call)


def _unary(name: str, row: OpDef, doc: str, to_float: bool = True) -> Callable[[ArrayLike], Tensor]:
    def call(x: ArrayLike, /) -> Tensor:
        return apply(row, x, to_float=to_float)

    return _named(name, doc, call)


def _binary(name: str, row: OpDef, doc: str, to_float: bool = False) -> Callable[[ArrayLike, ArrayLike], Tensor]:
    def call(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
        return apply(row, x1, x2, to_float=to_float)

    return _named(name, doc, call)


add = _binary("add", rows.add, "x1 + x2.")
subtract = _binary("subtract", rows.sub, "x1 - x2.")
multiply = _binary("multiply", rows.mul, "x1 * x2.")
divide = _binary("divide", rows.div, "x1 / x2; integers divide as float32.", to_float=True)
maximum = _binary("maximum", rows.max, "The larger of x1 and x2; NaN if either is.")
minimum = _binary("minimum", rows.min, "The smaller of x1 and x2; NaN if either is.")
atan2 = _binary("atan2", rows.atan2, "The angle of the point (x2, x1), in [-pi, pi].", to_float=True)
equal = _binary("equal", rows.equal, "True where x1 == x2.")
not_equal = _binary("not_equal", rows.not_equal, "True where x1 != x2.")
less = _binary("less", rows.less, "True where x1 < x2.")
less_equal = _binary("less_equal", rows.less_equal, "True where x1 <= x2.")
greater = _binary("greater", rows.greater, "True where x1 > x2.")
greater_equal = _binary("greater_equal", rows.greater_equal, "True where x1 >= x2.")
bitwise_and = _binary("bitwise_and", rows.and_, "x1 & x2, of integers bitwise, of bools logical.")
bitwise_or = _binary("bitwise_or", rows.or_, "x1 | x2, of integers bitwise, of bools logical.")
bitwise_xor = _binary("bitwise_xor", rows.xor, "x1 ^ x2, of integers bitwise, of bools logical.")
bitwise_left_shift = _binary("bitwise_left_shift", rows.shift_left, "x1 << x2; 0 past the width.")

exp = _unary("exp", rows.exp, "e to the power x.")
exp2 = _unary("exp2", rows.exp2, "2 to the power x.")
expm1 = _unary("expm1", rows.expm1, "exp(x) - 1, exact near zero.")
log = _unary("log", rows.log, "Natural logarithm.")
log1p = _unary("log1p", rows.log1p, "log(1 + x), exact near zero.")
sqrt = _unary("sqrt", rows.sqrt, "Square root.")
rsqrt = _unary("rsqrt", rows.rsqrt, "1 / sqrt(x).")
cbrt = _unary("cbrt", rows.cbrt, "Cube root.")
sin = _unary("sin", rows.sin, "Sine, x in radians.")
cos = _unary("cos", rows.cos, "Cosine, x in radians.")
tan = _unary("tan", rows.tan, "Tangent, x in radians.")
asin = _unary("asin", rows.asin, "Arc sine.")
acos = _unary("acos", rows.acos, "Arc cosine.")
atan = _unary("atan", rows.atan, "Arc tangent.")
sinh = _unary("sinh", rows.sinh, "Hyperbolic sine.")
cosh = _unary("cosh", rows.cosh, "Hyperbolic cosine.")
tanh = _unary("tanh", rows.tanh, "Hyperbolic tangent.")
asinh = _unary("asinh", rows.asinh, "Inverse hyperbolic sine.")
acosh = _unary("acosh", rows.acosh, "Inverse hyperbolic cosine.")
atanh = _unary("atanh", rows.atanh, "Inverse hyperbolic tangent.")
sigmoid = _unary("sigmoid", rows.logistic, "1 / (1 + exp(-x)).")
erf = _unary("erf", rows.erf, "Gauss error function.")
negative = _unary("negative", rows.neg, "-x.", to_float=False)
bitwise_invert = _unary("bitwise_invert", rows.not_, "~x, of integers bitwise, of bools logical.", to_float=False)
bitwise_count = _unary("bitwise_count", rows.popcount, "Number of bits set.", to_float=False)


@array_function
def positive(x: ArrayLike, /) -> Tensor:
    """x itself."""
    return as_tensor(x)


@array_function
def astype(x: ArrayLike, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """The values of x in another dtype; floats to integers truncate towards zero and saturate, to bool is `!= 0`."""
    value, target = operand(x), as_dtype(dtype)
    if target == bool_ and common_kind(value) != "b":
        return not_equal(value, 0)
    return cast(value, target)


def common_kind(value: Any) -> str:
    """The kind of an operand's dtype: 'f', 'i', 'u' or 'b'."""
    return as_tensor(value).dtype.kind if isinstance(value, Scalar) else value.dtype.kind


def _unless(
    name: str, row: OpDef, kinds: str, doc: str, of_others: Callable[[Tensor], Tensor]
) -> Callable[[ArrayLike], Tensor]:
    """A function that is the row for dtypes of `kinds` and something simpler for all others."""

    def call(x: ArrayLike, /) -> Tensor:
        value = operand(x)
        return apply(row, value) if common_kind(value) in kinds else of_others(as_tensor(value))

    return _named(name, doc, call)


abs = _unless("abs", rows.abs, "fi", "Absolute value.", lambda x: x)
floor = _unless("floor", rows.floor, "f", "Largest integral value not above x, in x's dtype.", lambda x: x)
ceil = _unless("ceil", rows.ceil, "f", "Smallest integral value not below x, in x's dtype.", lambda x: x)
round = _unless("round", rows.round, "f", "Nearest integral value, halves to even, in x's dtype.", lambda x: x)
sign = _unless("sign", rows.sign, "fi", "-1, 0 or 1; of NaN, NaN.", lambda x: astype(not_equal(x, 0), x.dtype))
isfinite = _unless("isfinite", rows.is_finite, "f", "True where neither infinite nor NaN.", lambda x: equal(x, x))


@array_function
def isnan(x: ArrayLike, /) -> Tensor:
    """True where x is NaN."""
    return not_equal(x, x)


@array_function
def isinf(x: ArrayLike, /) -> Tensor:
    """True where x is infinite."""
    tensor = as_tensor(x)
    if not tensor.dtype.is_floating:
        return not_equal(tensor, tensor)
    return equal(abs(tensor), math.inf)


@array_function
def square(x: ArrayLike, /) -> Tensor:
    """x * x."""
    return multiply(x, x)


@array_function
def reciprocal(x: ArrayLike, /) -> Tensor:
    """1 / x."""
    return divide(1, x)


@array_function
def log2(x: ArrayLike, /) -> Tensor:
    """Logarithm to base 2."""
    return multiply(log(x), 1 / math.log(2))


@array_function
def log10(x: ArrayLike, /) -> Tensor:
    """Logarithm to base 10."""
    return multiply(log(x), 1 / math.log(10))


@array_function
def logaddexp(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow."""
    a, b = broadcast("logaddexp", *promote(x1, x2, to_float=True))
    high = maximum(a, b)
    shift = where_finite(high)
    return add(shift, log(add(exp(subtract(a, shift)), exp(subtract(b, shift)))))


def where_finite(x: Tensor) -> Tensor:
    """x where it is finite, 0 elsewhere: what may be subtracted before exp."""
    return emit(rows.select, isfinite(x), x, _zeros_like(x))


def _zeros_like(x: Tensor) -> Tensor:
    return broadcast("zeros_like", cast(0, x.dtype), x)[0]


@array_function
def stop_gradient(x: ArrayLike, /) -> Tensor:
    """x itself, treated as a constant by `tw.grad`."""
    return emit(rows.stop_gradient, as_tensor(x))


@array_function
def hypot(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """sqrt(x1**2 + x2**2), without overflow where the result has none."""
    a, b = (abs(t) for t in broadcast("hypot", *promote(x1, x2, to_float=True)))
    high, low = maximum(a, b), minimum(a, b)
    ratio = divide(low, emit(rows.select, equal(high, 0), add(_zeros_like(high), 1), high))
    plain = multiply(high, sqrt(add(multiply(ratio, ratio), 1)))
    return emit(rows.select, equal(high, math.inf), high, plain)


@array_function
def copysign(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The magnitude of x1 with the sign of x2."""
    a, b = broadcast("copysign", *promote(x1, x2, to_float=True))
    return emit(rows.select, signbit(b), negative(abs(a)), abs(a))


_SAME_WIDTH = {2: "int16", 4: "int32", 8: "int64"}


@array_function
def signbit(x: ArrayLike, /) -> Tensor:
    """True where the sign bit is set: negative numbers and -0.0."""
    tensor = as_tensor(x)
    if not tensor.dtype.is_floating:
        return less(tensor, 0)
    bits = emit(rows.bitcast, tensor, dtype=as_dtype(_SAME_WIDTH[tensor.dtype.itemsize]))
    return less(bits, 0)


@array_function
def nextafter(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The representable number next to x1 in the direction of x2."""
    a, b = broadcast("nextafter", *promote(x1, x2, to_float=True))
    integer = as_dtype(_SAME_WIDTH[a.dtype.itemsize])
    bits = bitcast(a, integer)
    away = equal(less(a, b), greater(a, 0))  # the bits count up away from zero, on either side of it
    stepped = bitcast(where(away, add(bits, 1), subtract(bits, 1)), a.dtype)
    smallest = bitcast(add(multiply(bits, 0), 1), a.dtype)
    stepped = where(equal(a, 0), where(less(b, 0), negative(smallest), smallest), stepped)
    return where(equal(a, b), b, where(logical_or(isnan(a), isnan(b)), add(a, b), stepped))


def _logical(name: str, row: OpDef, doc: str) -> Callable[[ArrayLike, ArrayLike], Tensor]:
    def call(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
        return apply(row, astype(x1, bool_), astype(x2, bool_))

    return _named(name, doc, call)


logical_and = _logical("logical_and", rows.and_, "True where both x1 and x2 are true (not zero).")
logical_or = _logical("logical_or", rows.or_, "True where x1 or x2 is true (not zero).")
logical_xor = _logical("logical_xor", rows.xor, "True where exactly one of x1 and x2 is true (not zero).")


@array_function
def logical_not(x: ArrayLike, /) -> Tensor:
    """True where x is false (zero)."""
    return apply(rows.not_, astype(x, bool_))


@array_function
def bitwise_right_shift(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 >> x2; the sign bit is filled in for signed dtypes."""
    a, b = promote(x1, x2)
    row = rows.shift_right_logical if a.dtype.kind == "u" else rows.shift_right_arithmetic
    return apply(row, a, b)


@array_function
def floor_divide(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The largest integral value not above x1 / x2."""
    a, b = broadcast("floor_divide", *_numbers("floor_divide", x1, x2))
    quotient: Tensor = emit(rows.div, a, b)
    if a.dtype.is_floating:
        return floor(quotient)
    if a.dtype.kind == "u":
        return quotient
    remainder_: Tensor = emit(rows.rem, a, b)
    wrong = bitwise_and(not_equal(remainder_, 0), not_equal(less(remainder_, 0), less(b, 0)))
    return subtract(quotient, astype(wrong, a.dtype))


@array_function
def remainder(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 - x2 * floor(x1 / x2): it has the sign of x2."""
    a, b = broadcast("remainder", *_numbers("remainder", x1, x2))
    rest: Tensor = emit(rows.rem, a, b)
    if a.dtype.kind == "u":
        return rest
    wrong = bitwise_and(not_equal(rest, 0), not_equal(less(rest, 0), less(b, 0)))
    return emit(rows.select, wrong, add(rest, b), rest)


def _numbers(name: str, *values: ArrayLike) -> list[Tensor]:
    tensors = promote(*values)
    if tensors[0].dtype.kind == "b":
        raise fail(name, f"is not defined for bool: got {' and '.join(str(t.type) for t in tensors)}.")
    return tensors


def _int_power(x: Tensor, exponent: int) -> Tensor:
    """x to a small known power, by repeated squaring: exact, and its gradient is simple."""
    result: Tensor | None = None
    square_ = x
    while exponent:
        if exponent & 1:
            result = square_ if result is None else multiply(result, square_)
        exponent >>= 1
        if exponent:
            square_ = multiply(square_, square_)
    assert result is not None
    return result


@array_function
def _general_pow(x1: ArrayLike, x2: ArrayLike) -> Tensor:
    return apply(rows.pow, x1, x2)


@array_function
def _static_pow(x1: ArrayLike, x2: int | float) -> Tensor:
    x = as_tensor(x1)
    if x2 == 0.5:
        return sqrt(x)
    if x2 == -1 and x.dtype.is_floating:
        return reciprocal(x)
    if isinstance(x2, int) or float(x2).is_integer():
        whole = int(x2)
        if 0 < whole <= 16 and (isinstance(x2, int) or x.dtype.is_floating):
            return _int_power(x, whole)
        if -16 <= whole < 0 and x.dtype.is_floating:
            return reciprocal(_int_power(x, -whole))
    return apply(rows.pow, x, x2)


def pow(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 to the power x2. A Python number as the exponent is an option, not data: `x ** 2` is a multiplication."""
    if isinstance(x2, int | float) and not isinstance(x2, bool) and not isinstance(x1, Scalar):
        return _static_pow(x1, x2)
    return _general_pow(x1, x2)


@array_function
def clip(x: ArrayLike, /, min: ArrayLike = None, max: ArrayLike = None) -> Tensor:
    """x limited to [min, max], in x's dtype; either bound may be None."""
    tensor = as_tensor(x)
    for bound, limit in ((min, maximum), (max, minimum)):
        if bound is not None:
            tensor = limit(tensor, cast(operand(bound), tensor.dtype))
    return tensor


@array_function
def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 where the condition is true, x2 elsewhere; all three broadcast."""
    a, b = promote(x1, x2)
    pred, a, b = broadcast("where", astype(condition, bool_), a, b)
    return emit(rows.select, pred, a, b)


@array_function
def bitcast(x: ArrayLike, dtype: DType, /) -> Tensor:
    """The same bits read as another dtype of the same width."""
    return emit(rows.bitcast, as_tensor(x), dtype=as_dtype(dtype))


def _truncate(x: Tensor) -> Tensor:
    return emit(rows.select, less(x, 0), ceil(x), floor(x)) if x.dtype.is_floating else x


@array_function
def trunc(x: ArrayLike, /) -> Tensor:
    """The integral value next to x towards zero, in x's dtype."""
    return _truncate(promote(x)[0])
