"""Square roots by Newton's iteration, where there is AVX-512: the processor's own take two to three times as long."""

from __future__ import annotations

from thalweg.backends.cpu.emit import avx512
from thalweg.backends.cpu.emit.formula import Register


def sqrt(x: Register) -> Register:
    """The square root, rounded once: of the mantissa, since no residue may be subnormal."""
    m = avx512.mantissa(x, avx512.EVEN)
    root, half = _roots(m)
    root = root.times_plus(-root, m).times_plus(half, root)
    # The mantissa took an even number from the exponent: its half is this, rounded down, as `scaled` does.
    result = avx512.scaled(root, avx512.exponent(x).times_plus(0.5, 0.5), x.compare("ueq", x))
    return x.equals(0.0).select(x, (x < 0.0).select(root, result))


def rsqrt(x: Register) -> Register:
    """1 / sqrt(x), within two units."""
    m = avx512.mantissa(x, avx512.EVEN)
    root, half = _roots(m)
    half = root.times_plus(-half, 0.5).times_plus(half, half)
    result = avx512.scaled(half + half, avx512.exponent(x) * -0.5, x.compare("ueq", x))
    return x.equals(0.0).select(x.constant(float("inf")).math("copysign", x), (x < 0.0).select(half, result))


def _roots(m: Register) -> tuple[Register, Register]:
    """sqrt(m) and 1 / (2 sqrt(m)) within about a unit."""
    guess = avx512.reciprocal_root(m)
    root, half = m * guess, guess * 0.5
    for _ in range(1 if m.element == "f32" else 2):
        rest = root.times_plus(-half, 0.5)
        root, half = root.times_plus(rest, root), half.times_plus(rest, half)
    return root, half
