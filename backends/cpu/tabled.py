"""Exponentials and logarithms with instructions of AVX-512, which take floats apart and look numbers up in tables.

Arguments are such that `avx512.available`. Infinities, NaN, zeros and subnormal numbers are right.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

from thalweg.backends.cpu.emit import avx512
from thalweg.backends.cpu.emit.formula import Register

# f64 exponentials: x = n ln 2 + r, n a multiple of 1/16 and |r| <= ln 2 / 32.
_SIXTEENTHS = 1.5 * 2**48  # adding it rounds to a multiple of 1/16, left in the low bits
_POWERS = tuple(2.0 ** (k / 16) for k in range(16))
_POWER_RESTS = tuple(float(Decimal(2) ** (Decimal(k) / 16) / Decimal(p) - 1) for k, p in enumerate(_POWERS))  # relative
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # the first in few bits
# (e^r - 1 - r) / r^2 on [-ln 2 / 32, ln 2 / 32], to 2^-56 of e^r.
_EXP = (0.499999999999996, 0.16666666664408866, 0.0416666666935206, 0.008333472201001302, 0.0013888590255883768)

# (log(1 + r) - r) / r^2: on [-1/4, 1/2] to 2^-27 of log(1 + r), and on [-0.0475, 0.0475] to 2^-56.
_LOG32 = (
    -0.500000008227304,
    0.3333345444261305,
    -0.2500005457565785,
    0.19990606760388205,
    -0.16647767249112166,
    0.14482061662137605,
    -0.1316223163617935,
    0.10448330210802217,
    -0.0449096008700256,
)
_LOG64 = (
    -0.5,
    0.3333333333331681,
    -0.24999999999963599,
    0.2000000007113183,
    -0.16666666767817226,
    0.14285619124310955,
    -0.12499890845491203,
    0.11161258518936078,
    -0.10050373963386335,
)
# (log(1 + r) - r + r^2 / 2) / r^3 on [-0.0476, 0.0476], to 2^-69 of log(1 + r) beside 1.
_LOG64_CUBES = (
    0.3333333333333333,
    -0.25,
    0.19999999999980106,
    -0.16666666666648192,
    0.14285714355943124,
    -0.1250000006521542,
    0.11111024362685952,
    -0.09999919444628119,
    0.09134620810556812,
    -0.08373924034651559,
)


def exp64(x: Register, low: float, high: float, more: Register | None = None) -> Register:
    """e^x = 2^n (1 + r + …): fractions of n from a table of twice the digits; 0 below `low`, infinite above `high`.
    e^(x + more) where there is more, small beside 1."""
    y = (x > high).select(x.constant(high), x)
    shifted = y.times_plus(1 / math.log(2), _SIXTEENTHS)
    n = shifted - _SIXTEENTHS
    r = n.times_plus(-_LN2[1], n.times_plus(-_LN2[0], y))
    if more is not None:
        r = r + more
    power, rest = (avx512.lookup(table, shifted.bits(), "f64") for table in (_POWERS, _POWER_RESTS))
    rise = (r * r).times_plus(r.polynomial(_EXP), r + rest)
    return avx512.scaled(power.times_plus(rise, power), n, x.compare("uge", low))


def log(x: Register, correction: Register | None = None) -> Register:
    """log(x), or log(x + correction) where that is small beside x; x = 2^k m with m in [3/4, 3/2)."""
    m = avx512.mantissa(x)
    k = avx512.exponent(x) - avx512.exponent(m)
    if x.element == "f32":
        r = m - 1.0
        if correction is not None:
            r = r + avx512.scaled(correction, -k, correction.equals(correction))
        return k.times_plus(math.log(2), (r * r).times_plus(r.polynomial(_LOG32), r))
    c, r, head, tail = _near_sixteenth(m, k)
    if correction is not None:
        r = r + avx512.scaled(correction, -k, correction.equals(correction)) * c
    return head + r + (r * r).times_plus(r.polynomial(_LOG64), tail)


def _near_sixteenth(m: Register, k: Register) -> tuple[Register, ...]:
    """c, r, head and tail with m = (1 + r) / c and log(2^k / c) = head + tail, for f64; c, r and head are exact. 1/m is
    near a multiple c of 1/16, of eleven."""
    shifted = avx512.reciprocal(m) + _SIXTEENTHS
    c = shifted - _SIXTEENTHS
    high, low = (avx512.lookup(table, shifted.bits(), "f64") for table in _LOGS)
    return c, m.times_plus(c, -1.0), k.times_plus(_LN2[0], high), k.times_plus(_LN2[1], low)


def power64(x: Register, y: Register, low: float, high: float) -> Register:
    """x^y = e^(y log x) for x >= 0 (f64), from a logarithm of more digits than a register has."""
    m = avx512.mantissa(x)
    k = avx512.exponent(x) - avx512.exponent(m)
    _, r, head, tail = _near_sixteenth(m, k)
    half = r * 0.5
    square = r * half
    first = head + r
    second = first - square
    cubes = (r * r * r) * r.polynomial(_LOG64_CUBES)
    rest = ((r - (first - head)) + ((first - second) - square)) + ((tail - r.times_plus(half, -square)) + cubes)
    log_ = (abs(second) < math.inf).select(second + rest, second)
    rest = rest - (log_ - second)
    product = y * log_
    more = log_.times_plus(y, -product) + y * rest
    return exp64(product, low, high, (abs(product) < -low).select(more, more.constant(0.0)))


def _logs() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """-log(c) for c = k/16, k = 11 … 21, at k modulo 16: in few bits, and the rest."""
    high, low = [0.0] * 16, [0.0] * 16
    for k in range(11, 22):
        exact = -_log_fraction(Fraction(k, 16))
        head = Fraction(round(exact * 2**40), 2**40)
        high[k % 16], low[k % 16] = float(head), float(exact - head)
    return tuple(high), tuple(low)


def _log_fraction(x: Fraction) -> Fraction:
    """The logarithm of a number near 1 to 140 bits: 2 artanh((x - 1) / (x + 1))."""
    s = (x - 1) / (x + 1)
    return 2 * sum((s**k / k for k in range(1, 60, 2)), Fraction())


_LOGS = _logs()
