"""Arithmetic of complex numbers on pairs of real arrays, as StableHLO expressions."""

from __future__ import annotations

import math
from collections.abc import Callable

from thalweg.backends.stablehlo.expressions import Array, elementwise

Pair = tuple[Array, Array]


def multiply(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def divide(a: Pair, b: Pair) -> Pair:
    """a·conj(b)/|b|², with b scaled so that its square neither overflows nor vanishes."""
    scale = elementwise("maximum", elementwise("abs", b[0]), elementwise("abs", b[1]))
    c, d = b[0] / scale, b[1] / scale
    norm = (c * c + d * d) * scale
    return (a[0] * c + a[1] * d) / norm, (a[1] * c - a[0] * d) / norm


def absolute(z: Pair) -> Array:
    """|z| without overflow: the larger part times sqrt(1 + ratio²)."""
    x, y = (elementwise("abs", part) for part in z)
    large, small = elementwise("maximum", x, y), elementwise("minimum", x, y)
    ratio = small / large
    regular = large * elementwise("sqrt", ratio * ratio + 1)
    # Equal parts need no ratio, which would be NaN where both are infinite.
    return small.equals(large).select(large * math.sqrt(2), small.equals(0).select(large, regular))


def exponential(z: Pair) -> Pair:
    size = elementwise("exponential", z[0])
    return size * elementwise("cosine", z[1]), size * elementwise("sine", z[1])


def logarithm(z: Pair) -> Pair:
    return elementwise("log", absolute(z)), elementwise("atan2", z[1], z[0])


def log_plus_one(z: Pair) -> Pair:
    """Accurate near 0: |1 + z|² = 1 + x(2 + x) + y²."""
    x, y = z
    return elementwise("log_plus_one", x * (x + 2) + y * y) * 0.5, elementwise("atan2", y, x + 1)


def square_root(z: Pair) -> Pair:
    """The root in the right half plane."""
    x, y = z
    larger = elementwise("sqrt", (absolute(z) + elementwise("abs", x)) * 0.5)
    smaller = larger.equals(0).select(larger, elementwise("abs", y) / (larger * 2))
    right = x >= 0
    size = right.select(smaller, larger)
    return right.select(larger, smaller), (y < 0).select(-size, size)


def _hyperbolic(x: Array) -> Pair:
    """cosh and sinh."""
    up, down = elementwise("exponential", x), elementwise("exponential", -x)
    less = elementwise("exponential_minus_one", x)
    return (up + down) * 0.5, (less + less / (less + 1)) * 0.5


def cosine(z: Pair) -> Pair:
    cosh, sinh = _hyperbolic(z[1])
    return elementwise("cosine", z[0]) * cosh, -(elementwise("sine", z[0]) * sinh)


def sine(z: Pair) -> Pair:
    cosh, sinh = _hyperbolic(z[1])
    return elementwise("sine", z[0]) * cosh, elementwise("cosine", z[0]) * sinh


def tanh(z: Pair) -> Pair:
    """(t + i·u)/(1 + i·t·u) with t = tanh(x), u = tan(y)."""
    t, u = elementwise("tanh", z[0]), elementwise("tan", z[1])
    return divide((t, u), (t.like(1), t * u))


def tan(z: Pair) -> Pair:
    """-i·tanh(i·z)."""
    re_, im = tanh((-z[1], z[0]))
    return im, -re_


def power(a: Pair, b: Pair) -> Pair:
    """exp(b·log(a)); 0 to any power but 0 is 0."""
    value = exponential(multiply(b, logarithm(a)))
    zero = a[0].equals(0) & a[1].equals(0)
    one = b[0].equals(0) & b[1].equals(0)
    re_ = one.select(value[0].like(1), zero.select(value[0].like(0), value[0]))
    return re_, (zero | one).select(value[1].like(0), value[1])


def sign(z: Pair) -> Pair:
    size = absolute(z)
    nothing = size.equals(0)
    return nothing.select(size, z[0] / size), nothing.select(size, z[1] / size)


def reciprocal(z: Pair) -> Pair:
    return divide((z[0].like(1), z[0].like(0)), z)


ELEMENTWISE: dict[str, Callable[..., Pair | Array]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[0], a[1] - b[1]),
    "negate": lambda z: (-z[0], -z[1]),
    "multiply": multiply,
    "divide": divide,
    "abs": absolute,
    "real": lambda z: z[0],
    "imag": lambda z: z[1],
    "exponential": exponential,
    "exponential_minus_one": lambda z: ((e := exponential(z))[0] - 1, e[1]),
    "log": logarithm,
    "log_plus_one": log_plus_one,
    "sqrt": square_root,
    "rsqrt": lambda z: reciprocal(square_root(z)),
    "logistic": lambda z: reciprocal(((e := exponential((-z[0], -z[1])))[0] + 1, e[1])),
    "cosine": cosine,
    "sine": sine,
    "tan": tan,
    "tanh": tanh,
    "power": power,
    "sign": sign,
}
