"""Rules of elementwise ops: a page of calculus."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import reduce, shape
from thalweg.dialects.ops.elementwise import add, div, mul, neg, select, sub
from thalweg.dialects.types import DType
from thalweg.passes.gradients.rules import no_vjp, vjp
from thalweg.passes.rewriting import constant_number, full_like

V: TypeAlias = ir.Value


def scaled(x: V, factor: float) -> V:
    """x times a number."""
    return mul(x, full_like(x, factor))


def plus(x: V, term: float) -> V:
    """x plus a number."""
    return add(x, full_like(x, term))


def squared(x: V) -> V:
    return mul(x, x)


def one_minus(x: V) -> V:
    return sub(full_like(x, 1), x)


def where(pred: V, x: V) -> V:
    """x where pred, elsewhere 0."""
    return select(pred, x, full_like(x, 0))


def derivative(row: OpDef, function: Callable[[V, V], V]) -> None:
    """The rule g * f'(x) of a unary op; `function` gets x and the result y."""

    @vjp(row)
    def _(g: V, x: V, *, y: V) -> tuple[V]:
        return (mul(g, function(x, y)),)


def quotient(row: OpDef, function: Callable[[V, V], V]) -> None:
    """The rule g / d(x, y) of a unary op whose derivative is 1 / d."""

    @vjp(row)
    def _(g: V, x: V, *, y: V) -> tuple[V]:
        return (div(g, function(x, y)),)


@vjp(ew.neg)
def _(g: V, x: V) -> tuple[V]:
    return (neg(g),)


@vjp(ew.abs)
def _(g: V, x: V) -> tuple[V]:
    """At 0, that of the right side."""
    return (select(ew.greater_equal(x, full_like(x, 0)), g, neg(g)),)


quotient(ew.sqrt, lambda x, y: add(y, y))
derivative(ew.rsqrt, lambda x, y: scaled(mul(squared(y), y), -0.5))
quotient(ew.cbrt, lambda x, y: scaled(squared(y), 3))
derivative(ew.exp, lambda x, y: y)
derivative(ew.exp2, lambda x, y: scaled(y, math.log(2)))
derivative(ew.expm1, lambda x, y: plus(y, 1))
quotient(ew.log, lambda x, y: x)
quotient(ew.log1p, lambda x, y: plus(x, 1))
derivative(ew.sin, lambda x, y: ew.cos(x))
derivative(ew.cos, lambda x, y: neg(ew.sin(x)))
derivative(ew.tan, lambda x, y: plus(squared(y), 1))
derivative(ew.asin, lambda x, y: ew.rsqrt(one_minus(squared(x))))
derivative(ew.acos, lambda x, y: neg(ew.rsqrt(one_minus(squared(x)))))
quotient(ew.atan, lambda x, y: plus(squared(x), 1))
derivative(ew.sinh, lambda x, y: ew.cosh(x))
derivative(ew.cosh, lambda x, y: ew.sinh(x))
derivative(ew.tanh, lambda x, y: one_minus(squared(y)))
derivative(ew.asinh, lambda x, y: ew.rsqrt(plus(squared(x), 1)))
derivative(ew.acosh, lambda x, y: ew.rsqrt(mul(plus(x, -1), plus(x, 1))))
quotient(ew.atanh, lambda x, y: one_minus(squared(x)))
derivative(ew.logistic, lambda x, y: mul(y, one_minus(y)))
derivative(ew.erf, lambda x, y: scaled(ew.exp(neg(squared(x))), 2 / math.sqrt(math.pi)))


@vjp(ew.add)
def _(g: V, x: V, y_: V) -> tuple[V, V]:
    return g, g


@vjp(ew.sub)
def _(g: V, x: V, y_: V) -> Sequence[Any]:
    return g, lambda: neg(g)


@vjp(ew.mul)
def _(g: V, lhs: V, rhs: V) -> Sequence[Any]:
    return lambda: mul(g, rhs), lambda: mul(g, lhs)


@vjp(ew.div)
def _(g: V, lhs: V, rhs: V, *, y: V) -> Sequence[Any]:
    return lambda: div(g, rhs), lambda: neg(div(mul(g, y), rhs))


