"""Functions that Triton's language lacks, as text that is put into the modules of kernels that call them."""

from __future__ import annotations

from thalweg.backends.gpu import float8
from thalweg.backends.gpu.helpers_math import MATH, MATH_NEEDS

_BASIC = {
    "maximum": '''@triton.jit
def maximum(a, b):
    """The larger number; NaN where either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
    "minimum": '''@triton.jit
def minimum(a, b):
    """The smaller number; NaN where either is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
    "larger": '''@triton.jit
def larger(a, b):
    return tl.maximum(a, b)
''',
    "smaller": '''@triton.jit
def smaller(a, b):
    return tl.minimum(a, b)
''',
    "larger_unsigned": '''@triton.jit
def larger_unsigned(a, b):
    """The larger of two numbers without signs, which lie in registers as if they had some."""
    flip: tl.constexpr = -1 << (a.dtype.primitive_bitwidth - 1)
    return tl.where((a ^ flip) > (b ^ flip), a, b)
''',
    "smaller_unsigned": '''@triton.jit
def smaller_unsigned(a, b):
    """The smaller of two numbers without signs, which lie in registers as if they had some."""
    flip: tl.constexpr = -1 << (a.dtype.primitive_bitwidth - 1)
    return tl.where((a ^ flip) < (b ^ flip), a, b)
''',
    "add": '''@triton.jit
def add(a, b):
    return a + b
''',
    "multiply": '''@triton.jit
def multiply(a, b):
    return a * b
''',
    "both": '''@triton.jit
def both(a, b):
    return a & b
''',
    "either": '''@triton.jit
def either(a, b):
    return a | b
''',
    "differ": '''@triton.jit
def differ(a, b):
    return a ^ b
''',
    "join_moments": '''@triton.jit
def join_moments(mean_a, squares_a, weight_a, mean_b, squares_b, weight_b):
    """Means and squared deviations of two sets of numbers together (Chan, Golub and LeVeque, 1979)."""
    weight = weight_a + weight_b
    share = tl.where(weight > 0, weight_b / weight, 0.0)
    delta = mean_b - mean_a
    return mean_a + delta * share, squares_a + squares_b + delta * delta * weight_a * share, weight
''',
    "join_argmax": '''@triton.jit
def join_argmax(a, place_a, b, place_b):
    """The larger number and where it is: the first of equals; NaN is larger than any number."""
    both = (a == b) | ((a != a) & (b != b))
    second = (b > a) | ((b != b) & (a == a)) | (both & (place_b < place_a))
    return tl.where(second, b, a), tl.where(second, place_b, place_a)
''',
    "join_argmin": '''@triton.jit
def join_argmin(a, place_a, b, place_b):
    """The smaller number and where it is: the first of equals; NaN is smaller than any number."""
    both = (a == b) | ((a != a) & (b != b))
    second = (b < a) | ((b != b) & (a == a)) | (both & (place_b < place_a))
    return tl.where(second, b, a), tl.where(second, place_b, place_a)
''',
    "expm1": '''@triton.jit
def expm1(x):
    """exp(x) - 1, without losing the digits of a small x: the rounding of exp(x) is divided out."""
    e = tl.exp(x)
    small = (e - 1.0) * (x / tl.log(tl.where((e == 1.0) | (e <= 0.0), 2.0, e)))
    return tl.where(e == 1.0, x, tl.where(tl.abs(x) > 1.0, e - 1.0, small))
''',
    "log1p": '''@triton.jit
def log1p(x):
    """log(1 + x), without losing the digits of a small x: the rounding of 1 + x is divided out."""
    u = 1.0 + x
    d = u - 1.0
    near = tl.log(u) * (x / tl.where(d == 0.0, 1.0, d))
    return tl.where(d == 0.0, x, tl.where(tl.abs(x) > 1.0, tl.log(u), near))
''',
    "tanh": '''@triton.jit
def tanh(x):
    """By a polynomial near 0, where the exponentials would cancel; by exponentials elsewhere."""
    z = x * x
    p = -5.70498872745e-3
    p = p * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.625, p * z * x + x, tl.where(x < 0, -far, far))
''',
    "tanh_f64": '''@triton.jit
def tanh_f64(x):
    """(exp(2x) - 1) / (exp(2x) + 1), by what exp(2x) - 1 is near 0."""
    e = expm1(2.0 * tl.minimum(tl.abs(x), 40.0))
    y = e / (e + 2.0)
    return tl.where(x != x, x, tl.where(x < 0, -y, y))
''',
    "trunc": '''@triton.jit
def trunc(x):
    """Towards zero."""
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))
''',
    "roundeven": '''@triton.jit
def roundeven(x):
    """To the nearest whole number; to the even one of two."""
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    up = tl.where(rest == 0.5, odd, tl.where(rest > 0.5, 1.0, 0.0))
    return tl.where(x - x == 0.0, low + up, x)
''',
}

HELPERS = _BASIC | MATH | float8.HELPERS
NEEDS = {"tanh_f64": ("expm1",), **MATH_NEEDS}  # what a helper itself calls


def texts(names: set[str]) -> list[str]:
    """The functions of these names and what they call, in alphabetical order."""
    wanted = names | {callee for name in names for callee in NEEDS.get(name, ())}
    return [HELPERS[name] for name in sorted(wanted)]
