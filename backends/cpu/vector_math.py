"""Elementary functions as vector code, for f32 and f64: no library calls, a few units in the last place.

The same formulas serve scalars. Infinities, NaN, zeros and subnormal numbers are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.cpu import roots, tabled, trigonometry
from thalweg.backends.cpu.emit import avx512
from thalweg.backends.cpu.emit.formula import Register
from thalweg.backends.cpu.emit.writer import Writer
from thalweg.backends.cpu.error_function import erf
from thalweg.dialects.diagnostics import LoweringError

INFINITY, NAN = math.inf, math.nan


def call(w: Writer, name: str, operands: Sequence[str], element: str, lanes: int) -> str | None:
    """The SSA name of an op (`math.exp`) on operands of type `element` x lanes; None where LLVM has code for it
    (floor, sqrt…).

    Raises:
        LoweringError: neither LLVM nor this module has code for the op.
    """
    registers = [Register(w, operand, element, lanes) for operand in operands]
    function = _FUNCTIONS.get(name)
    if name in _TABLED or (function is power and element == "f64"):
        function = (function or _TABLED[name]) if avx512.available(registers[0]) else None
    if function is None or element not in ("f32", "f64"):
        if name not in _LLVM_HAS:
            raise LoweringError(
                f"the CPU backend has no code for {name} on {element}. Express it with other functions."
            )
        return None
    return function(*registers).name


@dataclass(frozen=True)
class _Format:
    """Facts about a float type."""

    mantissa: int  # explicit bits
    bias: int
    integer: str
    magic: float  # 1.5 * 2^mantissa: adding it rounds to an integer, left in the low bits
    ln2_high: float  # ln 2 in few bits, so that n * ln2_high is exact
    ln2_low: float
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 on [-ln2/2, ln2/2]
    log: tuple[float, ...]  # log((1+s)/(1-s)) / s - 2, in powers of s^2, from s^2
    exp_range: tuple[float, float]  # beyond, e^x is 0 or infinite
    tiny: float  # the smallest normal number
    sqrt_half: int  # bits of sqrt(1/2)


_F32 = _Format(
    mantissa=23,
    bias=127,
    integer="i32",
    magic=12582912.0,
    ln2_high=0.693359375,
    ln2_low=-2.12194440054690583e-4,
    exp=(0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368735201656818, 0.0013814560370519757),
    log=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    exp_range=(-104.0, 89.0),
    tiny=1.1754943508222875e-38,
    sqrt_half=0x3F3504F3,
)
_F64 = _Format(
    mantissa=52,
    bias=1023,
    integer="i64",
    magic=6755399441055744.0,
    ln2_high=6.93147180369123816490e-01,
    ln2_low=1.90821492927058770002e-10,
    exp=(
        0.5000000000000011,
        0.1666666666666641,
        0.04166666666652919,
        0.008333333333495627,
        0.0013888888943922556,
        0.00019841269504757152,
        2.4801492762837084e-05,
        2.7557587350023017e-06,
        2.7630378614888184e-07,
        2.4999962752161227e-08,
    ),
    log=(
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ),
    exp_range=(-746.0, 710.0),
    tiny=2.2250738585072014e-308,
    sqrt_half=0x3FE6A09E667F3BCD,
)


def _format(x: Register) -> _Format:
    return _F32 if x.element == "f32" else _F64


# Instructions, or functions of the C library (f64 powers).
_LLVM_HAS = {
    f"math.{name}"
    for name in (
        *("absf", "absi", "ceil", "copysign", "ctlz", "ctpop", "cttz", "floor", "fma", "log10", "log2", "powf"),
        *("roundeven", "rsqrt", "sqrt", "trunc"),
    )
}


# Exponentials.


def _split(x: Register) -> tuple[Register, Register]:
    """n (whole numbers) and r with x = n ln 2 + r, |r| <= ln2 / 2."""
    f = _format(x)
    n = (x * (1 / math.log(2)) + f.magic) - f.magic
    return n, (x - n * f.ln2_high) - n * f.ln2_low


def _reduced(x: Register) -> tuple[Register, Register]:
    """The same with n as integers."""
    f = _format(x)
    shifted = x * (1 / math.log(2)) + f.magic
    n = shifted - f.magic
    r = (x - n * f.ln2_high) - n * f.ln2_low
    bits = shifted.bits() - x.constant(f.magic).bits()
    return bits, r


def _power_of_two(n: Register, like: Register) -> Register:
    """2^n for n in the range of normal exponents."""
    f = _format(like)
    return (n + f.bias).shift_left(f.mantissa).bitcast(like.element)


def exp(x: Register) -> Register:
    """e^x = 2^n e^r: e^r by a polynomial, 2^n by writing n into an exponent, where rounding x / ln 2 has left it.

    Half of 2^n is a normal number for all results but the smallest, which are computed too large and scaled once, so
    that they round once. Masked scores are hugely negative: where the result is 0 nothing subnormal is computed,
    which processors do slowly.
    """
    f = _format(x)
    low, high = f.exp_range
    if avx512.available(x) and x.element == "f64":
        return tabled.exp64(x, low, high)
    if avx512.available(x):  # one instruction, right for the largest and smallest results
        n, r = _split((x > high).select(x.constant(high), x))
        return avx512.scaled(r.polynomial((1.0, 1.0, *f.exp)), n, x.compare("uge", low))
    vanishes = x < low
    y = vanishes.select(x.constant(0.0), x)
    rounder = f.magic + f.bias - 1
    shifted = y * (1 / math.log(2)) + rounder
    n = shifted - rounder
    r = (y - n * f.ln2_high) - n * f.ln2_low
    twice = r.polynomial((2.0, 2.0, *(2.0 * c for c in f.exp)))
    exponent = shifted.bits().shift_left(f.mantissa)
    small = y < (2 - f.bias) * math.log(2)
    lift = f.mantissa + 32
    exponent = small.select(exponent + (lift << f.mantissa), exponent)
    result = twice * exponent.bitcast(x.element)
    result = small.select(result * 2.0**-lift, result)
    return vanishes.select(x.constant(0.0), (x > high).select(x.constant(INFINITY), result))


def exp2(x: Register) -> Register:
    """2^x = 2^n 2^r, n the nearest whole number: exact for whole numbers. 2^n in two factors, of which both are
    normal numbers and the second rounds once. 2^r in powers of r, as r ln 2 would be rounded."""
    f = _format(x)
    limit = 2.0 * f.bias
    n = (x > limit).select(x.constant(limit), (x < -limit).select(x.constant(-limit), x)).math("roundeven")
    result = (x - n).polynomial([c * math.log(2) ** k for k, c in enumerate((1.0, 1.0, *f.exp))])
    if avx512.available(x):
        return avx512.scaled(result, n, x.compare("uge", -limit))
    whole = (n + f.magic).bits() - x.constant(f.magic).bits()
    half = whole.shift_right(1)
    result = result * _power_of_two(half, x) * _power_of_two(whole - half, x)
    return (x > limit).select(x.constant(INFINITY), (x < -limit).select(x.constant(0.0), result))


def expm1(x: Register) -> Register:
    """e^x - 1 without cancellation: 2^n (e^r - 1) + (2^n - 1), halved and doubled again against overflow."""
    f = _format(x)
    low = -20.0 if x.element == "f32" else -40.0
    n, r = _reduced(x.clamp(low, f.exp_range[1]))
    small = r.polynomial(f.exp) * (r * r) + r
    scale = _power_of_two(n - 1, x)
    result = (scale * small + (scale - 0.5)) * 2.0
    # n = 0: exact for small x, and the sign of zero is kept.
    return n.equals(0).select(_signed_zero(x, small), result)


def _signed_zero(x: Register, result: Register) -> Register:
    return x.equals(0.0).select(x, result)


# Logarithms.


def _log(x: Register, correction: Register | None) -> Register:
    """log(x) + correction for positive finite x: x = 2^k (1 + f), log(1 + f) by s = f / (2 + f)."""
    f = _format(x)
    subnormal = x < f.tiny
    scaled = subnormal.select(x * float(2**f.mantissa), x)
    bits = scaled.bits() + ((f.bias << f.mantissa) - f.sqrt_half)
    shift = subnormal.select(bits.constant(f.bias + f.mantissa), bits.constant(f.bias))
    k = (bits.shift_right(f.mantissa) - shift).to_float(x.element)
    m = ((bits & ((1 << f.mantissa) - 1)) + f.sqrt_half).bitcast(x.element)
    g = m - 1.0
    s = g / (g + 2.0)
    z = s * s
    half = g * g * 0.5
    low = k * f.ln2_low if correction is None else k * f.ln2_low + correction
    return k * f.ln2_high + (g - (half - (s * (half + z * z.polynomial(f.log)) + low)))


def _log_edges(x: Register, result: Register) -> Register:
    """log at 0, below 0, at infinity and at NaN."""
    result = x.equals(0.0).select(x.constant(-INFINITY), result)
    result = (x < 0.0).select(x.constant(NAN), result)
    return x.equals(INFINITY).select(x, x.is_nan().select(x, result))


def log(x: Register) -> Register:
    """The natural logarithm."""
    return tabled.log(x) if avx512.available(x) else _log_edges(x, _log(x, None))


def log1p(x: Register) -> Register:
    """log(1 + x), with the rounding error of 1 + x added back."""
    u = x + 1.0
    error = (u >= 2.0).select(1.0 - (u - x), x - (u - 1.0))
    if avx512.available(x):
        result = u.equals(0.0).select(x.constant(-INFINITY), tabled.log(u, error))
    else:
        result = _log_edges(u, _log(u, error / u))
    return x.equals(0.0).select(x, x.equals(INFINITY).select(x, result))


# Hyperbolic tangent, roots, powers, rounding.

# x P(x^2) / Q(x^2): exact where x is small, 1 at the end of the range, from where on it is within 4 units of tanh, and
# within 5 of it everywhere (all numbers tried, with fused multiply-adds).
_TANH_P = (
    1.0,
    1.302255243062973e-1,
    3.0360985547304153e-3,
    1.046750185196288e-5,
    -1.7583786871000484e-8,
    4.087358923543505e-11,
    -5.6416622675609096e-14,
)
_TANH_Q = (1.0, 4.635584354400635e-1, 2.4222761392593384e-2, 2.448661543894559e-4)
_TANH_END = 8.030060768127441


def tanh(x: Register) -> Register:
    """f32: a rational function; f64: e^2|x| - 1 over e^2|x| + 1."""
    if x.element == "f32":
        y = x.clamp(-_TANH_END, _TANH_END)
        size = abs(y)
        root = (size > 1e-9).select(size, size.constant(1e-9))  # whose powers are no subnormal numbers, which are slow
        z = root * root
        return y * z.polynomial(_TANH_P) / z.polynomial(_TANH_Q)
    t = expm1(abs(x).clamp(0.0, 22.0) * 2.0)
    return (t / (t + 2.0)).math("copysign", x)


def cbrt(x: Register) -> Register:
    """The cube root: a third of the exponent, then Halley's iteration (in f64)."""
    y = x.to_float("f64")
    size = abs(y)
    small, large = size < 1e-290, size > 1e290  # whose cubes or thirds would leave the range
    one = y.constant(1.0)
    scale = small.select(y.constant(2.0**108), large.select(y.constant(2.0**-108), one))
    unscale = small.select(y.constant(2.0**-36), large.select(y.constant(2.0**36), one))
    size = size * scale
    bits = size.bits()
    third = bits.w.op(f"arith.divsi {bits.name}, {bits.constant(3).name} : {bits.type}")
    guess = (Register(x.w, third, "i64", x.lanes) + 0x2A9F7893782DA1CE).bitcast("f64")
    for _ in range(2 if x.element == "f32" else 3):
        cube = guess * guess * guess
        guess = guess * ((size * 2.0 + cube) / (size + cube * 2.0))
    guess = (guess * unscale).math("copysign", y)
    plain = y.equals(0.0).select(y, (abs(y) < INFINITY).select(guess, y))
    return plain.to_float(x.element)


