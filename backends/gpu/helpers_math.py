"""Mathematical functions that Triton's language lacks, as text (helpers.py). Those of angles and powers compute in f64,
for f32 as well: they are rare, and then right to the last place."""

from __future__ import annotations

MATH = {
    "popcount": '''@triton.jit
def popcount(x):
    """How many bits are set: added up in fields of 2, 4, 8 bits, then all of them by a product."""
    bits: tl.constexpr = x.dtype.primitive_bitwidth
    if bits == 64:
        found = _fold(x & 0xFFFFFFFF) + _fold((x >> 32) & 0xFFFFFFFF)
    elif bits == 32:
        found = _fold(x)
    else:
        found = _fold(x.to(tl.int32) & ((1 << bits) - 1))
    return found.to(x.dtype)
''',
    "tan": '''@triton.jit
def tan(x):
    return tl.sin(x) / tl.cos(x)
''',
    "cbrt": '''@triton.jit
def cbrt(x):
    """The cube root: by logarithms, then a step of Newton's."""
    a = tl.abs(x)
    regular = (a > 0.0) & (a < float("inf"))
    r = tl.exp2(tl.log2(tl.where(regular, a, 1.0)) * 0.3333333333333333)
    r = r - (r * r * r - a) / (3.0 * r * r)
    r = tl.where(regular, r, a)
    return tl.where(x < 0.0, -r, r)
''',
    "atan": '''@triton.jit
def atan(x):
    """Of a number that is not negative: a polynomial near 0, after one of four reductions."""
    near = x < 0.4375
    first = x < 0.6875
    second = x < 1.1875
    third = x < 2.4375
    base = tl.where(third, tl.full([], 0.98279372324732906799, tl.float64), 1.5707963267948966192)
    base = tl.where(second, 0.78539816339744830962, base)
    base = tl.where(first, 0.46364760900080611621, base)
    rest = tl.where(third, tl.full([], 1.3903311031230998e-17, tl.float64), 6.1232339957367660e-17)
    rest = tl.where(second, 3.0616169978683830e-17, rest)
    rest = tl.where(first, 2.2698777452961687e-17, rest)
    a = tl.where(first, 2.0 * x - 1.0, tl.where(second, x - 1.0, tl.where(third, x - 1.5, -1.0)))
    b = tl.where(first, 2.0 + x, tl.where(second, x + 1.0, tl.where(third, 1.0 + 1.5 * x, x)))
    t = tl.where(near, x, a / b)
    z = t * t
    p = 1.62858201153657823623e-02 * z - 3.65315727442169155270e-02
    p = p * z + 4.97687799461593236017e-02
    p = p * z - 5.83357013379057348645e-02
    p = p * z + 6.66107313738753120669e-02
    p = p * z - 7.69187620504482999495e-02
    p = p * z + 9.09088713343650656196e-02
    p = p * z - 1.11111104054623557880e-01
    p = p * z + 1.42857142725034663711e-01
    p = p * z - 1.99999999998764832476e-01
    p = p * z + 3.33333333333329318027e-01
    small = t - t * (p * z)
    return tl.where(near, small, base - ((t * (p * z) - rest) - t))
''',
    "atan2": '''@triton.jit
def atan2(y, x):
    """The angle of a point: that of the steeper quotient, turned into its octant."""
    a, b = tl.abs(y), tl.abs(x)
    both = (a == float("inf")) & (b == float("inf"))
    origin = (a == 0.0) & (b == 0.0)
    angle = atan(tl.where(both, 1.0, a / tl.where(origin, 1.0, b)))
    left = x.to(tl.int64, bitcast=True) < 0
    angle = tl.where(left, (3.14159265358979323846 - angle) + 1.2246467991473532e-16, angle)
    below = y.to(tl.int64, bitcast=True) < 0
    angle = tl.where(below, -angle, angle)
    return tl.where((x != x) | (y != y), float("nan"), angle)
''',
    "power": '''@triton.jit
def power(x, y):
    """x to the y: exp(y * log(x)), with the digits that the logarithm's rounding loses."""
    a = tl.abs(x)
    high = tl.log(a)
    regular = (tl.abs(high) > 1.0) & (tl.abs(high) < float("inf"))
    e = tl.exp(tl.where(regular, high, 1.0))
    low = tl.where(regular, (a - e) / e, 0.0)
    p = y * high
    q = tl.fma(y, high, -p) + y * low
    finite = tl.abs(p) < float("inf")
    size = tl.exp(p)
    size = tl.where(finite & (size < float("inf")), size + size * tl.where(finite, q, 0.0), size)
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(y * 0.5) != y * 0.5)
    negative = x.to(tl.int64, bitcast=True) < 0
    signed = tl.where(negative & odd, -size, size)
    signed = tl.where((x < 0.0) & (a < float("inf")) & (tl.abs(y) < float("inf")) & (whole == 0), float("nan"), signed)
    signed = tl.where((a == 1.0) & (tl.abs(y) == float("inf")), 1.0, signed)
    return tl.where((y == 0.0) | (x == 1.0), 1.0, signed)
''',
    "_fold": '''@triton.jit
def _fold(x):
    """How many of 32 bits are set."""
    x = x.to(tl.uint32)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24) & 0xFF
''',
}  # fmt: skip

MATH_NEEDS = {"popcount": ("_fold",), "atan2": ("atan",)}
