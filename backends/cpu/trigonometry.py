"""Sine, cosine, tangent and arc tangents as vector code, for f32 and f64."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from thalweg.backends.cpu.emit import avx512
from thalweg.backends.cpu.emit.formula import Register
from thalweg.backends.cpu.emit.scoped import ScopedWriter

_SIN32 = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
_COS32 = (4.166664568298827e-002, -1.388731625493765e-003, 2.443315711809948e-005)
_SIN64 = (
    -1.66666666666666307295e-1,
    8.33333333332211858878e-3,
    -1.98412698295895385996e-4,
    2.75573136213857245213e-6,
    -2.50507477628578072866e-8,
    1.58962301576546568060e-10,
)
_COS64 = (
    4.16666666666665929218e-2,
    -1.38888888888730564116e-3,
    2.48015872888517045348e-5,
    -2.75573141792967388112e-7,
    2.08757008419747316778e-9,
    -1.13585365213876817300e-11,
)
# pi / 2 in parts of 33, 33 and 53 bits: n times the first two is exact for n < 2^20.
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_HALF_PI_LOW = 6.123233995736766036e-17  # pi / 2 less the nearest f64
_MAGIC = {"f32": 12582912.0, "f64": 6755399441055744.0}  # adding it rounds to an integer, left in the low bits
_FAST = {"f32": 1e5, "f64": float(2**20)}  # where the quick reduction is exact enough

# With fused multiply-adds: pi / 2 in three floats, of which n times the first is taken from x without rounding.
_FUSED_HALF_PI = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# (tan(r) / r - 1) / r^2 in powers of r^2, on [-pi/4, pi/4].
_TAN32 = (
    0.33333128690719604,
    0.13339538872241974,
    0.05334935709834099,
    0.024653296917676926,
    0.0027589111123234034,
    0.009600681252777576,
)

# For large arguments 2 / pi is needed to many bits. An f64 is an integer of 53 bits times a power of two; what the
# leading bits of 2 / pi contribute to a large multiple of 4 quadrants does not matter, so that products with short
# pieces of 2 / pi can be reduced one by one.
_PIECE_BITS = 26
_SCALE = 2**192  # the pieces are kept times this, and the argument divided by it: the last ones would be subnormal


def _two_over_pi() -> Fraction:
    """2 / pi by Machin's formula in integers."""
    scale = 1 << 1300

    def arctan_inverse(x: int) -> int:
        total = term = scale // x
        k, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // k)
            k, sign = k + 2, -sign
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return Fraction(2 * scale, pi)