def power(x: Register, y: Register) -> Register:
    """x^y with the signs and edges of C's pow; for f32 as exp(y log |x|) in f64."""
    if x.element == "f64":
        result = tabled.power64(abs(x), y, *_F64.exp_range)
    else:
        result = exp(y.to_float("f64") * log(abs(x).to_float("f64"))).to_float("f32")
    whole = y.math("floor").equals(y)
    half = y * 0.5
    odd = whole & (half.math("floor").equals(half) ^ 1)
    negative = x.bits() < 0
    result = (negative & odd).select(-result, result)
    undefined = (x < 0.0) & (x > -INFINITY) & (whole ^ 1)
    result = undefined.select(x.constant(NAN), result)
    one = x.constant(1.0)
    certain = x.equals(1.0) | y.equals(0.0) | (abs(x).equals(1.0) & abs(y).equals(INFINITY))
    return certain.select(one, result)


def round_away(x: Register) -> Register:
    """To the nearest integer, halves away from zero."""
    whole = x.math("trunc")
    step = x.constant(1.0).math("copysign", x)
    return (abs(x - whole) >= 0.5).select(whole + step, whole)


_FUNCTIONS: dict[str, Callable[..., Register]] = {
    "math.exp": exp,
    "math.exp2": exp2,
    "math.expm1": expm1,
    "math.log": log,
    "math.log1p": log1p,
    "math.tanh": tanh,
    "math.cbrt": cbrt,
    "math.round": round_away,
    "math.sin": trigonometry.sin,
    "math.cos": trigonometry.cos,
    "math.tan": trigonometry.tan,
    "math.atan": trigonometry.atan,
    "math.atan2": trigonometry.atan2,
    "math.asin": trigonometry.asin,
    "math.acos": trigonometry.acos,
    "math.erf": lambda x: erf(x, exp),
    "math.powf": power,
}
_TABLED: dict[str, Callable[..., Register]] = {"math.sqrt": roots.sqrt, "math.rsqrt": roots.rsqrt}

# Ops of the `tw` dialect, with the element types, that are better computed here than by what StableHLO has: what
# `lower_module` may keep.
OWN_FUNCTIONS = frozenset(
    [("erf", "f64"), ("atan", "f64"), *((name, e) for name in ("asin", "acos", "exp2") for e in ("f32", "f64"))]
)