@vjp(ew.rem)
def _(g: V, lhs: V, rhs: V) -> Sequence[Any]:
    def wrt_rhs() -> V:
        ratio = div(lhs, rhs)
        truncated = mul(ew.sign(ratio), ew.floor(ew.abs(ratio)))
        return neg(mul(g, truncated))

    return g, wrt_rhs


@vjp(ew.pow)
def _(g: V, base: V, exponent: V, *, y: V) -> Sequence[Any]:
    """Zero powers are constant, also at base 0; powers of 0 do not depend on a positive exponent."""

    def wrt_base() -> V:
        number = constant_number(exponent)
        if number is not None:
            return mul(g, scaled(_power(base, number - 1), number))
        is_zero = ew.equal(exponent, full_like(exponent, 0))
        lower = select(is_zero, full_like(exponent, 1), plus(exponent, -1))
        return mul(g, where(ew.not_(is_zero), mul(exponent, ew.pow(base, lower))))

    def wrt_exponent() -> V:
        safe = select(ew.equal(base, full_like(base, 0)), full_like(base, 1), base)
        return mul(g, mul(ew.log(safe), y))

    return wrt_base, wrt_exponent


def _power(base: V, exponent: float) -> V:
    if exponent == -1:  # of the constant power 0, whose derivative is 0 times this
        return full_like(base, 1)
    return base if exponent == 1 else ew.pow(base, full_like(base, exponent))


@vjp(ew.atan2)
def _(g: V, lhs: V, rhs: V) -> Sequence[Any]:
    scale = div(g, add(squared(lhs), squared(rhs)))
    return lambda: mul(scale, rhs), lambda: neg(mul(scale, lhs))


def _extremum(row: OpDef, wins: OpDef) -> None:
    """Equal operands get half each. Against a constant 0 (relu) it is all or nothing: at 0, nothing."""

    @vjp(row)
    def _(g: V, lhs: V, rhs: V, *, y: V) -> Sequence[Any]:
        def wrt(this: V, other: V) -> V:
            if constant_number(other) == 0:
                return where(wins(y, other), g)
            tie = where(ew.equal(this, other), scaled(g, 0.5))
            return select(wins(this, other), g, tie)

        return lambda: wrt(lhs, rhs), lambda: wrt(rhs, lhs)


_extremum(ew.max, ew.greater)
_extremum(ew.min, ew.less)


@vjp(ew.select)
def _(g: V, pred: V, on_true: V, on_false: V) -> Sequence[Any]:
    return None, lambda: where(pred, g), lambda: select(pred, full_like(g, 0), g)


@vjp(ew.clamp)
def _(g: V, low: V, x: V, high: V) -> Sequence[Any]:
    """At a bound, and past it, the derivative is zero; past it, the bound takes it."""
    type_ = tensor_type_of(x)

    def spread(bound: V) -> V:
        if tensor_type_of(bound).shape == type_.shape:
            return bound
        return shape.broadcast(bound, shape=type_.shape, dims=())

    def gathered(bound: V, cotangent: V) -> V:
        if tensor_type_of(bound).shape == type_.shape:
            return cotangent
        return reduce.reduce_sum(cotangent, axes=range(type_.rank))

    return (
        lambda: gathered(low, where(ew.less(x, spread(low)), g)),
        lambda: where(ew.and_(ew.greater(x, spread(low)), ew.less(x, spread(high))), g),
        lambda: gathered(high, where(ew.greater(x, spread(high)), g)),
    )


@vjp(ew.convert)
def _(g: V, x: V, *, dtype: DType) -> Sequence[Any]:
    return (lambda: ew.convert(g, dtype=tensor_type_of(x).dtype),)


@vjp(ew.barrier)
def _(g: Any, *xs: V) -> Sequence[Any]:
    return (g,) if len(xs) == 1 else g


no_vjp("constant wherever it is continuous", ew.sign, ew.floor, ew.ceil, ew.round)
no_vjp("stops gradients: that is what it is for", ew.stop_gradient)
no_vjp(
    "the result is bool or an integer",
    ew.not_, ew.popcount, ew.is_finite, ew.and_, ew.or_, ew.xor, ew.shift_left, ew.shift_right_arithmetic,
    ew.shift_right_logical, ew.equal, ew.not_equal, ew.less, ew.less_equal, ew.greater, ew.greater_equal,
)
no_vjp("bits are not numbers; convert instead, or wrap it in a custom gradient", ew.bitcast, error=True)