@cache
def _pieces(bits: int) -> tuple[float, ...]:
    """2 / pi, times `_SCALE`, as a sum of floats of `_PIECE_BITS` bits each, down to 2^-bits."""
    rest = _two_over_pi()
    found: list[float] = []
    for k in range(1, -(-bits // _PIECE_BITS) + 1):
        unit = Fraction(1, 1 << (_PIECE_BITS * k))
        digits = rest // unit
        rest -= digits * unit
        found.append(float(digits * unit * _SCALE))
    return tuple(found)


def _quadrants(x: Register) -> tuple[Register, Register, Register]:
    """The number n of the nearest multiple of pi/2 (i64, modulo 4) and r + low = x - n pi/2 (f64), for |x| up to
    `_FAST`.
    """
    shifted = x * (2 / math.pi) + _MAGIC["f64"]
    n = shifted - _MAGIC["f64"]
    first, second, third = _HALF_PI
    r = x - n * first
    head = r - n * second
    low = (r - head) - n * second - n * third
    total = head + low
    return shifted.bits() & 3, total, low - (total - head)


def _large_quadrants(x: Register, bits: int) -> tuple[Register, Register, Register]:
    """`_quadrants` of any finite f64, with 2 / pi to `bits` bits: a loop over its pieces, each product taken modulo
    4.
    """
    w = x.w
    assert isinstance(w, ScopedWriter)
    pieces = _pieces(bits)
    table = ", ".join(f"{piece:.17e}" for piece in pieces)
    kind = f"vector<{len(pieces)}xf64>"
    constants = w.hoisted(f"arith.constant dense<[{table}]> : {kind}", "pieces")
    x = x * float(1 / _SCALE)
    high = (x.bits() & ~((1 << 27) - 1)).bitcast("f64")
    halves = (high, x - high)
    zero = x.constant(0.0)
    with w.reduction(0, len(pieces), 1, [zero.name] * 2, [zero.type] * 2) as loop:
        turns, tail = (Register(w, name, "f64", x.lanes) for name in loop.carried)
        scalar = w.op(f"vector.extract {constants}[{loop.index}] : f64 from {kind}")
        piece = scalar if x.lanes == 1 else w.op(f"vector.broadcast {scalar} : f64 to {x.type}")
        for half in halves:
            product = half * Register(w, piece, "f64", x.lanes)  # exact: 26 or 27 bits times 26
            product = product - (product * 0.25).math("roundeven") * 4.0
            total = turns + product
            added = total - turns
            tail = tail + ((turns - (total - added)) + (product - added))
            turns = total - (total * 0.25).math("roundeven") * 4.0
        loop.next = [turns.name, tail.name]
    turns, tail = (Register(w, name, "f64", x.lanes) for name in loop.results)
    shifted = turns + _MAGIC["f64"]
    head = turns - (shifted - _MAGIC["f64"])
    fraction = head + tail
    rest = tail - (fraction - head)
    r = fraction * (math.pi / 2)
    low = fraction * _HALF_PI_LOW + rest * (math.pi / 2)
    if x.fuses:
        low = low + fraction.times_plus(math.pi / 2, -r)
    return shifted.bits() & 3, r, low


def _fused_quadrants(x: Register) -> tuple[Register, Register]:
    """`_quadrants` by fused multiply-adds, with one float of x's type for the remainder."""
    magic, parts = _MAGIC[x.element], _FUSED_HALF_PI[x.element]
    shifted = x.times_plus(2 / math.pi, magic)
    n = shifted - magic
    for part in parts:
        x = n.times_plus(-part, x)
    return shifted.bits(), x


def _reduce(x: Register) -> tuple[Register, Register, Register | None]:
    """Quadrant (integers, of which the last two bits count), remainder, and what that lacks, if anything, of numbers
    that are not negative; the remainder of infinity is NaN. The slow way only where a lane is large.
    """
    w = x.w
    assert isinstance(w, ScopedWriter)
    quick: tuple[Register, ...]
    if x.fuses:
        quick, limit = _fused_quadrants(x), _FAST[x.element]
    else:
        quick, limit = _quadrants(x.to_float("f64")), _FAST["f64"]
        if x.element == "f32":
            quick = (quick[0].to_integer("i32"), quick[1].to_float("f32"))
    large = x > limit
    any_large = large.name
    if x.lanes > 1:
        any_large = w.op(f"vector.reduction <or>, {large.name} : {large.type} into i1")
    kinds = ", ".join(register.type for register in quick)
    base = w.fresh("quadrant")
    with w.scope(f"{base}:{len(quick)} = scf.if {any_large} -> ({kinds})", fence=True):
        bits = 128 + 128 if x.element == "f32" else 1024 + 192
        number, head, low = _large_quadrants(x.to_float("f64"), bits)
        exact = [number.to_integer(quick[0].element), head, low]
        if len(quick) == 2:
            exact = [exact[0], (head + low).to_float(x.element)]
        chosen = [large.select(a, b) for a, b in zip(exact, quick, strict=True)]
        w.emit(f"scf.yield {', '.join(register.name for register in chosen)} : {kinds}")
    with w.scope("else", fence=True):
        w.emit(f"scf.yield {', '.join(register.name for register in quick)} : {kinds}")
    w.define(base)
    found = [Register(w, f"{base}#{k}", r.element, x.lanes) for k, r in enumerate(quick)]
    return found[0], found[1], found[2] if len(found) == 3 else None


def _sin_cos(x: Register) -> tuple[Register, Register, Register]:
    """Quadrant, and sine and cosine of the remainder."""
    n, r, low = _reduce(x)
    z = r * r
    if x.element == "f32":
        return n, z.polynomial(_SIN32) * z * r + r, z.polynomial((1.0, -0.5, *_COS32))
    if low is None:
        return n, z.polynomial(_SIN64) * z * r + r, z.polynomial((1.0, -0.5, *_COS64))
    sine = r + (z.polynomial(_SIN64) * z * r + low)
    half = z * 0.5
    near_one = 1.0 - half
    cosine = near_one + (((1.0 - near_one) - half) + (z.polynomial(_COS64) * (z * z) - r * low))
    return n, sine, cosine


def _bit(n: Register, bit: int) -> Register:
    return (n & bit).equals(bit)


def _turned(n: Register, value: Register, sign: Register | None = None) -> Register:
    """`value`, negated where the second bit of n is set, and where `sign` is negative."""
    width = int(value.element[1:])
    flip = n.shift_left(width - 2)
    if sign is not None:
        flip = flip ^ sign.bits()
    return (value.bits() ^ (flip & -(1 << (width - 1)))).bitcast(value.element)


def sin(x: Register) -> Register:
    """The sine; NaN at infinities."""
    n, sine, cosine = _sin_cos(abs(x))
    return _turned(n, _bit(n, 1).select(cosine, sine), x)


def cos(x: Register) -> Register:
    """The cosine; NaN at infinities."""
    n, sine, cosine = _sin_cos(abs(x))
    return _turned(n + 1, _bit(n, 1).select(sine, cosine))


def tan(x: Register) -> Register:
    """The tangent; NaN at infinities. It is negated from quadrant to quadrant."""
    if x.element == "f32":
        n, r, _ = _reduce(abs(x))
        z = r * r
        tangent, one = z.polynomial(_TAN32) * z * r + r, x.constant(1.0)
        odd = _bit(n, 1)
        value = odd.select(one, tangent) / odd.select(tangent, one)
    else:
        n, sine, cosine = _sin_cos(abs(x))
        odd = _bit(n, 1)
        value = odd.select(cosine, sine) / odd.select(sine, cosine)
    return _turned(n + n, value, x)


# Arc tangents.

_WHOLE64 = 1.5 * 2**52  # adding it rounds to a whole number, left in the low bits
# (atan(t) / t - 1) / t^2 in powers of t^2, on [0, 1]: longer than on a part of it, without a second division.
_ATAN32 = (
    -0.33333298563957214,
    0.1999852955341339,
    -0.14264042675495148,
    0.1095128059387207,
    -0.08401568233966827,
    0.05794188007712364,
    -0.031178545206785202,
    0.010922207497060299,
    -0.0017963805003091693,
)
_ATAN64_P = (
    -6.485021904942025371773e1,
    -1.228866684490136173410e2,
    -7.500855792314704667340e1,
    -1.615753718733365076637e1,
    -8.750608600031904122785e-1,
)
_ATAN64_Q = (
    1.945506571482613964425e2,
    4.853903996359136964868e2,
    4.328810604912902668951e2,
    1.650270098316988542046e2,
    2.485846490142306297962e1,
    1.0,
)


def _atan_unit(t: Register) -> Register:
    """The arc tangent of t in [0, 1]."""
    if t.element == "f32":
        z = t * t
        return z.polynomial(_ATAN32) * z * t + t
    large = t > 0.66
    u = large.select((t - 1.0) / (t + 1.0), t)
    z = u * u
    small = z * z.polynomial(_ATAN64_P) / z.polynomial(_ATAN64_Q) * u + u
    small = small + large.select(t.constant(3.061616997868383e-17), t.constant(0.0))
    return large.select(small + math.pi / 4, small)


_WHOLE64 = 1.5 * 2**52  # adding it rounds to a whole number, left in the low bits
# (atan(t) / t - 1) / t^2 in powers of t^2, t below 1/29.
_ATAN64 = (
    -0.3333333333333333,
    0.19999999999999998,
    -0.14285714285708837,
    0.11111111091554247,
    -0.09090877361615682,
    0.07668573186668246,
)
_ANGLES = tuple(math.atan(k / 16) for k in range(16))


def _atan_tabled(small: Register, large: Register) -> Register:
    """The arc tangent of small / large in [0, 1] (or NaN), f64: atan(c) is looked up for the nearest c = k/16, and
    the rest is the arc tangent of (small - c large) / (large + c small)."""
    near = (small * avx512.reciprocal(large)).clamp(0.0, 15 / 16).times_plus(16.0, _WHOLE64)
    c = (near - _WHOLE64) * (1 / 16)
    t = c.times_plus(-large, small) / c.times_plus(small, large)
    z = t * t
    return avx512.lookup(_ANGLES, near.bits(), "f64") + (z * z.polynomial(_ATAN64)).times_plus(t, t)


def atan(x: Register) -> Register:
    """The arc tangent."""
    size = abs(x)
    if x.element == "f64" and avx512.available(x):
        one, steep = x.constant(1.0), size > 1.0
        angle = _atan_tabled(steep.select(one, size), steep.select(size, one))
        angle = size.equals(math.inf).select(x.constant(0.0), angle)
        return steep.select(_right_angle_less(angle), angle).math("copysign", x)
    inverted = size > 1.0
    angle = _atan_unit(inverted.select(1.0 / size, size))
    angle = inverted.select(math.pi / 2 - angle, angle)
    return angle.math("copysign", x)


def atan2(y: Register, x: Register) -> Register:
    """The angle of the point (x, y), with C's edges: zeros by their signs, infinities as limits."""
    up, right = abs(y), abs(x)
    steep = up > right
    large, small = steep.select(up, right), steep.select(right, up)
    ratio = small / large
    ratio = large.equals(0.0).select(large, small.equals(math.inf).select(x.constant(1.0), ratio))
    angle = _atan_unit(ratio)
    angle = steep.select(math.pi / 2 - angle, angle)
    angle = (x.bits() < 0).select(math.pi - angle, angle)
    return (x.is_nan() | y.is_nan()).select(x + y, angle.math("copysign", y))


# (asin(s) / s - 1) / s^2 in powers of s^2, s below 1/2.
_ASIN32 = (
    0.16666666337430908,
    0.07500094543497424,
    0.04459940152851218,
    0.03110066273549457,
    0.017149238357677253,
    0.03369084720283012,
)
_ASIN64 = (
    0.16666666666666669,
    0.07499999999998433,
    0.04464285714635543,
    0.030381944138531247,
    0.02237217294214989,
    0.017352392720869973,
    0.013971212973552933,
    0.011479177415184906,
    0.01032281435018578,
    0.005457506718640358,
    0.01740087944269402,
    -0.014851887071247204,
    0.028757851367421566,
)


def _asin_half(x: Register) -> tuple[Register, Register]:
    """Whether |x| is above 1/2, and the arc sine of sqrt((1 - |x|) / 2) where it is, of |x| elsewhere: both are below
    1/2, and asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)).
    """
    size = abs(x)
    large = size > 0.5
    z = large.select((1.0 - size) * 0.5, size * size)
    s = large.select(z.math("sqrt"), size)
    return large, (z * z.polynomial(_ASIN32 if x.element == "f32" else _ASIN64)) * s + s


_RIGHT_ANGLE = {"f32": (1.57079637050628662109, -4.37113900018624283e-8), "f64": (math.pi / 2, 6.123233995736766e-17)}


def _right_angle_less(angle: Register) -> Register:
    high, low = _RIGHT_ANGLE[angle.element]
    return high - (angle - low)


def asin(x: Register) -> Register:
    """The arc sine; NaN outside [-1, 1]."""
    large, angle = _asin_half(x)
    return large.select(_right_angle_less(angle * 2.0), angle).math("copysign", x)


def acos(x: Register) -> Register:
    """The arc cosine; NaN outside [-1, 1]."""
    large, angle = _asin_half(x)
    twice = angle * 2.0
    turned = (x < 0.0).select(_right_angle_less(angle) * 2.0, twice)
    return large.select(turned, _right_angle_less(angle.math("copysign", x)))
